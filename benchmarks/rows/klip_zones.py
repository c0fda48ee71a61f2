"""KLIP in annuli, each subtracted on its own."""

from collections.abc import Callable

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, relative_error
from benchmarks.rows import klip


def arrays(rng: np.random.Generator, annuli: int, **numbers: int) -> Arrays:
    data = klip.arrays(rng, **numbers)
    size = numbers["size"]
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    edges = np.linspace(size / 80, size / 2, annuli + 1)
    radius = np.hypot(rows, columns)
    return {**data, "zones": (radius >= edges[:-1, None, None]) & (radius < edges[1:, None, None])}


def by_annulus(data: Arrays, one: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Arrays:
    """Call `one(science, references)` with the pixels of each annulus, float64; lay out what it returns."""
    residual = np.full(data["science"].shape, np.nan)
    for zone in data["zones"]:
        residual[:, zone] = one(data["science"][:, zone].astype(float), data["references"][:, zone].astype(float))
    return {"residual": residual}


def reference(data: Arrays) -> Arrays:
    def one(science: np.ndarray, references: np.ndarray) -> np.ndarray:
        aims = klip.rows_of(science)
        modes = klip.leading_modes(klip.rows_of(references), int(data["modes"]))
        return aims - (aims @ modes.T) @ modes

    return by_annulus(data, one)


def ours(data: Arrays) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    from coronjax import ops
    from coronjax.options import Klip

    @jax.jit
    def compiled(science: jax.Array, references: jax.Array, modes: jax.Array, zones: jax.Array) -> jax.Array:
        given = science.astype(float), references.astype(float)
        return ops.klip(*given, options=Klip(truncate=modes), zones=zones, error=False).residual

    given = jax.device_put([data[name] for name in ("science", "references", "modes", "zones")])
    return lambda: {"residual": np.asarray(compiled(*given))}


def floor(data: Arrays) -> Call:
    def one(science: np.ndarray, references: np.ndarray) -> np.ndarray:
        references -= references.mean(1, keepdims=True)
        science -= science.mean(1, keepdims=True)
        values, vectors = np.linalg.eigh(references @ references.T)
        values, vectors = values[-int(data["modes"]) :], vectors[:, -int(data["modes"]) :]
        return science - (((science @ references.T) @ vectors / values) @ vectors.T) @ references

    return lambda: by_annulus(data, one)


def pyklip(data: Arrays) -> Call:
    from pyklip.klip import klip_math

    modes = np.array([int(data["modes"])])

    def one(science: np.ndarray, references: np.ndarray) -> np.ndarray:
        covariance = np.cov(references - np.nanmean(references, axis=1, keepdims=True))
        return np.stack([klip_math(s, references, modes, covar_psfs=covariance)[:, 0] for s in science])

    return lambda: by_annulus(data, one)


def vip(data: Arrays) -> Call:
    from vip_hci.psfsub.svd import svd_wrapper

    def one(science: np.ndarray, references: np.ndarray) -> np.ndarray:
        aims = klip.rows_of(science)
        modes = svd_wrapper(klip.rows_of(references), "eigen", int(data["modes"]), verbose=False)
        return aims - (aims @ modes.T) @ modes

    return lambda: by_annulus(data, one)


ROW = Row(
    title="KLIP in annuli",
    work="{annuli} annuli, each with modes of its own; {n_science} integrations of {size} x {size} pixels, "
    "{n_references} references, {modes} modes, float64, no error image. pyklip and VIP are called for "
    "each annulus with what all integrations share; their own annular programs decompose again for every integration.",
    sizes={name: {"annuli": 4 if name == "tiny" else 8, **numbers} for name, numbers in klip.SIZES.items()},
    arrays=arrays,
    reference=reference,
    error=relative_error("residual"),
    unit="error of residual, relative",
    subjects=(
        Subject("coronjax", ours, packages=("jax", "jaxlib")),
        Subject("numpy, LAPACK", floor),
        Subject("VIP `svd_wrapper(eigen)`", vip, "vip", ("vip_hci", "numpy", "scipy")),
        Subject("pyklip `klip_math`", pyklip, "pyklip", ("pyklip", "numpy", "scipy")),
    ),
    limits=(Limit("coronjax", "numpy, LAPACK", 12.0),),
)
