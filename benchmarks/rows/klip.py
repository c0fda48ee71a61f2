"""KLIP of the integrations of one exposure, with the error image that the official pipeline makes too."""

from typing import Any

import numpy as np

from benchmarks.harness import Arrays, Call, Row, Subject, relative_error, speckles


def arrays(rng: np.random.Generator, n_science: int, n_references: int, size: int, modes: int) -> Arrays:
    images = speckles(rng, n_science + n_references, (size, size))
    return {"science": images[:n_science], "references": images[n_science:], "modes": np.array(modes)}


def reference(data: Arrays) -> Arrays:
    references = data["references"].reshape(len(data["references"]), -1).astype(float)
    references -= references.mean(1, keepdims=True)
    modes = np.linalg.svd(references, full_matrices=False)[2][: int(data["modes"])]
    science = data["science"].reshape(len(data["science"]), -1).astype(float)
    residual = science - science.mean(1, keepdims=True) - (science @ modes.T) @ modes
    error = (references - (references @ modes.T) @ modes).std(0)
    return _shaped(data, residual, error)


def _shaped(data: Arrays, residual: np.ndarray, error: np.ndarray | None = None) -> Arrays:
    shape = data["science"].shape
    found = {"residual": np.asarray(residual).reshape(shape)}
    return found if error is None else {**found, "error": np.asarray(error).reshape(shape[1:])}


def ours(precision: str) -> Any:
    def prepare(data: Arrays) -> Call:
        import jax

        jax.config.update("jax_enable_x64", True)
        from coronjax import ops
        from coronjax.options import Klip

        dtype = np.dtype(precision)
        compiled = jax.jit(lambda s, r, k: ops.klip(s.astype(dtype), r.astype(dtype), options=Klip(truncate=k)))
        science, references = jax.device_put(data["science"]), jax.device_put(data["references"])
        modes = int(data["modes"])

        def call() -> Arrays:
            result = jax.block_until_ready(compiled(science, references, modes))
            return _shaped(data, result.residual, result.error)

        return call

    return prepare


def floor(data: Arrays) -> Call:
    """Gram matrix, its leading eigenvectors, weights; the images of the modes are never formed."""

    def call() -> Arrays:
        references = data["references"].reshape(len(data["references"]), -1).astype(float)
        references -= references.mean(1, keepdims=True)
        science = data["science"].reshape(len(data["science"]), -1).astype(float)
        science -= science.mean(1, keepdims=True)
        values, vectors = np.linalg.eigh(references @ references.T)
        kept = slice(len(values) - min(int(data["modes"]), len(values)), None)
        values, vectors = values[kept], vectors[:, kept]
        weights = ((science @ references.T) @ vectors / values) @ vectors.T
        residual = science - weights @ references
        project = np.eye(len(references)) - vectors @ vectors.T
        return _shaped(data, residual, (project @ references).std(0))

    return call


def jwst(data: Arrays) -> Call:
    from jwst.coron.klip import klip
    from stdatamodels.jwst.datamodels import CubeModel

    references = CubeModel(data=data["references"])

    def call() -> Arrays:
        target = CubeModel(data=data["science"].copy())
        target.err = np.zeros_like(data["science"])
        target = klip(target, references, int(data["modes"]), return_psf=False)
        return _shaped(data, target.data, target.err[0])

    return call


def pyklip(data: Arrays) -> Call:
    from pyklip.klip import klip_math

    def call() -> Arrays:
        references = data["references"].reshape(len(data["references"]), -1).astype(float)
        science = data["science"].reshape(len(data["science"]), -1).astype(float)
        covariance = np.cov(references - np.nanmean(references, axis=1, keepdims=True))
        modes = np.array([int(data["modes"])])
        return _shaped(data, np.stack([klip_math(s, references, modes, covar_psfs=covariance)[:, 0] for s in science]))

    return call


def vip(data: Arrays) -> Call:
    from vip_hci.psfsub.svd import svd_wrapper

    def call() -> Arrays:
        references = data["references"].reshape(len(data["references"]), -1).astype(float)
        references -= references.mean(1, keepdims=True)
        science = data["science"].reshape(len(data["science"]), -1).astype(float)
        science -= science.mean(1, keepdims=True)
        modes = svd_wrapper(references, "eigen", int(data["modes"]), verbose=False)
        return _shaped(data, science - (science @ modes.T) @ modes)

    return call


ROW = Row(
    title="KLIP",
    work="{n_science} integrations of {size} x {size} pixels, {n_references} references, {modes} modes, in "
    "float64 unless said otherwise. coronjax, the floor and jwst also make the error image; pyklip and VIP do not.",
    sizes={
        "full": {"n_science": 16, "n_references": 100, "size": 320, "modes": 50},
        "quick": {"n_science": 8, "n_references": 40, "size": 160, "modes": 20},
        "tiny": {"n_science": 2, "n_references": 8, "size": 40, "modes": 4},
    },
    arrays=arrays,
    reference=reference,
    error=relative_error("residual"),
    unit="error of residual, relative",
    subjects=(
        Subject("coronjax", ours("float64"), packages=("jax", "jaxlib")),
        Subject("coronjax, float32", ours("float32"), packages=("jax", "jaxlib")),
        Subject("numpy, LAPACK", floor),
        Subject("jwst `coron.klip`", jwst, "official", ("jwst", "numpy")),
        Subject("pyklip `klip_math`", pyklip, "pyklip", ("pyklip", "numpy", "scipy")),
        Subject("VIP `svd_wrapper(eigen)`", vip, "vip", ("vip_hci", "numpy", "scipy")),
    ),
)
