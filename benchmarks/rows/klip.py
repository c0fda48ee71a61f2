"""KLIP of the integrations of one exposure: the subtracted images alone, neither images of the modes nor errors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, relative_error, speckles

SIZES = {
    "full": {"n_science": 16, "n_references": 100, "size": 320, "modes": 50},
    "quick": {"n_science": 16, "n_references": 100, "size": 320, "modes": 50},  # less fits into caches and says little
    "tiny": {"n_science": 2, "n_references": 8, "size": 40, "modes": 4},
}


def arrays(rng: np.random.Generator, n_science: int, n_references: int, size: int, modes: int) -> Arrays:
    images = speckles(rng, n_science + n_references, (size, size)).astype(float)
    return {"science": images[:n_science], "references": images[n_science:], "modes": np.array(modes)}


def rows_of(images: np.ndarray) -> np.ndarray:
    """Images as rows of pixels in float64, each less its mean."""
    flat = images.reshape(len(images), -1).astype(float)
    flat -= flat.mean(1, keepdims=True)
    return flat


def leading_modes(references: np.ndarray, count: int) -> np.ndarray:
    """The leading modes, [mode pixel], from the references themselves: their Gram matrix would square the condition."""
    basis, triangle = np.linalg.qr(references.T)
    return (basis @ np.linalg.svd(triangle)[0][:, :count]).T


def reference(data: Arrays) -> Arrays:
    references, science = rows_of(data["references"]), rows_of(data["science"])
    modes = leading_modes(references, int(data["modes"]))
    error = (references - (references @ modes.T) @ modes).std(0)
    middle = data["references"].astype(float).mean(0)
    aims = (data["science"] - middle).reshape(science.shape)
    others = leading_modes((data["references"] - middle).reshape(references.shape), int(data["modes"]))
    found = shaped(data, science - (science @ modes.T) @ modes, error)
    return {**found, "about_mean_image": shaped(data, aims - (aims @ others.T) @ others)["residual"]}


def shaped(data: Arrays, residual: np.ndarray, error: np.ndarray | None = None) -> Arrays:
    shape = data["science"].shape
    found = {"residual": np.asarray(residual).reshape(shape)}
    return found if error is None else {**found, "error": np.asarray(error).reshape(shape[1:])}


def ours(precision: str, *, error: bool) -> Callable[[Arrays], Call]:
    def prepare(data: Arrays) -> Call:
        import jax

        jax.config.update("jax_enable_x64", True)
        from coronjax import ops
        from coronjax.options import Klip

        dtype = np.dtype(precision)

        @jax.jit
        def compiled(science: jax.Array, references: jax.Array, modes: jax.Array) -> Any:
            return ops.klip(science, references, options=Klip(truncate=modes), error=error)

        given = jax.device_put((data["science"].astype(dtype), data["references"].astype(dtype), data["modes"]))

        def call() -> Arrays:
            result = jax.block_until_ready(compiled(*given))
            return shaped(data, result.residual, result.error)

        return call

    return prepare


def floor(*, error: bool) -> Callable[[Arrays], Call]:
    """Gram matrix, its leading eigenvectors, weights; the images of the modes are never formed."""

    def prepare(data: Arrays) -> Call:
        def call() -> Arrays:
            references, science = rows_of(data["references"]), rows_of(data["science"])
            values, vectors = np.linalg.eigh(references @ references.T)
            kept = slice(len(values) - min(int(data["modes"]), len(values)), None)
            values, vectors = values[kept], vectors[:, kept]
            weights = ((science @ references.T) @ vectors / values) @ vectors.T
            residual = science - weights @ references
            if not error:
                return shaped(data, residual)
            project = np.eye(len(references)) - vectors @ vectors.T
            return shaped(data, residual, (project @ references).std(0))

        return call

    return prepare


def jwst(data: Arrays) -> Call:
    from jwst.coron.klip import klip
    from stdatamodels.jwst.datamodels import CubeModel

    references = CubeModel(data=data["references"])

    def call() -> Arrays:
        target = CubeModel(data=data["science"].copy())
        target.err = np.zeros_like(data["science"])
        target = klip(target, references, int(data["modes"]), return_psf=False)
        return shaped(data, target.data, target.err[0])

    return call


def pyklip(data: Arrays) -> Call:
    """Its linear algebra, given the covariance that all integrations share."""
    from pyklip.klip import klip_math

    def call() -> Arrays:
        references = data["references"].reshape(len(data["references"]), -1).astype(float)
        science = data["science"].reshape(len(data["science"]), -1).astype(float)
        covariance = np.cov(references - np.nanmean(references, axis=1, keepdims=True))
        modes = np.array([int(data["modes"])])
        return shaped(data, np.stack([klip_math(s, references, modes, covar_psfs=covariance)[:, 0] for s in science]))

    return call


def vip(data: Arrays) -> Call:
    from vip_hci.psfsub.svd import svd_wrapper

    def call() -> Arrays:
        references, science = rows_of(data["references"]), rows_of(data["science"])
        modes = svd_wrapper(references, "eigen", int(data["modes"]), verbose=False)
        return shaped(data, science - (science @ modes.T) @ modes)

    return call


def coronalyze(data: Arrays) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    from coronalyze.core.pca import get_pca_basis, pca_subtract

    count = int(data["modes"])

    @jax.jit
    def compiled(science: jax.Array, references: jax.Array) -> jax.Array:
        basis, middle = get_pca_basis(references.astype(float), count)
        return jax.vmap(pca_subtract, (0, None, None))(science.astype(float), basis, middle)

    given = jax.device_put((data["science"], data["references"]))
    return lambda: {"about_mean_image": np.asarray(compiled(*given))}


ROW = Row(
    title="KLIP",
    work="{n_science} integrations of {size} x {size} pixels, {n_references} references, {modes} modes, in float64 "
    "unless said otherwise: no error image, no images of modes. jwst cannot leave its error image out. coronalyze "
    "subtracts the mean reference where the others subtract each image's own mean; its error is against that.",
    sizes=SIZES,
    arrays=arrays,
    reference=reference,
    error=relative_error("residual", "about_mean_image"),
    unit="error of residual, relative",
    subjects=(
        Subject("coronjax", ours("float64", error=False), packages=("jax", "jaxlib")),
        Subject("coronjax, float32", ours("float32", error=False), packages=("jax", "jaxlib")),
        Subject("numpy, LAPACK", floor(error=False)),
        Subject("coronalyze `pca_subtract`", coronalyze, "coronalyze", ("coronalyze", "jax")),
        Subject("VIP `svd_wrapper(eigen)`", vip, "vip", ("vip_hci", "numpy", "scipy")),
        Subject("pyklip `klip_math`", pyklip, "pyklip", ("pyklip", "numpy", "scipy")),
        Subject("jwst `coron.klip`", jwst, "official", ("jwst", "numpy"), repeats=2),
    ),
    limits=(Limit("coronjax", "numpy, LAPACK", 2.0),),
)
