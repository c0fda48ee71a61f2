"""KLIP with the error image that the official pipeline makes too."""

from benchmarks.harness import Limit, Row, Subject, relative_error
from benchmarks.rows import klip

ROW = Row(
    title="KLIP with error image",
    work="The same, {n_science} integrations, {n_references} references, {size} x {size} pixels, {modes} modes, and "
    "the standard deviation over what the modes leave of the references, whose error is the one shown.",
    sizes=klip.SIZES,
    arrays=klip.arrays,
    reference=klip.reference,
    error=relative_error("error"),
    unit="error of error image, relative",
    subjects=(
        Subject("coronjax", klip.ours("float64", error=True), packages=("jax", "jaxlib")),
        Subject("coronjax, float32", klip.ours("float32", error=True), packages=("jax", "jaxlib")),
        Subject("numpy, LAPACK", klip.floor(error=True)),
        Subject("jwst `coron.klip`", klip.jwst, "official", ("jwst", "numpy"), repeats=2),
    ),
    limits=(Limit("coronjax", "numpy, LAPACK", 2.0),),
)
