"""The geometry of drizzle: which input pixels cover which output pixels, and by how much."""

from __future__ import annotations

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Overlap(eqx.Module):
    """For every output pixel, the input pixels that may cover it and the share each gives to it.

    A linear operator stored as a gather table: output = sum over k of share[k] * input.ravel()[index[k]].
    """

    index: Int[Array, "k y x"]  # flat index (row * width + column) of an input pixel
    share: Float[Array, "k y x"]  # part of that input pixel's drop that falls on the output pixel, 0 to 1
    n_lost: Int[Array, ""]  # output pixels with contributors outside the window; 0 when the window is wide enough


def overlap(
    pixel_map: Float[Array, "y_in x_in 2"],
    *,
    output_shape: tuple[int, int],
    pixfrac: float | Float[Array, ""] = 1.0,
    kernel: Literal["square"] = "square",
    window: int = 3,
    used: Bool[Array, "y_in x_in"] | None = None,
) -> Overlap:
    r"""Find how the drops of the input pixels fall on the output pixels.

    The drop of input pixel $(i, j)$ is the quadrilateral $Q$ whose corners are the images of
    $(i \pm p/2, j \pm p/2)$, with the map bilinear between pixel centres and beyond the outermost ones:

    $$ s = \frac{|Q \cap P|}{|Q|}, \qquad P = [x - \tfrac12, x + \tfrac12] \times [y - \tfrac12, y + \tfrac12] $$

    Areas are exact, and so are their derivatives in the map and in $p$ wherever no corner lies on the edge of a pixel.
    With float32 maps a corner is known to half a unit in the last place of its coordinate (3e-5 px at 1000 px) and a
    share to about the same.

    Args:
        pixel_map: position (x, y) on the output of the centre of every input pixel, output pixels. NaN: outside.
            A drop with a corner in a cell that has a NaN is left out.
        output_shape: rows and columns of the output.
        pixfrac: side of the drop in input pixels, 0 < pixfrac <= 1. Traced.
        kernel: the shape of the drop.
        window: rows and columns of input pixels looked at for every output pixel, see `overlap_window`.
        used: input pixels to drop; all by default. A pixel left out does not change the drops of its neighbours.

    Returns:
        `Overlap` with k = window squared. Its `n_lost` says whether the window was too small.

    Raises:
        ValueError: a kernel that is not known, or a map smaller than 2 x 2 pixels.

    Example:
        >>> y, x = jnp.mgrid[:3, :3]
        >>> table = overlap(jnp.stack([x, y], -1) + 0.5, output_shape=(3, 3), window=2)
        >>> float(table.share[:, 1, 1].sum())
        1.0

    Source: Fruchter & Hook 2002, PASP 114, 144; the square kernel of the drizzle package.
    """
    if kernel != "square":
        raise ValueError(f"kernel {kernel!r} is not known; known is 'square'")
    if min(pixel_map.shape[:2]) < 2:
        raise ValueError(f"a pixel map of {pixel_map.shape[:2]} pixels has no cell to interpolate in")
    height, width = pixel_map.shape[:2]
    rows, columns = min(window, height), min(window, width)
    drops, usable = _drops(pixel_map, pixfrac)
    usable = usable if used is None else usable & used
    first, n_lost = _window_start(jax.lax.stop_gradient(drops), usable, output_shape, (rows, columns))
    drops, usable = drops.reshape(-1, 8), usable.ravel()
    centre = jnp.stack(jnp.meshgrid(jnp.arange(output_shape[1]), jnp.arange(output_shape[0])), -1).astype(drops.dtype)

    @jax.checkpoint
    def one_offset(offset: Int[Array, " 2"]) -> tuple[Int[Array, "y x"], Float[Array, "y x"]]:
        index = (first[..., 0] + offset[0]) * width + first[..., 1] + offset[1]
        drop = drops[index].reshape(*output_shape, 2, 4)
        return index, jnp.where(usable[index], _share(drop - (centre[..., None] - 0.5)), 0)

    offsets = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    offsets = offsets.astype(first.dtype)
    index, share = jax.lax.map(one_offset, offsets)
    return Overlap(index, share, n_lost)


