"""Drizzle of two rolls with their three variances, the pixel maps given."""

from typing import Any

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, speckles

VARIANCES = ("var_poisson", "var_rnoise", "var_flat")
NEGLIGIBLE = 16 * np.finfo(float).eps  # an overlap below rounding is none


def arrays(rng: np.random.Generator, planes: int, size: int) -> Arrays:
    shape, per_roll = (size, size), planes // 2
    side = int(size * 1.2)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    maps = []
    for roll in np.radians((-5.0, 5.0)):
        bend = 1 + 1e-6 * (rows**2 + columns**2)
        x, y = (
            bend * (np.cos(roll) * columns - np.sin(roll) * rows),
            bend * (np.sin(roll) * columns + np.cos(roll) * rows),
        )
        maps.append(np.stack([x, y], -1) + (side - 1) / 2)
    sci = speckles(rng, 2 * per_roll, shape).reshape(2, per_roll, *shape)
    data = {name: rng.uniform(0.5, 2, sci.shape).astype(np.float32) for name in VARIANCES}
    dq = (rng.random(sci.shape) < 0.005).astype(np.uint32)
    return {**data, "sci": sci, "dq": dq, "maps": np.stack(maps), "shape": np.array((side, side))}


def _corners(pixel_map: np.ndarray) -> np.ndarray:
    """Positions of the four corners of every pixel, [4, pixel, 2]: means of the centres around."""
    for axis in (0, 1):
        ends = [2 * np.take(pixel_map, [i], axis) - np.take(pixel_map, [j], axis) for i, j in ((0, 1), (-1, -2))]
        pixel_map = np.concatenate([ends[0], pixel_map, ends[1]], axis)
    grid = (pixel_map[:-1, :-1] + pixel_map[:-1, 1:] + pixel_map[1:, :-1] + pixel_map[1:, 1:]) / 4
    around = (grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1])
    return np.stack([corner.reshape(-1, 2) for corner in around])


def _under(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Integral over x of an edge's height, both held inside the unit square."""
    (x0, y0), (x1, y1) = start.T, end.T
    upright = x1 == x0
    slope = (y1 - y0) / np.where(upright, 1, x1 - x0)
    left, right = np.clip(x0, 0, 1), np.clip(x1, 0, 1)
    low, high = y0 + slope * (left - x0), y0 + slope * (right - x0)
    height = _mean_positive(low, high) - _mean_positive(low - 1, high - 1)
    return np.where(upright, 0, (right - left) * height)


def _mean_positive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of max(t, 0) between a and b, without cancellation."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    crossing = (low < 0) & (high > 0)
    return np.where(crossing, high**2 / 2 / np.where(crossing, high - low, 1), np.maximum((low + high) / 2, 0))


def overlap_matrix(pixel_map: np.ndarray, shape: tuple[int, int]) -> Any:
    """Share of every input pixel that falls on every output pixel, rows for outputs."""
    from scipy.sparse import coo_array

    corners = _corners(pixel_map)
    x, y = np.moveaxis(corners, -1, 0)
    area = 0.5 * ((x[2] - x[0]) * (y[3] - y[1]) - (x[3] - x[1]) * (y[2] - y[0]))
    first = np.floor(corners.min(0) + 0.5)
    reach = int((np.floor(corners.max(0) + 0.5) - first).max()) + 1
    entries = []
    for step in np.ndindex(reach, reach):
        cell = first + step
        local = corners - (cell - 0.5)
        share = -sum(_under(local[i], local[i - 3]) for i in range(4)) / area
        used = (share > NEGLIGIBLE) & (cell >= 0).all(1) & (cell < (shape[1], shape[0])).all(1)
        column, row = cell[used].astype(int).T
        entries.append((share[used], row * shape[1] + column, np.flatnonzero(used)))
    shares, outputs, inputs = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return coo_array((shares, (outputs, inputs)), shape=(shape[0] * shape[1], len(area))).tocsr()


def floor(data: Arrays) -> Call:
    """The overlaps as a sparse matrix, in float64; all integrations of a roll and their variances at once."""
    shape = (int(data["shape"][0]), int(data["shape"][1]))

    def call() -> Arrays:
        total, weights = np.zeros(shape[0] * shape[1]), np.zeros(shape[0] * shape[1])
        variance, omegas = np.zeros((3, *total.shape)), np.zeros_like(total)
        for roll, pixel_map in enumerate(data["maps"]):
            matrix = overlap_matrix(pixel_map, shape)
            flat = {name: data[name][roll].reshape(len(data["sci"][roll]), -1) for name in ("sci", "dq", *VARIANCES)}
            flat = {name: values.astype(float) for name, values in flat.items()}
            weight = np.where(flat["dq"] == 0, 1 / flat["var_rnoise"], 0)
            total += matrix @ (weight * flat["sci"]).sum(0)
            spread = np.stack([weight, *(weight * np.sqrt(flat[name]) for name in VARIANCES)], -1)
            for plane in spread:
                found = (matrix @ plane).T
                reached = found[0] > 0
                v = (found[1:] / np.where(reached, found[0], 1)) ** 2
                omega = np.where(v[1] > 0, 1 / np.where(v[1] > 0, v[1], 1), 0)
                weights, omegas, variance = weights + found[0], omegas + omega, variance + v * omega**2
        with np.errstate(invalid="ignore"):
            return _image(total / weights, weights, variance / omegas**2, shape)

    return call


def _image(sci: np.ndarray, weight: np.ndarray, variances: np.ndarray, shape: tuple[int, int]) -> Arrays:
    err = np.sqrt(variances.sum(0))
    return {"sci": sci.reshape(shape), "weight": weight.reshape(shape), "err": err.reshape(shape)}


def reference(data: Arrays) -> Arrays:
    return floor(data)()


def ours(data: Arrays) -> Call:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    from coronjax import ops
    from coronjax.cube import Cube
    from coronjax.options import Resample

    window, shape = ops.overlap_window(data["maps"]), (int(data["shape"][0]), int(data["shape"][1]))

    @jax.jit
    def compiled(sci: jax.Array, dq: jax.Array, maps: jax.Array, variances: list[jax.Array]) -> tuple[jax.Array, ...]:
        valid, nothing = jnp.ones(sci.shape[:2], bool), jnp.zeros(len(sci))
        cubes = Cube(sci, jnp.ones_like(sci), dq, valid, *variances)
        cubes = jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype == jnp.float32 else leaf, cubes)
        given = {"exposure_times": nothing + 1, "background": nothing}
        image = ops.resample(cubes, maps, output_shape=shape, options=Resample(), window=window, **given)
        return image.sci, image.weight, image.err

    given = jax.device_put((data["sci"], data["dq"], data["maps"], [data[name] for name in VARIANCES]))
    return lambda: dict(zip(("sci", "weight", "err"), map(np.asarray, compiled(*given)), strict=True))


