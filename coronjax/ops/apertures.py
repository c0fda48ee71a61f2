"""Circular apertures on an image of the sky, and what the correlation of its pixels does to the error of sums."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._root import root
from .overlap import Overlap
from .spread import spread

APERTURE_RADII = (1.0, 2.5, 4.0)  # output pixels, for which the chain gives the factor
_PLACES = 8  # apertures along a side of the image, at most
_GAP = 4  # output pixels between the boxes around apertures: no drop falls on two apertures
_TURNS = (0.7548776662466927, 0.5698402909980532)  # steps that fill a square evenly


def aperture_mask(
    shape: tuple[int, ...], position: Float[Array, " 2"], radius: float | Float[Array, ""]
) -> Float[Array, "y x"]:
    r"""Return the part of every pixel that lies in a circle.

    $$ m = G(x_1, y_1) - G(x_0, y_1) - G(x_1, y_0) + G(x_0, y_0), \qquad
       G(x, y) = \tfrac12 \left( x s + y a + r^2 \left[ \arctan\tfrac{x}{s} - \arctan\tfrac{a}{y} \right] \right) $$

    $G$ is the area that the circle shares with $[0, x] \times [0, y]$; $s^2 = r^2 - x^2$ and $a^2 = r^2 - y^2$, and
    $G = xy$ where the corner lies inside. Exact, and so are its derivatives.

    Args:
        shape: rows and columns of the image.
        position: (x, y) of the centre, pixels.
        radius: pixels, above 0. Traced.

    Returns:
        Area of each pixel inside the circle, 0 to 1.

    Example:
        >>> round(float(aperture_mask((9, 9), jnp.array([4.2, 3.9]), 2.5).sum() / 2.5**2), 4)
        3.1416
    """
    position = jnp.asarray(position)
    radius = jnp.asarray(radius, position.dtype)
    x = jnp.arange(shape[1] + 1, dtype=position.dtype) - 0.5 - position[0]
    y = jnp.arange(shape[0] + 1, dtype=position.dtype) - 0.5 - position[1]
    areas = _corner_area(x, y[:, None], radius)
    return jnp.clip(jnp.diff(jnp.diff(areas, axis=0), axis=1), 0, 1)


def _corner_area(x: Array, y: Array, radius: Array) -> Array:
    """Area of the circle between the axes and (x, y), negative in the second and fourth quadrant."""
    right, up = jnp.where(x < 0, -1, 1), jnp.where(y < 0, -1, 1)  # never 0: nor is the derivative on an axis
    x, y = jnp.minimum(right * x, radius), jnp.minimum(up * y, radius)
    inside = x**2 + y**2 <= radius**2
    # As a product it is exactly 0 at the rim, where rounding of a difference of squares would be 1e-8 in its root.
    chord_x, chord_y = root((radius - x) * (radius + x)), root((radius - y) * (radius + y))
    angle = jnp.arctan2(x, chord_x) - jnp.arctan2(chord_y, y)
    return right * up * jnp.where(inside, x * y, 0.5 * (x * chord_x + y * chord_y + radius**2 * angle))


def at_apertures(table: Overlap, *, radii: tuple[float, ...] = APERTURE_RADII) -> Overlap:
    """Keep of a geometry what `correlation_factors` looks at: output pixels around apertures all over the image.

    Args:
        table: geometry of one exposure, from `overlap`.
        radii: of the apertures, output pixels. Static.

    Returns:
        `Overlap` whose output is [place pixel].

    Example:
        >>> y, x = jnp.mgrid[:20, :20]
        >>> at_apertures(overlap(jnp.stack([x, y], -1) * 1.0, output_shape=(20, 20), window=1)).share.shape
        (1, 1, 121)
    """
    rows, columns, _ = _places(table.share.shape[1:], math.ceil(max(radii) + 0.5))
    return Overlap(table.index[:, rows, columns], table.share[:, rows, columns], table.n_lost)


def correlation_factors(
    tables: Overlap,
    noise: Float[Array, "exp y_in x_in"],
    weight: Float[Array, "y x"],
    variance: Float[Array, "y x"],
    *,
    radii: tuple[float, ...] = APERTURE_RADII,
) -> Float[Array, " radius"]:
    r"""Find how much larger the error of an aperture sum is than pixels without correlation would make it.

    $$ c^2 = \left\langle \frac{\sum_e \sum_i g_{ei}^2 N_{ei}}{\sum_o m_o V_o} \right\rangle, \qquad
       g_{ei} = \sum_o \frac{s_{ei \to o} \, m_o}{W_o} $$

    $g$ is the drizzle's adjoint applied to the aperture $m$: the weight of every input pixel in its sum. The mean is
    over apertures spread evenly over the image (64 at most), with centres anywhere in a pixel; those with a pixel
    that nothing reached do not count. The denominator is the square of the error that `photutils` gives.

    Args:
        tables: geometry of every exposure at these apertures, from `at_apertures`, stacked.
        noise: variance of the weighted sum of each exposure's integrations, $\sum_k w_{ki}^2 V_{ki}$.
        weight: of the output pixels, $W$.
        variance: of the output pixels due to this noise, (MJy/sr)^2.
        radii: of the apertures, output pixels. Static.

    Returns:
        One factor for every radius; NaN where no aperture fits into the image.

    Example:
        >>> y, x = jnp.mgrid[:40, :40]
        >>> table = at_apertures(overlap(jnp.stack([x, y], -1) + 0.5, output_shape=(40, 40)))
        >>> ones = jnp.ones((40, 40))
        >>> tables = jax.tree.map(lambda a: a[None], table)
        >>> bool(correlation_factors(tables, ones[None], ones, ones / 4)[2] > 1.7)  # 2 but for the rim
        True
    """
    half = math.ceil(max(radii) + 0.5)
    rows, columns, offsets = _places(weight.shape, half)
    if rows.size == 0:
        return jnp.full(len(radii), jnp.nan, weight.dtype)
    centres = jnp.asarray(half + offsets, weight.dtype)
    boxes = jax.vmap(lambda r: jax.vmap(lambda c: aperture_mask((2 * half + 1,) * 2, c, r))(centres))
    masks = boxes(jnp.asarray(radii, weight.dtype)).reshape(len(radii), *rows.shape)
    behind, spoken = weight[rows, columns], variance[rows, columns]
    known = (behind > 0) & (spoken > 0) & jnp.isfinite(spoken)
    naive = jnp.sum(masks * jnp.where(known, spoken, 0), -1)
    counts = jnp.all(known | (masks == 0), -1) & (naive > 0)
    share = jnp.where(known, masks / jnp.where(known, behind, 1), 0)
    asked = jnp.where(counts, 1 / jnp.sqrt(jnp.where(counts, naive, 1)), 0)[..., None] * share

    def add(total: Array, exposure: tuple[Array, Array, Array]) -> tuple[Array, None]:
        index, part, own = exposure
        here = Overlap(index, part, jnp.zeros((), jnp.int32))
        images = jnp.zeros((len(radii), *own.shape), own.dtype)
        (given,) = jax.linear_transpose(lambda values: spread(here, values), images)(asked.astype(own.dtype))
        return total + jnp.sum(given**2 * own, (1, 2)), None

    total, _ = jax.lax.scan(add, jnp.zeros(len(radii), noise.dtype), (tables.index, tables.share, noise))
    number = jnp.sum(counts, 1)
    found = (number > 0) & (total > 0)
    return jnp.where(found, jnp.sqrt(jnp.where(found, total / jnp.maximum(number, 1), 1)), jnp.nan)


def _places(shape: tuple[int, ...], half: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the pixels in boxes around apertures [place pixel]; offsets of their centres [place 2]."""
    starts = []
    for length in shape:
        step = max(2 * half + 1 + _GAP, -(-length // _PLACES))
        free = np.arange(0, length - 2 * half, step)
        starts.append(free + (length - 2 * half - 1 - free[-1]) // 2 if free.size else free)
    first = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 2)
    inside = np.indices((2 * half + 1, 2 * half + 1)).reshape(2, -1)
    offsets = (np.arange(1, len(first) + 1)[:, None] * _TURNS) % 1 - 0.5
    return first[:, :1] + inside[0], first[:, 1:] + inside[1], offsets