def overlap_window(pixel_map: np.ndarray, pixfrac: float = 1.0) -> int:
    r"""Find the window that `overlap` needs for a map: how many input rows or columns touch one output pixel.

    Two drops touched by one output pixel are less than $\max_i \sum_j |J^{-1}_{ij}| + p$ apart, $J$ being the Jacobian
    of the map; its change from pixel to pixel is allowed for.

    Args:
        pixel_map: position (x, y) on the output of every input pixel, [y x 2] or a stack of such maps. Concrete.
        pixfrac: side of the drop in input pixels.

    Returns:
        The number of pixels along the side of the window, at least 1.

    Example:
        >>> y, x = np.mgrid[:4, :4]
        >>> overlap_window(np.stack([2 * x, 2 * y], -1))  # output pixels half as large
        2
    """
    maps = np.asarray(pixel_map, float)
    along_x = np.diff(maps, axis=-2)[..., :-1, :, :]
    along_y = np.diff(maps, axis=-3)[..., :, :-1, :]
    determinant = np.abs(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.maximum(np.abs(along_x).sum(-1), np.abs(along_y).sum(-1)) / determinant
    reach = np.where(np.isfinite(reach), reach, np.nan)
    if not np.isfinite(reach).any():
        return 1
    change = max((np.nanmax(np.abs(np.diff(reach, axis=axis)), initial=0.0) for axis in (-2, -1)), default=0.0)
    return max(1, math.ceil(np.nanmax(reach) + 2 * change + pixfrac - 1e-9))


def _drops(
    pixel_map: Float[Array, "y x 2"], pixfrac: float | Float[Array, ""]
) -> tuple[Float[Array, "y x 2 4"], Bool[Array, "y x"]]:
    """Return the corners of every drop, anticlockwise in input coordinates, and which drops have all of them."""
    half = jnp.asarray(pixfrac, pixel_map.dtype) / 2
    known = jnp.isfinite(pixel_map).all(-1, keepdims=True)
    mark = jnp.where(known, jnp.zeros_like(half), jnp.nan)  # spreads to the corners that need the pixel
    halves = jnp.stack([half, half, jax.lax.stop_gradient(half)])  # and with it no derivative
    corners = _corners(jnp.concatenate([jnp.where(known, pixel_map, 0), mark], -1), halves)
    complete = jnp.isfinite(corners[..., 2, :]).all(-1)
    # In the order in which they are fetched, so that there is one copy of them.
    drops = jax.lax.optimization_barrier(corners[..., :2, :].reshape(-1, 8)).reshape(*complete.shape, 2, 4)
    return drops, complete & (_signed_area(drops) != 0)


def _corners(centres: Float[Array, "y x c"], half: Float[Array, " c"]) -> Float[Array, "y x c 4"]:
    """Interpolate between the centres of pixels at the four corners of the drops."""
    corners = []
    for sign_x, sign_y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        along_x = centres + sign_x * half * _slope(centres, 1, sign_x)
        corners.append(along_x + sign_y * half * _slope(along_x, 0, sign_y))
    return jnp.stack(corners, -1)


def _slope(array: Float[Array, "y x c"], axis: int, sign: int) -> Float[Array, "y x c"]:
    """Return the slope between a pixel and its neighbour on one side; at the border, that on the other side."""
    step = jnp.diff(array, axis=axis)
    if sign > 0:
        return jnp.concatenate([step, jax.lax.slice_in_dim(step, -1, None, axis=axis)], axis)
    return jnp.concatenate([jax.lax.slice_in_dim(step, 0, 1, axis=axis), step], axis)


def _signed_area(corners: Float[Array, "*n 2 4"]) -> Float[Array, "*n"]:
    """Return the area of quadrilaterals, positive when their corners run anticlockwise."""
    x, y = corners[..., 0, :], corners[..., 1, :]
    return 0.5 * ((x[..., 2] - x[..., 0]) * (y[..., 3] - y[..., 1]) - (x[..., 3] - x[..., 1]) * (y[..., 2] - y[..., 0]))


def _share(drop: Float[Array, "*n 2 4"]) -> Float[Array, "*n"]:
    """Return the part of quadrilaterals that lies in the unit square."""
    inside, area = _area_inside(drop), _signed_area(drop)
    share = inside / jnp.where(area == 0, 1, area)
    # Below rounding an overlap is as good as none: it must not set a weight or a bit of the context.
    overlapping = (area != 0) & (jnp.abs(inside) > 100 * float(jnp.finfo(drop.dtype).eps))
    return jnp.where(overlapping, jnp.maximum(share, 0), 0)


_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0))


@jax.custom_jvp
def _area_inside(drop: Float[Array, "*n 2 4"]) -> Float[Array, "*n"]:
    """Return the signed area that quadrilaterals share with the unit square, by Green's theorem edge by edge.

    Every edge contributes the integral over x of its height clamped to the square; no term cancels inside an edge.
    """
    tiny = float(jnp.finfo(drop.dtype).eps) ** 2
    inside = jnp.zeros(drop.shape[:-2], drop.dtype)
    for start, end in _EDGES:
        x0, y0, x1, y1 = drop[..., 0, start], drop[..., 1, start], drop[..., 0, end], drop[..., 1, end]
        left, right = jnp.clip(x0, 0, 1), jnp.clip(x1, 0, 1)
        upright = jnp.abs(x1 - x0) < tiny
        run = jnp.where(upright, 1, x1 - x0)
        at_left = y0 + (y1 - y0) * jnp.where(upright, 0, jnp.clip((left - x0) / run, 0, 1))
        at_right = y0 + (y1 - y0) * jnp.where(upright, 1, jnp.clip((right - x0) / run, 0, 1))
        inside += (left - right) * (_mean_positive(at_left, at_right) - _mean_positive(at_left - 1, at_right - 1))
    return inside


