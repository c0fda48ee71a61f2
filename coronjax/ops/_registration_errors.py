"""How well a registration is known: from the noise of both images, and from what the model leaves of the target."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._objective import Solution

BLOCK = 8  # pixels: holds a resolution element or two


class Slopes(NamedTuple):
    """Derivatives of the model, about their weighted means where a pedestal is fitted, each times the squared weight.

    In (sx, sy, log scale) and over the scale.
    """

    along_x: Float[Array, "y x"]
    along_y: Float[Array, "y x"]
    shifted: Float[Array, "y x"]


def slopes_of(
    images: tuple[Array, Array, Array], weight: Float[Array, "y x"], means: Float[Array, "3"] | None
) -> Slopes:
    """From the shifted image and its derivatives, and their weighted means, in the order of `Slopes`."""
    if means is not None:
        along_x, along_y, shifted = (image - mean for image, mean in zip(images, means, strict=True))
        images = along_x, along_y, shifted
    return Slopes(*(image * weight**2 for image in images))


def from_noise(found: Solution, slopes: Slopes, variance: Float[Array, "y x"]) -> Float[Array, "3"]:
    """Variances of (sx, sy, log scale) by independent noise of known variance in every pixel."""
    return _spread(found, _scatter(slopes, variance))


def from_residuals(
    found: Solution, slopes: Slopes, residual: Float[Array, "y x"], n_pixels: Int[Array, ""], n_fitted: int
) -> Float[Array, "3"]:
    """Variances by independent noise that is as large as the residual, corrected for the parameters taken from it."""
    correction = n_pixels / jnp.maximum(n_pixels - n_fitted, 1)
    return _spread(found, _scatter(slopes, residual**2)) * correction.astype(residual.dtype)


def from_blocks(found: Solution, slopes: Slopes, residual: Float[Array, "y x"]) -> Float[Array, "3"]:
    """Variances by residuals that are independent from block to block, and however correlated within one."""
    sums = jnp.stack([_block_sums(slope * residual).ravel() for slope in slopes])
    return _spread(found, jnp.sum(sums[:, None] * sums[None], axis=-1))


def shifted_variance(variance: Float[Array, "y x"], shift: Float[Array, "2"]) -> Float[Array, "y x"]:
    """Variance of the noise around every pixel of a shifted image, to the nearest pixel; 0 where it is not known.

    A Fourier shift leaves white noise white, so no more than its level moves; the frame is periodic.
    """
    columns, rows = jnp.round(shift).astype(int)
    return jnp.roll(jnp.where(jnp.isfinite(variance), variance, 0), (rows, columns), (0, 1))


def _scatter(slopes: Slopes, variance: Float[Array, "y x"]) -> Float[Array, "3 3"]:
    """Sum over the pixels of the outer product of their slopes, times a variance."""
    xx, yy, bb, xy, xb, yb = (
        jnp.sum(slopes[i] * slopes[j] * variance) for i, j in zip((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2), strict=True)
    )
    return jnp.stack([xx, xy, xb, xy, yy, yb, xb, yb, bb]).reshape(3, 3)


def _spread(found: Solution, scatter: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """Variances of the parameters from the covariance of the gradient."""
    covariance = found.inverse @ scatter @ found.inverse / found.slope_unit**2
    return jnp.maximum(jnp.diagonal(covariance), 0)


def _block_sums(image: Float[Array, "y x"]) -> Float[Array, "j k"]:
    ny, nx = image.shape
    padded = jnp.pad(image, ((0, -ny % BLOCK), (0, -nx % BLOCK)))
    rows, columns = padded.shape
    return padded.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).sum((1, 3))
