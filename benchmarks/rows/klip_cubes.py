"""The residual cube of an exposure for every number of modes."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, relative_error
from benchmarks.rows import klip


def _weights(references: np.ndarray, science: np.ndarray) -> np.ndarray:
    """Of each reference, for every number of modes and every integration, [mode science reference]."""
    values, vectors = np.linalg.eigh(references @ references.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    found = (science @ references.T) @ vectors / values
    return np.cumsum(found.T[:, :, None] * vectors.T[:, None, :], axis=0)


def reference(data: Arrays) -> Arrays:
    references, science = klip.rows_of(data["references"]), klip.rows_of(data["science"])
    modes = klip.leading_modes(references, len(references))
    coefficients, left = modes @ science.T, science.copy()
    cubes = np.empty((len(modes), *science.shape))
    for cube, mode, coefficient in zip(cubes, modes, coefficients, strict=True):
        left -= coefficient[:, None] * mode
        cube[:] = left
    return {"cubes": cubes.reshape(-1, *data["science"].shape)}


def ours(data: Arrays) -> Call:
    compiled, given = _compiled(data)
    return lambda: {"cubes": np.asarray(compiled(*given))}


def into_memory(data: Arrays) -> Call:
    """Each result over the one before, as `product` has it; the copy that is compared is not timed."""
    import jax
    import jax.numpy as jnp

    compiled, given = _compiled(data)
    place = jnp.zeros((len(data["references"]), *data["science"].shape))

    def call() -> Arrays:
        nonlocal place
        start = time.perf_counter()
        place = jax.block_until_ready(compiled(*given, place))
        seconds = time.perf_counter() - start
        return {"cubes": np.array(place), "seconds": np.array(seconds)}

    return call


def _compiled(data: Arrays) -> tuple[Callable[..., Any], tuple]:
    """The sweep, and its arguments but for the memory of its result."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    from coronjax import ops

    @partial(jax.jit, donate_argnames="into")
    def compiled(
        science: jax.Array, references: jax.Array, modes: jax.Array, into: jax.Array | None = None
    ) -> jax.Array:
        return ops.klip_sweep(science.astype(float), references.astype(float), modes, combine=False, into=into)

    modes = jnp.arange(1, len(data["references"]) + 1)
    return compiled, (*jax.device_put((data["science"], data["references"])), modes)


def floor(data: Arrays) -> Call:
    def call() -> Arrays:
        references, science = klip.rows_of(data["references"]), klip.rows_of(data["science"])
        weights = _weights(references, science)
        cubes = (weights.reshape(-1, len(references)) @ references).reshape(-1, *science.shape)
        np.subtract(science, cubes, out=cubes)
        return {"cubes": cubes.reshape(-1, *data["science"].shape)}

    return call


def product(data: Arrays) -> Call:
    """numpy's, over the result before."""

    def prepare(weights: np.ndarray, references: np.ndarray) -> Callable[[], Any]:
        stars = np.empty((len(weights), references.shape[1]))
        return lambda: np.matmul(weights, references, out=stars)

    return _product_alone(data, prepare)


def product_fresh(data: Arrays) -> Call:
    """JAX's, into fresh memory, as the cubes are."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def prepare(*factors: np.ndarray) -> Callable[[], Any]:
        compiled = jax.jit(lambda weights, references: jnp.matmul(weights, references, precision="highest"))
        on_device = jax.device_put(factors)
        return lambda: jax.block_until_ready(compiled(*on_device))

    return _product_alone(data, prepare)


def _product_alone(data: Arrays, prepare: Callable[..., Callable[[], Any]]) -> Call:
    """The product of the weights, which are given, with the references; what follows it is not timed."""
    references, science = klip.rows_of(data["references"]), klip.rows_of(data["science"])
    multiply = prepare(_weights(references, science).reshape(-1, len(references)), references)

    def call() -> Arrays:
        start = time.perf_counter()
        stars = multiply()
        seconds = time.perf_counter() - start
        cubes = (science - np.asarray(stars).reshape(-1, *science.shape)).reshape(-1, *data["science"].shape)
        return {"cubes": cubes, "seconds": np.array(seconds)}

    return call


def pyklip(data: Arrays) -> Call:
    from pyklip.klip import klip_math

    def call() -> Arrays:
        references = data["references"].reshape(len(data["references"]), -1).astype(float)
        covariance = np.cov(references - np.nanmean(references, axis=1, keepdims=True))
        modes = np.arange(1, len(references) + 1)
        science = data["science"].reshape(len(data["science"]), -1).astype(float)
        cubes = np.stack([klip_math(s, references, modes, covar_psfs=covariance).T for s in science], axis=1)
        return {"cubes": cubes.reshape(-1, *data["science"].shape)}

    return call


ROW = Row(
    title="Every number of modes, all cubes",
    work="{n_science} integrations of {size} x {size} pixels for every number of modes from 1 to {n_references}, as "
    "many as there are references; float64. The matrix product that makes the cubes is timed by itself too: numpy's "
    "into memory that is there already, as that of an earlier result, JAX's into fresh memory. numpy asks the kernel "
    "for large pages by itself; XLA does not, unless the process's environment has "
    "`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`.",
    sizes={
        "full": {"n_science": 16, "n_references": 100, "size": 160, "modes": 50},
        "quick": {"n_science": 8, "n_references": 50, "size": 120, "modes": 25},
        "tiny": {"n_science": 2, "n_references": 8, "size": 40, "modes": 4},
    },
    arrays=klip.arrays,
    reference=reference,
    error=relative_error("cubes"),
    unit="error of cubes, relative",
    subjects=(
        Subject("coronjax", ours, packages=("jax", "jaxlib")),
        Subject("coronjax, over an earlier result", into_memory, packages=("jax", "jaxlib")),
        Subject(
            "coronjax, large pages",
            ours,
            packages=("jax", "jaxlib"),
            variables={"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        ),
        Subject("numpy, LAPACK", floor),
        Subject("numpy, the matrix product alone", product),
        Subject("JAX, the matrix product alone, into fresh memory", product_fresh, packages=("jax", "jaxlib")),
        Subject("pyklip `klip_math`", pyklip, "pyklip", ("pyklip", "numpy", "scipy"), repeats=2),
    ),
    limits=(
        Limit("coronjax", "numpy, LAPACK", 4.0),
        # Of the same work: how long the product alone takes beside it differs by half from processor to processor.
        Limit("coronjax, over an earlier result", "numpy, LAPACK", 1.5),
    ),
)