def _mean_positive(a: Array, b: Array) -> Array:
    """Return the mean of max(t, 0) while t runs from a to b."""
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    crossing = (low < 0) & (high > 0)
    span = jnp.where(crossing, high - low, 1)
    return jnp.where(crossing, 0.5 * high * (high / span), jnp.where(low >= 0, 0.5 * (low + high), 0))


@_area_inside.defjvp
def _area_inside_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    r"""Differentiate by what the moving edges sweep over inside the square.

    An edge from $a$ to $b$, inside the square for $t_0 < t < t_1$, sweeps
    $\int_{t_0}^{t_1} ((1 - t) \dot a + t \dot b) \times (b - a) \, dt$. Differentiating the clamps and quotients of the
    area itself gives the same, with many times the work to compile and to run.
    """
    (drop,), (moved,) = primals, tangents
    swept = jnp.zeros(drop.shape[:-2], drop.dtype)
    for start, end in _EDGES:
        origin, run = drop[..., start], drop[..., end] - drop[..., start]
        first, last = _inside_from_to(origin, run)
        at_end = 0.5 * (last**2 - first**2)
        at_start = last - first - at_end
        motion = at_start[..., None] * moved[..., start] + at_end[..., None] * moved[..., end]
        swept += motion[..., 0] * run[..., 1] - motion[..., 1] * run[..., 0]
    return _area_inside(drop), swept


def _inside_from_to(origin: Float[Array, "*n 2"], run: Float[Array, "*n 2"]) -> tuple[Array, Array]:
    """Return the first and last t in [0, 1] at which origin + t * run lies in the unit square; equal if none does."""
    parallel = jnp.abs(run) < float(jnp.finfo(run.dtype).eps) ** 2
    step = jnp.where(parallel, 1, run)
    low, high = -origin / step, (1 - origin) / step
    # An edge along a side of the square belongs to one of the two pixels it divides.
    never = (parallel & ((origin < 0) | (origin >= 1))).any(-1)
    enter = jnp.where(parallel, 0, jnp.minimum(low, high)).max(-1)
    leave = jnp.where(parallel, 1, jnp.maximum(low, high)).min(-1)
    first, last = jnp.clip(enter, 0, 1), jnp.clip(leave, 0, 1)
    return first, jnp.where(never, first, jnp.maximum(first, last))


def _window_start(
    drops: Float[Array, "y_in x_in 2 4"],
    usable: Bool[Array, "y_in x_in"],
    shape: tuple[int, int],
    window: tuple[int, int],
) -> tuple[Int[Array, "y x 2"], Int[Array, ""]]:
    """Return the first input row and column that each output pixel touches, and how many output pixels touch more.

    Every drop marks the output pixels that it touches, one place of its bounding box after the other.
    """
    height, width = usable.shape
    limit = jnp.array([shape[1], shape[0]], drops.dtype)[:, None, None]
    low = jnp.moveaxis(drops.min(-1), -1, 0)
    high = jnp.moveaxis(drops.max(-1), -1, 0)
    base = jnp.clip(jnp.floor(low + 0.5), 0, limit)
    extent = jnp.where(usable, jnp.clip(jnp.ceil(high - 0.5), -1, limit - 1) - base + 1, 0)
    steps = jnp.maximum(jnp.max(extent, axis=(1, 2)), 0).astype(jnp.int32)
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    marks = jnp.stack([rows, columns, -rows, -columns], -1).astype(jnp.int32)

    def mark(step: Int[Array, ""], found: Int[Array, "y x 4"]) -> Int[Array, "y x 4"]:
        place = base + jnp.stack([step % steps[0], step // steps[0]]).astype(base.dtype)[:, None, None]
        touched = usable & _touches(drops, place) & (place < limit).all(0) & (low < place + 0.5).all(0)
        touched = touched & (high > place - 0.5).all(0)
        x, y = place.astype(jnp.int32)
        return found.at[jnp.where(touched, y, shape[0]), x].min(marks, mode="drop")

    nowhere = max(height, width)
    found = jnp.full((*shape, 4), nowhere, jnp.int32)
    found = jax.lax.fori_loop(0, steps[0] * steps[1], mark, found)
    size = jnp.array(window)
    touched = found[..., :2] < nowhere
    lost = touched & (-found[..., 2:] - found[..., :2] >= size)
    first = jnp.clip(found[..., :2], 0, jnp.array([height, width]) - size)
    # Half the memory where flat indices are no larger.
    first = first.astype(jnp.int32 if usable.size <= jnp.iinfo(jnp.int32).max else int)
    return first, jnp.sum(lost.any(-1))


def _touches(drops: Float[Array, "*n 2 4"], place: Float[Array, " 2 *n"]) -> Bool[Array, "*n"]:
    """Tell whether no edge of a drop separates it from the output pixel at `place`."""
    x, y = drops[..., 0, :] - place[0][..., None], drops[..., 1, :] - place[1][..., None]
    along_x, along_y = jnp.roll(x, -1, -1) - x, jnp.roll(y, -1, -1) - y
    turn = jnp.sign(_signed_area(drops))[..., None]
    return (turn * (along_y * x - along_x * y) + 0.5 * (jnp.abs(along_x) + jnp.abs(along_y)) > 0).all(-1)
