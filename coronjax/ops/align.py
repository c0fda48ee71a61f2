"""Register one image to another: the shift and the flux scale between them, with errors and derivatives."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from ._correlation import Series, integer_products, power_series, product_series
from ._newton import Minimum, eigenvalues, inverse, minimise
from .shift import shift_derivatives

SEARCH, PREFER_NEAR, MAX_ITERATIONS = 8, 0.1, 50  # pixels; share of the objective; four to seven are usual


class Registration(eqx.Module):
    """The shift and scale that take the moving image to its target, and how well they are known.

    Where nothing decides (an image or the weight is zero, or flat to rounding) the shift is 0, the scale 1, the
    standard errors 0, and `converged` false.
    """

    shift: Float[Array, "*planes 2"]  # (sx, sy), pixels
    scale: Float[Array, "*planes"]  # target over moving flux
    converged: Bool[Array, "*planes"]  # the minimum was found
    n_iterations: Int[Array, "*planes"]  # evaluations of the objective after the coarse search
    residual: Float[Array, "*planes"]  # sqrt(sum (residual W)^2 / sum W^2), in the images' unit
    standard_error: Float[Array, "*planes 3"]  # of sx, sy (pixels) and scale; carries no derivative


class _Moving(NamedTuple):
    """What registration needs of the moving image and the weight, whatever the target."""

    spectrum: Complex[Array, "y k"]
    integer_power: Float[Array, "y x"]  # sum W^2 R(x - s)^2 at integer shifts
    power: Series  # the same at any shift


class _Solution(NamedTuple):
    """The minimum, with the inverse of the relative curvature: in (sx, sy, log scale), over scale^2 sum W^2 S^2."""

    shift: Float[Array, "2"]
    scale: Float[Array, ""]
    slope_unit: Float[Array, ""]  # scale * sum W^2 S^2
    inverse: Float[Array, "3 3"]
    determined: Bool[Array, ""]
    converged: Bool[Array, ""]
    n_iterations: Int[Array, ""]


@partial(jax.jit, static_argnames=("search",))
def register(
    target: Float[Array, "y x"],
    moving: Float[Array, "y x"],
    weight: Float[Array, "y x"],
    *,
    search: int | None = SEARCH,
    prefer_near: float | Float[Array, ""] = PREFER_NEAR,
    max_iterations: int | Int[Array, ""] = MAX_ITERATIONS,
) -> Registration:
    r"""Find the shift and scale that take `moving` to `target` in the weighted least-squares sense.

    $$ \min_{s_x, s_y, \beta} \sum_{yx} \left[ \left( T - \beta\, S(R; s_x, s_y) \right) W \right]^2 $$

    with $S$ of `fourier_shift`. The best scale of a shift is $\beta(s) = c(s) / q(s)$, $c = \sum W^2 T S$,
    $q = \sum W^2 S^2$, which leaves $-c^2/q$ to minimise. At integer shifts two correlations give it exactly: their
    best is the start. From there $c$ and $q$ are read, with their derivatives, from their Fourier series in $s$ for a
    damped Newton iteration. Everything about $q$ depends on `moving` and `weight` alone and is done once under `vmap`
    with `in_axes=None` for the two.

    Derivatives in the three images are those of the minimum itself, by the implicit function theorem: one Newton step
    at the minimum, $p^* - H^{-1} g(p^*; T, R, W)$, in which only $g$ is differentiated. First order, both modes.

    Standard errors are $H^{-1} \left[ \sum W^4 r^2\, \nabla m \nabla m^T \right] H^{-1}$ with $m = \beta S$ and
    residual $r$: right for independent pixel noise of any distribution, whatever the weight.

    In float64 the result is within 1e-9 pixel of the minimum; in float32 within about 1e-4, if no pixel without
    weight is far brighter than those with.

    Args:
        target: any unit, finite.
        moving: same unit, finite.
        weight: multiplies the residual; 0 leaves a pixel out.
        search: largest integer shift tried along an axis by the coarse start, pixels; None: half the frame. Static.
        prefer_near: start farther than one pixel away along an axis only where the objective is lower by this share
            than nearer to zero. Where a mask fixed on the detector dominates, the least of several minima need not be
            the star; telescopes point better than a pixel. 0 starts from the least of all. Traced.
        max_iterations: most Newton iterations; traced.

    Returns:
        `Registration`. `fourier_shift(target, -shift)` lies where `moving` does.

    Raises:
        ValueError: the three differ in shape.

    Example:
        >>> star = jnp.exp(-0.1 * jnp.hypot(*jnp.mgrid[-8:9, -8:9]) ** 2)
        >>> moved = 3.0 * fourier_shift(star, jnp.array([1.5, -0.5]))
        >>> [round(float(v), 3) for v in register(moved, star, jnp.ones_like(star)).shift]
        [1.5, -0.5]

    Source: the objective of align_refs of calwebb_coron3, jwst 3.0.0. Golub & Pereyra (1973) for the elimination of
    the scale; White (1980) for the errors.
    """
    if not target.shape == moving.shape == weight.shape:
        raise ValueError(f"target {target.shape}, moving {moving.shape} and weight {weight.shape} differ in shape")
    dtype = jnp.result_type(target, moving, weight, jnp.float32)
    target, moving, weight = (jnp.asarray(a, dtype) for a in (target, moving, weight))
    found = _solve(*jax.lax.stop_gradient((target, moving, weight)), search, prefer_near, max_iterations)
    return _polish(found, target, moving, weight)


@partial(jax.jit, static_argnames=("search", "batch_size"))
def register_all(
    targets: Float[Array, "plane y x"],
    moving: Float[Array, "y x"],
    weight: Float[Array, "y x"],
    valid: Bool[Array, " plane"],
    *,
    search: int | None = SEARCH,
    prefer_near: float | Float[Array, ""] = PREFER_NEAR,
    max_iterations: int | Int[Array, ""] = MAX_ITERATIONS,
    batch_size: int = 2,
) -> Registration:
    """Register one image to every plane of a stack, a few planes at a time.

    Args:
        targets: any unit, finite where `valid`.
        moving: same unit, finite.
        weight: multiplies the residual; 0 leaves a pixel out.
        valid: planes that count. Others have shift 0, scale 1 and residual 0, and no derivative.
        search: as in `register`. Static.
        prefer_near: as in `register`; traced.
        max_iterations: as in `register`; traced.
        batch_size: planes worked on at once: bounds the memory. Static.

    Returns:
        `Registration` with a leading plane axis.

    Raises:
        ValueError: planes, `moving` and `weight` differ in shape.

    Example:
        >>> star = jnp.exp(-0.1 * jnp.hypot(*jnp.mgrid[-8:9, -8:9]) ** 2)
        >>> register_all(jnp.stack([star, star]), star, jnp.ones_like(star), jnp.array([True, False])).converged
        Array([ True, False], dtype=bool)

    Source: see `register`.
    """

    def one(plane: tuple[Array, Array]) -> Registration:
        target, counts = plane
        used = jnp.where(counts, target, 0)
        result = register(used, moving, weight, search=search, prefer_near=prefer_near, max_iterations=max_iterations)
        return eqx.tree_at(lambda r: r.residual, result, jnp.where(counts, result.residual, 0))

    planes = targets.shape[0]
    batches = -(-planes // batch_size)
    size = -(-planes // batches)
    spare = batches * size - planes  # equal batches: one program for all of them
    stack = jnp.pad(targets, ((0, spare), (0, 0), (0, 0))), jnp.pad(jnp.asarray(valid), (0, spare))
    results = jax.lax.map(one, stack, batch_size=size)
    return jax.tree.map(lambda leaf: leaf[:planes], results)


def _solve(
    target: Array,
    moving: Array,
    weight: Array,
    search: int | None,
    prefer_near: float | Array,
    max_iterations: int | Array,
) -> _Solution:
    """The minimum, without derivatives."""
    ny, nx = target.shape
    prepared = _prepare(moving, weight)
    weighted = jnp.fft.rfft2(weight**2 * target)
    product = product_series(weighted, prepared.spectrum, (ny, nx))
    energy = jnp.sum((weight * target) ** 2)
    start = _coarse_start(weighted, prepared, energy, search, prefer_near)
    unit = jnp.where(energy > 0, energy, 1)

    def objective(shift: Array) -> tuple[Array, Array, Array]:
        value, gradient, curvature = _projected(product, prepared.power, shift)
        return value / unit, gradient / unit, curvature / unit

    return _describe(product, prepared.power, minimise(objective, start, max_iterations))


def _prepare(moving: Array, weight: Array) -> _Moving:
    ny, nx = moving.shape
    squared, spectrum = weight**2, jnp.fft.rfft2(moving)
    at_integers = integer_products(jnp.fft.rfft2(squared), jnp.fft.rfft2(moving**2), (ny, nx))
    return _Moving(spectrum, at_integers, power_series(moving, squared))


def _coarse_start(
    weighted: Array, moving: _Moving, energy: Array, search: int | None, prefer_near: float | Array
) -> Float[Array, "2"]:
    """The integer shift with the least objective, or the least within a pixel of zero where it is about as good."""
    ny, nx = moving.integer_power.shape
    product = integer_products(weighted, moving.spectrum, (ny, nx))
    floor = jnp.finfo(product.dtype).eps ** 0.75 * jnp.max(moving.integer_power)
    power = jnp.maximum(moving.integer_power, jnp.where(floor > 0, floor, 1))
    shifts_y, shifts_x = _integer_shifts(ny, search), _integer_shifts(nx, search)
    gain = product * jnp.abs(product) / power  # images that are alike go before mirrored ones
    left = (energy - gain)[np.ix_(shifts_y % ny, shifts_x % nx)]
    far = np.maximum(np.abs(shifts_y)[:, None], np.abs(shifts_x)) > 1
    row, column = jnp.unravel_index(jnp.argmin(jnp.where(far, left / (1 - prefer_near), left)), left.shape)
    return jnp.stack([jnp.asarray(shifts_x)[column], jnp.asarray(shifts_y)[row]]).astype(product.dtype)


def _integer_shifts(n: int, search: int | None) -> np.ndarray:
    """The shifts along an axis of `n` pixels that the coarse start tries."""
    reach = n // 2 if search is None else min(search, n // 2)
    return np.arange(-reach, min(reach + 1, n - reach))


def _projected(product: Series, power: Series, shift: Array) -> tuple[Array, Array, Array]:
    """Half the objective with the scale eliminated, less a constant: -c^2 / 2q, its gradient and Hessian."""
    c, dc, ddc = product.derivatives(shift)
    q, dq, ddq = power.derivatives(shift)
    q = jnp.where(q > 0, q, 1)
    scale = c / q
    slope = (dc - scale * dq) / q  # of the scale
    gradient = -scale * (dc - scale * dq / 2)
    curvature = -scale * (ddc - scale * ddq / 2) - q * jnp.outer(slope, slope)
    return jnp.where(c > 0, -scale * c / 2, 0), gradient, curvature


def _describe(product: Series, power: Series, minimum: Minimum) -> _Solution:
    """Scale and relative curvature at the minimum, and whether that curvature is more than rounding."""
    shift = minimum.params
    c, dc, ddc = product.derivatives(shift)
    q, dq, ddq = power.derivatives(shift)
    usable = (q > 0) & (c != 0)
    c, q = jnp.where(usable, c, 1), jnp.where(usable, q, 1)
    cross = dq / q - dc / c
    of_shift = ddq / (2 * q) - ddc / c
    reduced = of_shift - jnp.outer(cross, cross)  # the scale eliminated
    determined = usable & (eigenvalues(reduced)[0] > 1e4 * jnp.finfo(c.dtype).eps)
    of_shift_inverse = inverse(jnp.where(determined, reduced, jnp.eye(2, dtype=c.dtype)))
    column = -of_shift_inverse @ cross
    corner = 1 - cross @ column
    return _Solution(
        jnp.where(determined, shift, 0),
        jnp.where(determined, c / q, 1),
        jnp.where(determined, c, 1),
        jnp.block([[of_shift_inverse, column[:, None]], [column[None], corner[None, None]]]),
        determined,
        minimum.converged & determined,
        minimum.n_iterations,
    )


def _polish(found: _Solution, target: Array, moving: Array, weight: Array) -> Registration:
    """One Newton step on the images themselves: it carries the derivatives and takes off the last rounding errors."""
    ny, nx = moving.shape
    shifted, along_x, along_y = shift_derivatives(jnp.fft.rfft2(moving), found.shift, (ny, nx))
    residual = (target - found.scale * shifted) * weight
    slopes = [image * weight * residual for image in (along_x, along_y, shifted)]
    step = found.inverse @ jnp.stack([jnp.sum(slope) for slope in slopes]) / found.slope_unit
    step = jnp.where(found.converged, step, 0)
    total = jnp.sum(weight**2)
    rms = _root(jnp.sum(residual**2) / jnp.where(total > 0, total, 1))
    return Registration(
        shift=found.shift + step[:2],
        scale=found.scale * (1 + step[2]),
        converged=found.converged,
        n_iterations=found.n_iterations,
        residual=jnp.where(found.determined, rms, jax.lax.stop_gradient(rms)),
        standard_error=_standard_error(found, _scatter(jax.lax.stop_gradient(slopes)), jnp.count_nonzero(weight)),
    )


def _standard_error(found: _Solution, scatter: Float[Array, "3 3"], n_pixels: Int[Array, ""]) -> Float[Array, "3"]:
    """From the scatter of the gradient over the pixels, corrected for the three parameters taken from the data."""
    covariance = found.inverse @ scatter @ found.inverse / found.slope_unit**2
    correction = n_pixels / jnp.maximum(n_pixels - 3, 1)
    error = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0) * correction.astype(scatter.dtype))
    error = error * jnp.stack([1.0, 1.0, jnp.abs(found.scale)]).astype(error.dtype)
    return jnp.where(found.determined, error, 0)


def _scatter(slopes: list[Float[Array, "y x"]]) -> Float[Array, "3 3"]:
    """Sum over the pixels of the outer product of their slopes."""
    xx, yy, bb, xy, xb, yb = (
        jnp.sum(slopes[i] * slopes[j]) for i, j in zip((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2), strict=True)
    )
    return jnp.stack([xx, xy, xb, xy, yy, yb, xb, yb, bb]).reshape(3, 3)


def _root(value: Array) -> Array:
    """Square root with derivative 0 at 0."""
    positive = value > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1)), 0)
