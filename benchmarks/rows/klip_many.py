"""KLIP with a library of references."""

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, relative_error
from benchmarks.rows import klip


def reference(data: Arrays) -> Arrays:
    references, science = klip.rows_of(data["references"]), klip.rows_of(data["science"])
    modes = klip.leading_modes(references, int(data["modes"]))
    return klip.shaped(data, science - (science @ modes.T) @ modes)


def floor(data: Arrays) -> Call:
    """Half of the Gram matrix, and of its eigenvectors those that are used."""
    from scipy.linalg import eigh
    from scipy.linalg.blas import dsyrk

    def call() -> Arrays:
        references, science = klip.rows_of(data["references"]), klip.rows_of(data["science"])
        count, gram = len(references), dsyrk(1.0, references.T, trans=1)
        leading = (count - int(data["modes"]), count - 1)
        values, vectors = eigh(gram, lower=False, overwrite_a=True, check_finite=False, subset_by_index=leading)
        weights = ((science @ references.T) @ vectors / values) @ vectors.T
        return klip.shaped(data, science - weights @ references)

    return call


ROW = Row(
    title="KLIP, many references",
    work="{n_references} references, {n_science} integrations of {size} x {size} pixels, {modes} modes, float64, no "
    "error image. jwst is left out: it takes more than five minutes.",
    sizes={
        "full": {"n_science": 10, "n_references": 1000, "size": 320, "modes": 50},
        "quick": {"n_science": 10, "n_references": 400, "size": 120, "modes": 50},
        "tiny": {"n_science": 2, "n_references": 20, "size": 40, "modes": 4},
    },
    arrays=klip.arrays,
    reference=reference,
    error=relative_error("residual"),
    unit="error of residual, relative",
    subjects=(
        Subject("coronjax", klip.ours("float64", error=False), packages=("jax", "jaxlib"), repeats=3),
        Subject("numpy, BLAS `dsyrk`, LAPACK", floor, packages=("numpy", "scipy"), repeats=3),
        Subject("VIP `svd_wrapper(eigen)`", klip.vip, "vip", ("vip_hci", "numpy", "scipy"), repeats=1),
        Subject("pyklip `klip_math`", klip.pyklip, "pyklip", ("pyklip", "numpy", "scipy"), repeats=1),
    ),
    limits=(Limit("coronjax", "numpy, BLAS `dsyrk`, LAPACK", 2.5),),
)
