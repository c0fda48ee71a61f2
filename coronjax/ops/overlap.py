"""The geometry of drizzle: which input pixels cover which output pixels, and by how much."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._drop import Drop, drops_of, edges, share_in_pixel, signed_area


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
    drops, usable = drops_of(pixel_map, pixfrac)
    usable = usable if used is None else usable & used
    first, n_lost = _window_start(jax.lax.stop_gradient(drops), usable, output_shape, (rows, columns))
    offsets = jnp.indices((rows, columns), first.dtype).reshape(2, -1, 1, 1)
    index = (first[0] + offsets[0]) * width + first[1] + offsets[1]
    return Overlap(index, _shares(drops, usable, index), n_lost)


def _fetched_shares(
    drops: Drop, usable: Bool[Array, "y_in x_in"], index: Int[Array, "*k y x"]
) -> Float[Array, "*k y x"]:
    """Return the part of each of those drops that falls on the output pixel.

    Every coordinate is fetched by itself, so that the compiler makes one loop of it all and writes only the shares.
    """
    ny, nx = index.shape[-2:]
    left, below = jnp.arange(nx) - 0.5, jnp.arange(ny)[:, None] - 0.5
    drop = tuple((x.ravel()[index] - left, y.ravel()[index] - below) for x, y in drops)
    return jnp.where(usable.ravel()[index], share_in_pixel(drop), 0)


@jax.custom_jvp
def _shares(drops: Drop, usable: Bool[Array, "y_in x_in"], index: Int[Array, "k y x"]) -> Float[Array, "k y x"]:
    """Return the same, of all places of the window at once."""

    def nothing(*_: Any) -> Float[Array, "k y x"]:
        return jnp.zeros(index.shape, drops[0][0].dtype)

    # What a branch returns the compiler does not work out again, or in parts, for each use of it.
    return jax.lax.cond(jnp.any(usable), _fetched_shares, nothing, drops, usable, index)


@_shares.defjvp
def _shares_jvp(primals: tuple[Drop, Array, Array], tangents: tuple[Drop, Any, Any]) -> tuple[Array, Array]:
    """One place of the window after the other, or every coordinate would be kept for each of them."""
    drops, usable, index = primals

    @jax.checkpoint
    def one(index: Int[Array, "y x"]) -> Float[Array, "y x"]:
        return jax.jvp(lambda drops: _fetched_shares(drops, usable, index), (drops,), (tangents[0],))[1]

    return _shares(drops, usable, index), jax.lax.map(one, index)


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


def _window_start(
    drops: Drop, usable: Bool[Array, "y_in x_in"], shape: tuple[int, int], window: tuple[int, int]
) -> tuple[Int[Array, "2 y x"], Int[Array, ""]]:
    """Return the first input row and column that each output pixel touches, and how many output pixels touch more.

    Every drop marks the output pixels that it touches, one place of its bounding box after the other.
    """
    (height, width), (ny, nx) = usable.shape, shape
    xs, ys = zip(*drops, strict=True)
    (left, wide), (below, high) = _places(xs, usable, nx), _places(ys, usable, ny)
    sides = _sides(tuple((x - left, y - below) for x, y in drops))
    left, wide, below, high = (image.astype(jnp.int32) for image in (left, wide, below, high))
    most = jnp.maximum(jnp.max(wide), 0), jnp.maximum(jnp.max(high), 0)
    rows, columns = jnp.indices((height, width), jnp.int32)
    marks = jnp.stack([rows, columns, -rows, -columns], -1).reshape(-1, 4)

    def mark(step: Int[Array, ""], found: Int[Array, "pixel 4"]) -> Int[Array, "pixel 4"]:
        x, y = step % most[0], step // most[0]
        touched = functools.reduce(jnp.logical_and, (c + b * y - a * x > 0 for a, b, c in sides))
        touched = touched & (x < wide) & (y < high)
        pixel = jnp.where(touched, (below + y) * nx + left + x, ny * nx)
        return found.at[pixel.ravel()].min(marks, mode="drop")

    nowhere = max(height, width)
    found = jnp.full((ny * nx, 4), nowhere, jnp.int32)
    found = jax.lax.fori_loop(0, most[0] * most[1], mark, found).reshape(ny, nx, 4)
    size = jnp.array(window)
    touched = found[..., :2] < nowhere
    lost = touched & (-found[..., 2:] - found[..., :2] >= size)
    first = jnp.clip(found[..., :2], 0, jnp.array([height, width]) - size)
    # Half the memory where flat indices are no larger.
    first = first.astype(jnp.int32 if usable.size <= jnp.iinfo(jnp.int32).max else int)
    return jnp.moveaxis(first, -1, 0), jnp.sum(lost.any(-1))


def _places(corners: tuple[Array, ...], usable: Bool[Array, "*n"], n: int) -> tuple[Array, Array]:
    """Along one axis of `n` output pixels, the first that each drop's bounding box touches, and how many it does."""
    low, high = functools.reduce(jnp.minimum, corners), functools.reduce(jnp.maximum, corners)
    base = jnp.clip(jnp.floor(low + 0.5), 0, n)
    return base, jnp.where(usable, jnp.clip(jnp.ceil(high - 0.5), -1, n - 1) - base + 1, 0)


def _sides(drops: Drop) -> list[tuple[Array, Array, Array]]:
    """For each edge the a, b, c with which c - a x + b y > 0 where it does not separate the drop from a pixel."""
    turn, sides = jnp.sign(signed_area(drops)), []
    for (x0, y0), (x1, y1) in edges(drops):
        along_x, along_y = x1 - x0, y1 - y0
        reach = 0.5 * (jnp.abs(along_x) + jnp.abs(along_y))
        sides.append((turn * along_y, turn * along_x, turn * (along_y * x0 - along_x * y0) + reach))
    return sides
