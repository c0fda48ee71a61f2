"""One registration: its minimum, a last step on the images that carries the derivatives, and its errors."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int

from ._newton import symmetric_times
from ._objective import Moving, Solution, Weighted, prepare, solve, weigh, weighted_mean
from ._registration_errors import block_sums, by_covariance, contraction, shifted_variance
from ._root import root
from .shift import shift_derivatives


class Registration(eqx.Module):
    """The shift and scale that take the moving image to its target, and how well they are known.

    Where nothing decides (an image or the weight is zero, or flat to rounding) the shift is 0, the scale 1, the
    pedestal and all errors 0, and `converged` false. Where an image is NaN, likewise, and the residual is NaN.
    """

    shift: Float[Array, "*planes 2"]  # (sx, sy), pixels
    scale: Float[Array, "*planes"]  # target over moving flux
    converged: Bool[Array, "*planes"]  # the minimum was found
    n_iterations: Int[Array, "*planes"]  # evaluations of the objective after the coarse search
    residual: Float[Array, "*planes"]  # sqrt(sum (residual W)^2 / sum W^2), in the images' unit
    standard_error: Float[Array, "*planes 3"]  # of sx, sy (pixels) and scale, by noise; carries no derivative
    mismatch: Float[Array, "*planes 3"]  # of the same, by what the images differ beyond noise; carries no derivative
    pedestal: Float[Array, "*planes"]  # level of the target over the scaled moving image, their unit; 0 unless fitted
    contraction: Float[Array, "*planes"]  # share of a shift's error that a Gauss-Newton step leaves; no derivative


class Images(NamedTuple):
    """What is registered, in one dtype, the variances of the two images where they are known, and a spectrum."""

    target: Float[Array, "y x"]
    moving: Float[Array, "y x"]
    weight: Float[Array, "y x"]
    target_variance: Float[Array, "y x"] | None
    moving_variance: Float[Array, "y x"] | None
    spectrum: Complex[Array, "y k"]  # of the moving image

    def of_target(self, target: Array, weight: Array, variance: Array | None) -> "Images":
        """With another target, its weight and its variance."""
        dtype = self.moving.dtype
        variance = None if variance is None else jax.lax.stop_gradient(jnp.asarray(variance, dtype))
        return self._replace(
            target=jnp.asarray(target, dtype), weight=jnp.asarray(weight, dtype), target_variance=variance
        )


def images_of(
    target: Array, moving: Array, weight: Array, target_variance: Array | None, moving_variance: Array | None
) -> Images:
    """Check shapes, and take all to the dtype of the three images."""
    if not target.shape == moving.shape == weight.shape:
        raise ValueError(f"target {target.shape}, moving {moving.shape} and weight {weight.shape} differ in shape")
    dtype = jnp.result_type(target, moving, weight, jnp.float32)
    images: list[Array | None] = [jnp.asarray(image, dtype) for image in (target, moving, weight)]
    for variance in (target_variance, moving_variance):
        if variance is not None and variance.shape != target.shape:
            raise ValueError(f"a variance has shape {variance.shape} where the images have {target.shape}")
        images.append(None if variance is None else jax.lax.stop_gradient(jnp.asarray(variance, dtype)))
    return Images(*images, spectrum=jnp.fft.rfft2(images[1]))  # type: ignore[arg-type,misc]


def share(images: Images, pedestal: bool, search: int | None) -> tuple[Moving, Weighted]:
    """What does not depend on the target."""
    moving, weight = jax.lax.stop_gradient((images.moving, images.weight))
    prepared = prepare(moving, weight, pedestal)
    return prepared, weigh(prepared, weight, search)


def fit(
    images: Images,
    prepared: Moving,
    weighted: Weighted,
    search: int | None,
    prefer_near: float | Array,
    max_iterations: int | Array,
) -> Registration:
    """The registration of one target."""
    target = jax.lax.stop_gradient(images.target)
    found = solve(target, prepared, weighted, search, prefer_near, max_iterations)
    return _polish(found, images)


def _polish(found: Solution, images: Images) -> Registration:
    """One Newton step on the images themselves: it carries the derivatives and takes off the last rounding errors."""
    target, moving, weight = images[:3]
    ny, nx = moving.shape
    shifted, along_x, along_y = shift_derivatives(images.spectrum, found.shift, (ny, nx))
    tangents = along_x, along_y, shifted
    left = target - found.scale * shifted
    level = jnp.zeros_like(found.scale)
    if found.means is not None:
        level = weighted_mean(left, weight**2)
        left = left - level
        along_x, along_y, shifted = (image - mean for image, mean in zip(tangents, found.means, strict=True))
        tangents = along_x, along_y, shifted
    residual = left * weight
    slope = [jnp.sum(image * weight * residual) for image in tangents]
    step = symmetric_times(found.inverse, jnp.stack(slope)) / found.slope_unit
    step = jnp.where(found.converged, step, 0)
    if found.means is not None:  # the level follows the other three
        level = jnp.where(found.determined, level - found.scale * jnp.sum(found.means * step), 0)
    # What is left after the step, to first order: its derivatives are those before it.
    moved = sum(d * image for d, image in zip(step, tangents, strict=True))
    residual = residual - jax.lax.stop_gradient(found.scale * weight * moved)
    total = jnp.sum(weight**2)
    rms = root(jnp.sum(residual**2) / jnp.where(total > 0, total, 1))
    by_noise, by_mismatch, left_over = _errors(found, *jax.lax.stop_gradient((images, tangents, residual)))
    return Registration(
        shift=found.shift + step[:2],
        scale=found.scale * (1 + step[2]),
        converged=found.converged,
        n_iterations=found.n_iterations,
        residual=jnp.where(found.determined, rms, jax.lax.stop_gradient(rms)),
        standard_error=by_noise,
        mismatch=by_mismatch,
        pedestal=level,
        contraction=left_over,
    )


def _errors(
    found: Solution, images: Images, tangents: tuple[Array, Array, Array], residual: Array
) -> tuple[Float[Array, "3"], Float[Array, "3"], Float[Array, ""]]:
    """Standard errors of sx, sy and scale by noise and by the rest of the residual (given times the weight).

    And what a Gauss-Newton step leaves of an error in the shift.
    """
    counts = images.weight != 0
    variance = None
    if images.target_variance is not None or images.moving_variance is not None:
        variance = jnp.zeros_like(residual)
        if images.target_variance is not None:
            variance = jnp.where(counts, images.target_variance, 0)
        if images.moving_variance is not None:
            variance = variance + found.scale**2 * shifted_variance(images.moving_variance, found.shift)
    sums = block_sums(tangents, images.weight, residual, variance)
    noise, blocks = by_covariance(found, sums)
    if variance is None:  # corrected for the parameters taken from the residuals
        n_pixels, n_fitted = jnp.count_nonzero(counts), 3 if found.means is None else 4
        noise = noise * (n_pixels / jnp.maximum(n_pixels - n_fitted, 1)).astype(residual.dtype)
    mismatch = jnp.maximum(blocks - noise, 0)
    units = jnp.stack([1.0, 1.0, jnp.abs(found.scale)]).astype(residual.dtype)
    by_noise, by_rest = (jnp.where(found.determined, jnp.sqrt(square) * units, 0) for square in (noise, mismatch))
    return by_noise, by_rest, contraction(found, sums.normal)