def drizzle(data: Arrays) -> Call:
    """As jwst 3.0.0 drives it: the image, then the root of each variance of each integration by itself."""
    from drizzle.resample import Drizzle

    shape = (int(data["shape"][0]), int(data["shape"][1]))

    def call() -> Arrays:
        planes = [(roll, k) for roll in range(len(data["maps"])) for k in range(data["sci"].shape[1])]
        total = Drizzle(kernel="square", fillval="NAN", out_shape=shape, max_ctx_id=len(planes) - 1)
        variance, omegas = np.zeros((3, *shape), np.float32), np.zeros(shape, np.float32)
        for roll, k in planes:
            weight = np.where(data["dq"][roll, k] == 0, 1 / data["var_rnoise"][roll, k], 0).astype(np.float32)
            given = {"exptime": 1.0, "pixmap": data["maps"][roll], "weight_map": weight}
            total.add_image(data["sci"][roll, k], **given)
            v = []
            for name in VARIANCES:
                one = Drizzle(kernel="square", fillval="NAN", out_shape=shape, disable_ctx=True)
                one.add_image(np.sqrt(data[name][roll, k]), **given)
                v.append(one.out_img**2)
            known = v[1] > 0
            omega = np.where(known, 1 / np.where(known, v[1], 1), 0)
            omegas += omega
            variance += np.where(known, np.stack(v) * omega**2, 0)
        with np.errstate(invalid="ignore"):
            return _image(total.out_img, total.out_wht, variance / omegas**2, shape)

    return call


def error(output: Arrays, truth: Arrays) -> float:
    """Of the image, over its root mean square, but for slivers of weight."""
    used = truth["weight"] > 1e-6 * truth["weight"].max()
    difference, sci = (output["sci"].astype(float) - truth["sci"])[used], truth["sci"][used]
    return float(np.sqrt(np.mean(difference**2) / np.mean(sci**2)))


ROW = Row(
    title="Drizzle",
    work="{planes} integrations of {size} x {size} pixels in two rolls, each with three variances; geometry included.",
    sizes={
        "full": {"planes": 20, "size": 320},
        "quick": {"planes": 8, "size": 160},
        "tiny": {"planes": 4, "size": 40},
    },
    arrays=arrays,
    reference=reference,
    error=error,
    unit="error of image, relative",
    subjects=(
        Subject("coronjax", ours, packages=("jax", "jaxlib")),
        Subject("numpy, scipy.sparse", floor, packages=("numpy", "scipy")),
        Subject("drizzle (C), as jwst calls it", drizzle, "official", ("drizzle", "jwst", "numpy")),
    ),
    limits=(Limit("coronjax", "numpy, scipy.sparse", 1.0),),
)
