"""The objective of a registration, with all linear parameters eliminated, and its minimum."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from ._correlation import (
    ROUNDING,
    Series,
    SquareSpectrum,
    power_series,
    product_series,
    square_spectrum,
)
from ._newton import Minimum, Objective, eigenvalues, inverse, minimise, symmetric_times

Derivatives = tuple[Array, Array, Array]  # value, gradient, Hessian


class Tables(NamedTuple):
    """The series at a shift, with derivatives: [order in sy, order in sx]."""

    product: Float[Array, "3 3"]  # sum W^2 T S
    power: Float[Array, "3 3"]  # sum W^2 S^2
    mean: Float[Array, "3 3"] | None  # sum W^2 S, where a pedestal is fitted


class Moving(NamedTuple):
    """What registration needs of the moving image, whatever weight and target."""

    spectrum: Complex[Array, "y k"]
    square: SquareSpectrum
    offset: Float[Array, ""] | None  # taken off first, where a pedestal is fitted


class Weighted(NamedTuple):
    """What registration needs of the moving image under a weight, whatever the target."""

    weight: Float[Array, "y x"]
    total: Float[Array, ""]  # sum W^2, 1 where that is zero
    integer_power: Float[Array, "i j"]  # sum W^2 R(x - s)^2 at the first shifts tried, less what a pedestal takes
    power: Series  # sum W^2 S^2 at any shift
    mean: Series | None  # sum W^2 S, where a pedestal is fitted
    floor: Float[Array, ""]  # power that is rounding


class Solution(NamedTuple):
    """The minimum, with the inverse of the relative curvature: in (sx, sy, log scale), over scale^2 sum W^2 S^2."""

    shift: Float[Array, "2"]
    scale: Float[Array, ""]
    slope_unit: Float[Array, ""]  # scale * sum W^2 S^2
    inverse: Float[Array, "3 3"]
    determined: Bool[Array, ""]
    converged: Bool[Array, ""]
    n_iterations: Int[Array, ""]
    # Of S and its derivatives in the shift (those first) where a pedestal is fitted; at the minimum, determined or not.
    means: Float[Array, "3"] | None


def weighted_mean(image: Float[Array, "y x"], squared: Float[Array, "y x"]) -> Float[Array, ""]:
    """Mean under the square of a weight; 0 where nothing has weight."""
    total = jnp.sum(squared)
    return jnp.sum(squared * image) / jnp.where(total > 0, total, 1)


def prepare(moving: Float[Array, "y x"], weight: Float[Array, "y x"], pedestal: bool) -> Moving:
    """The spectra of the moving image; about a mean where a pedestal is fitted, so that no digits are lost to it."""
    offset = weighted_mean(moving, weight**2) if pedestal else None
    if offset is not None:
        moving = moving - offset
    ny, nx = moving.shape
    spectrum = jnp.fft.rfft2(moving)
    return Moving(spectrum, square_spectrum(spectrum, (ny, nx)), offset)


def weigh(moving: Moving, weight: Float[Array, "y x"], search: int | None) -> Weighted:
    """The energy of the shifted image under a weight; about its weighted mean where a pedestal is fitted."""
    (ny, nx), squared = weight.shape, weight**2
    spectrum, total = jnp.fft.rfft2(squared), jnp.sum(squared)
    total = jnp.where(total > 0, total, 1)
    power = power_series(moving.square, spectrum)
    shifts = _integer_shifts((ny, nx), search)
    at_integers = power.on_grid(*shifts)
    mean, floor = None, jnp.zeros((), weight.dtype)
    if moving.offset is not None:
        mean = product_series(spectrum, moving.spectrum, (ny, nx))
        at_integers = at_integers - mean.on_grid(*shifts) ** 2 / total
        floor = _rounding(moving.offset, total)
    return Weighted(weight, total, at_integers, power, mean, floor)


def _rounding(level: Float[Array, ""], total: Float[Array, ""]) -> Float[Array, ""]:
    """The energy about its mean that a flat image of that level seems to have."""
    return (1e4 * jnp.finfo(level.dtype).eps * level) ** 2 * total


def solve(
    target: Float[Array, "y x"],
    moving: Moving,
    weighted: Weighted,
    search: int | None,
    prefer_near: float | Array,
    max_iterations: int | Array,
) -> Solution:
    """The minimum, without derivatives."""
    ny, nx = target.shape
    squared, floor = weighted.weight**2, jnp.zeros((), target.dtype)
    if weighted.mean is not None:
        level = weighted_mean(target, squared)
        target, floor = target - level, _rounding(level, weighted.total)
    correlated = jnp.fft.rfft2(squared * target)
    product = product_series(correlated, moving.spectrum, (ny, nx))
    energy = jnp.sum((weighted.weight * target) ** 2)
    start = jnp.zeros(2, energy.dtype)
    if search != 0:
        start = _coarse_start(product, weighted, energy, _integer_shifts((ny, nx), search), prefer_near)
    unit = jnp.where(energy > 0, energy, 1)

    def look(shift: Array) -> Tables:
        mean = None if weighted.mean is None else weighted.mean.derivatives(shift)
        return Tables(product.derivatives(shift), weighted.power.derivatives(shift), mean)

    def objective(seen: Tables) -> Objective:
        of_rounding = product.rounding, weighted.power.rounding
        return Objective(*(a / unit for a in _projected(*_about_mean(seen, weighted.total), *of_rounding)))

    nothing = jnp.zeros((3, 3), start.dtype)
    unseen = Tables(nothing, nothing, None if weighted.mean is None else nothing)
    minimum = minimise(look, objective, start, unseen, max_iterations)
    cross, power = _about_mean(minimum.seen, weighted.total)
    found = _describe(minimum, cross, power, (power[0] > weighted.floor) & (energy > floor))
    return found._replace(means=_means(moving, weighted, minimum.seen))


def _means(moving: Moving, weighted: Weighted, seen: Tables) -> Float[Array, "3"] | None:
    """Weighted means of the shifted image and its derivatives, those first."""
    if seen.mean is None or moving.offset is None:
        return None
    m, dm, _ = _ordered(seen.mean)
    return jnp.append(dm, m) / weighted.total + jnp.array([0.0, 0.0, 1.0], dm.dtype) * moving.offset


def _about_mean(seen: Tables, total: Array) -> tuple[Derivatives, Derivatives]:
    """Sums of W^2 T S and of W^2 S^2, the latter about the weighted mean where there is a pedestal."""
    q, dq, ddq = _ordered(seen.power)
    if seen.mean is not None:
        m, dm, ddm = _ordered(seen.mean)
        q, dq = q - m**2 / total, dq - 2 * m * dm / total
        ddq = ddq - 2 * (dm[:, None] * dm + m * ddm) / total
    return _ordered(seen.product), (q, dq, ddq)


def _ordered(table: Float[Array, "3 3"]) -> Derivatives:
    """Value, gradient and Hessian in (sx, sy) out of [order in sy, order in sx]."""
    ordered = jnp.sum(jnp.where(_ORDERS, table, 0), axis=(1, 2))
    return ordered[0], ordered[1:3], ordered[3:].reshape(2, 2)


# Where the value, the gradient and the Hessian stand, order in sy before order in sx. One sum for all seven: to pick
# them one by one and to stack them again is a hundred operations to compile.
_ORDERS = np.zeros((7, 3, 3), bool)
_ORDERS[range(7), [0, 0, 1, 0, 1, 1, 2], [0, 1, 0, 2, 1, 1, 0]] = True


def _coarse_start(
    product: Series,
    weighted: Weighted,
    energy: Array,
    shifts: tuple[np.ndarray, np.ndarray],
    prefer_near: float | Array,
) -> Float[Array, "2"]:
    """The integer shift with the least objective, or the least within a pixel of zero where it is about as good."""
    found, (shifts_y, shifts_x) = product.on_grid(*shifts), shifts
    floor = jnp.finfo(found.dtype).eps ** 0.75 * jnp.max(weighted.integer_power)
    floor = jnp.maximum(floor, weighted.power.rounding)
    power = jnp.maximum(weighted.integer_power, jnp.where(floor > 0, floor, 1))
    left = energy - found * jnp.abs(found) / power  # images that are alike go before mirrored ones
    far = np.maximum(np.abs(shifts_y)[:, None], np.abs(shifts_x)) > 1
    row, column = jnp.unravel_index(jnp.argmin(jnp.where(far, left / (1 - prefer_near), left)), left.shape)
    return jnp.stack([jnp.asarray(shifts_x)[column], jnp.asarray(shifts_y)[row]]).astype(found.dtype)


def _integer_shifts(shape: tuple[int, ...], search: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The shifts along y and x that the coarse start tries."""
    reaches = [n // 2 if search is None else min(search, n // 2) for n in shape]
    rows, columns = (np.arange(-reach, min(reach + 1, n - reach)) for n, reach in zip(shape, reaches, strict=True))
    return rows, columns


def _projected(cross: Derivatives, power: Derivatives, cross_rounding: Array, power_rounding: Array) -> Objective:
    """Half the objective with the scale eliminated, less a constant: -c^2 / 2q.

    Of what a pedestal takes off the power the rounding is negligible: nothing is squared there.
    """
    (c, dc, ddc), (q, dq, ddq) = cross, power
    q = jnp.where(q > 0, q, 1)
    scale = c / q
    value = -scale * c / 2
    slope = (dc - scale * dq) / q  # of the scale
    gradient = -scale * (dc - scale * dq / 2)
    curvature = -scale * (ddc - scale * ddq / 2) - q * slope[:, None] * slope
    rounding = jnp.abs(scale) * (cross_rounding + jnp.abs(scale) / 2 * power_rounding)
    rounding = rounding + ROUNDING * jnp.finfo(value.dtype).eps * jnp.abs(value)
    return Objective(jnp.where(c > 0, value, 0), gradient, curvature, rounding)


def _describe(minimum: Minimum[Tables], cross: Derivatives, power: Derivatives, structured: Array) -> Solution:
    """Scale and relative curvature at the minimum, and whether that curvature is more than rounding."""
    (c, dc, ddc), (q, dq, ddq) = cross, power
    usable = structured & (q > 0) & (c != 0)
    c, q = jnp.where(usable, c, 1), jnp.where(usable, q, 1)
    slope = dq / q - dc / c
    of_shift = ddq / (2 * q) - ddc / c
    reduced = of_shift - slope[:, None] * slope  # the scale eliminated
    determined = usable & (eigenvalues(reduced)[0] > 1e4 * jnp.finfo(c.dtype).eps)
    of_shift_inverse = inverse(jnp.where(determined, reduced, jnp.eye(2, dtype=c.dtype)))
    column = -symmetric_times(of_shift_inverse, slope)
    corner = 1 - jnp.sum(slope * column)
    rows = jnp.concatenate([of_shift_inverse, column[:, None]], axis=1), jnp.append(column, corner)[None]
    return Solution(
        jnp.where(determined, minimum.params, 0),
        jnp.where(determined, c / q, 1),
        jnp.where(determined, c, 1),
        jnp.concatenate(rows),
        determined,
        minimum.converged & determined,
        minimum.n_iterations,
        None,
    )
