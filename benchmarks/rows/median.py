"""NaN-median of the integrations of an exposure."""

import warnings

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, relative_error, speckles


def arrays(rng: np.random.Generator, n: int, size: int) -> Arrays:
    stack = speckles(rng, n, (size, size))
    stack[rng.random(stack.shape) < 0.01] = np.nan
    return {"stack": stack}


def reference(data: Arrays) -> Arrays:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"median": np.nanmedian(data["stack"].astype(float), axis=0)}


def ours(data: Arrays) -> Call:
    import jax

    from coronjax import ops

    stack = jax.device_put(data["stack"])
    compiled = jax.jit(lambda s: ops.nanmedian(s, s == s))
    return lambda: {"median": np.asarray(compiled(stack))}


def floor(data: Arrays) -> Call:
    """Sort every pixel's values, which puts NaN last, and pick by how many there are."""

    def call() -> Arrays:
        values = np.ascontiguousarray(np.moveaxis(data["stack"], 0, -1))
        values.sort(axis=-1)
        count = values.shape[-1] - np.isnan(values).sum(-1, keepdims=True)
        low, high = (np.take_along_axis(values, np.maximum(i, 0), -1) for i in ((count - 1) // 2, count // 2))
        return {"median": ((low + high) / np.float32(2))[..., 0]}

    return call


def numpy(data: Arrays) -> Call:
    return lambda: {"median": np.nanmedian(data["stack"], axis=0)}


def jwst(data: Arrays) -> Call:
    from stcal.outlier_detection.median import nanmedian3D

    return lambda: {"median": nanmedian3D(data["stack"], overwrite_input=False)}


def bottleneck(data: Arrays) -> Call:
    import bottleneck

    return lambda: {"median": bottleneck.nanmedian(data["stack"], axis=0)}


ROW = Row(
    title="NaN-median",
    work="{n} integrations of {size} x {size} pixels, float32, one pixel in a hundred NaN.",
    sizes={"full": {"n": 50, "size": 320}, "quick": {"n": 20, "size": 160}, "tiny": {"n": 5, "size": 32}},
    arrays=arrays,
    reference=reference,
    error=relative_error("median"),
    unit="error, relative",
    subjects=(
        Subject("coronjax", ours, packages=("jax", "jaxlib")),
        Subject("numpy `sort`", floor),
        Subject("numpy `nanmedian`", numpy),
        Subject("jwst (stcal) `nanmedian3D`", jwst, "official", ("stcal", "numpy")),
        Subject("bottleneck `nanmedian`", bottleneck, "bottleneck", ("bottleneck", "numpy")),
    ),
    limits=(Limit("coronjax", "numpy `nanmedian`", 1.0),),
)
