"""The drops of drizzle: their corners, and how much of each falls on a pixel."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Corner = tuple[Array, Array]  # x and y
Drop = tuple[Corner, ...]  # four corners, anticlockwise in input coordinates


def drops_of(pixel_map: Float[Array, "y x 2"], pixfrac: float | Float[Array, ""]) -> tuple[Drop, Bool[Array, "y x"]]:
    """Return the corners of every drop, and which drops have all of them."""
    half = jnp.asarray(pixfrac, pixel_map.dtype) / 2
    known = jnp.isfinite(pixel_map).all(-1)
    mark = jnp.where(known, jnp.zeros_like(half), jnp.nan)  # spreads to the corners that need the pixel
    x, y = (jnp.where(known, pixel_map[..., axis], 0) for axis in (0, 1))
    marks = _at_corners(mark, jax.lax.stop_gradient(half))
    complete = functools.reduce(jnp.logical_and, map(jnp.isfinite, marks))
    drops = tuple(zip(_at_corners(x, half), _at_corners(y, half), strict=True))
    return drops, complete & (signed_area(drops) != 0)


@jax.jit  # traced and lowered once for all images
def _at_corners(centres: Float[Array, "y x"], half: Float[Array, ""]) -> tuple[Float[Array, "y x"], ...]:
    """Interpolate between the centres of pixels at the four corners of each drop."""
    left, right = (centres + sign * half * _slope(centres, 1, sign) for sign in (-1, 1))
    corners = (left, -1), (right, -1), (right, 1), (left, 1)
    return tuple(along_x + sign * half * _slope(along_x, 0, sign) for along_x, sign in corners)


def _slope(array: Float[Array, "y x"], axis: int, sign: int) -> Float[Array, "y x"]:
    """Return the slope between a pixel and its neighbour on one side; at the border, that on the other side."""
    step = jnp.diff(array, axis=axis)
    if sign > 0:
        return jnp.concatenate([step, jax.lax.slice_in_dim(step, -1, None, axis=axis)], axis)
    return jnp.concatenate([jax.lax.slice_in_dim(step, 0, 1, axis=axis), step], axis)


def signed_area(drop: Drop) -> Float[Array, "*n"]:
    """Return the area of quadrilaterals, positive when their corners run anticlockwise."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = drop
    return 0.5 * ((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0))


def share_in_pixel(drop: Drop) -> Float[Array, "*n"]:
    """Return the part of quadrilaterals that lies in the unit square."""
    inside, area = _area_inside(drop), signed_area(drop)
    share = inside / jnp.where(area == 0, 1, area)
    # Below rounding an overlap is as good as none: it must not set a weight or a bit of the context.
    overlapping = (area != 0) & (jnp.abs(inside) > 100 * float(jnp.finfo(inside.dtype).eps))
    return jnp.where(overlapping, jnp.maximum(share, 0), 0)


def edges(drop: Drop) -> Iterator[tuple[Corner, Corner]]:
    """Its four sides, from corner to corner."""
    return zip(drop, (*drop[1:], drop[0]), strict=True)


@jax.custom_jvp
def _area_inside(drop: Drop) -> Float[Array, "*n"]:
    """Return the signed area that quadrilaterals share with the unit square, by Green's theorem edge by edge."""
    return sum((_area_below(*edge) for edge in edges(drop)), jnp.zeros_like(drop[0][0]))


@jax.jit  # traced and lowered once for all edges
def _area_below(start: Corner, end: Corner) -> Float[Array, "*n"]:
    """Return the signed area of the unit square below an edge: the integral over x of the edge's height, clamped to it.

    No term cancels another.
    """
    (x0, y0), (x1, y1) = start, end
    left, right = jnp.clip(x0, 0, 1), jnp.clip(x1, 0, 1)
    upright = jnp.abs(x1 - x0) < float(jnp.finfo(x0.dtype).eps) ** 2
    run = jnp.where(upright, 1, x1 - x0)
    at_left = y0 + (y1 - y0) * jnp.where(upright, 0, jnp.clip((left - x0) / run, 0, 1))
    at_right = y0 + (y1 - y0) * jnp.where(upright, 1, jnp.clip((right - x0) / run, 0, 1))
    return (left - right) * (_mean_positive(at_left, at_right) - _mean_positive(at_left - 1, at_right - 1))


def _mean_positive(a: Array, b: Array) -> Array:
    """Return the mean of max(t, 0) while t runs from a to b."""
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    crossing = (low < 0) & (high > 0)
    span = jnp.where(crossing, high - low, 1)
    return jnp.where(crossing, 0.5 * high * (high / span), jnp.where(low >= 0, 0.5 * (low + high), 0))


@_area_inside.defjvp
def _area_inside_jvp(primals: tuple[Drop], tangents: tuple[Drop]) -> tuple[Array, Array]:
    r"""Differentiate by what the moving edges sweep over inside the square.

    An edge from $a$ to $b$, inside the square for $t_0 < t < t_1$, sweeps
    $\int_{t_0}^{t_1} ((1 - t) \dot a + t \dot b) \times (b - a) \, dt$. Differentiating the clamps and quotients of the
    area itself gives the same, with many times the work to compile and to run.
    """
    (drop,), (moved,) = primals, tangents
    swept = jnp.zeros_like(drop[0][0])
    for (start, end), (moved_start, moved_end) in zip(edges(drop), edges(moved), strict=True):
        run = end[0] - start[0], end[1] - start[1]
        first, last = _inside_from_to(start, run)
        at_end = 0.5 * (last**2 - first**2)
        at_start = last - first - at_end
        x, y = (at_start * a + at_end * b for a, b in zip(moved_start, moved_end, strict=True))
        swept += x * run[1] - y * run[0]
    return _area_inside(drop), swept


def _inside_from_to(origin: Corner, run: Corner) -> tuple[Array, Array]:
    """Return the first and last t in [0, 1] at which origin + t * run lies in the unit square; equal if none does."""
    enter, leave, never = [], [], []
    for place, speed in zip(origin, run, strict=True):
        parallel = jnp.abs(speed) < float(jnp.finfo(speed.dtype).eps) ** 2
        step = jnp.where(parallel, 1, speed)
        low, high = -place / step, (1 - place) / step
        enter.append(jnp.where(parallel, 0, jnp.minimum(low, high)))
        leave.append(jnp.where(parallel, 1, jnp.maximum(low, high)))
        # An edge along a side of the square belongs to one of the two pixels it divides.
        never.append(parallel & ((place < 0) | (place >= 1)))
    first, last = jnp.clip(jnp.maximum(*enter), 0, 1), jnp.clip(jnp.minimum(*leave), 0, 1)
    return first, jnp.where(never[0] | never[1], first, jnp.maximum(first, last))
