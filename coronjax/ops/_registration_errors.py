"""How well a registration is known: from the noise of both images, and from what the model leaves of the target."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._newton import inverse, symmetric_times
from ._objective import Solution

BLOCK = 8  # pixels: holds a resolution element or two


class Sums(NamedTuple):
    """Sums of products of the model's derivatives in (sx, sy, log scale), over the scale."""

    normal: Float[Array, "3 3"]  # with the squared weight
    noise: Float[Array, "3 3"]  # with its square and the variance of every pixel
    blocks: Float[Array, "3 3"]  # the same with the residuals, first added up in blocks


def block_sums(
    tangents: tuple[Array, Array, Array],
    weight: Float[Array, "y x"],
    residual: Float[Array, "y x"],
    variance: Float[Array, "y x"] | None,
) -> Sums:
    """Take all sums over the frame in one pass through its images. Without variance the squared residual stands for it.

    Args:
        tangents: derivatives of the shifted image, and itself; about their weighted means where a pedestal is fitted.
        weight: of the registration.
        residual: what the model leaves, times the weight; finite.
        variance: of the noise; finite.
    """
    weighted = [image * weight for image in tangents]
    pulls = [image * residual for image in weighted]
    slopes = [image * weight for image in weighted]
    noisy = pulls if variance is None else [slope * variance for slope in slopes]
    normal = [weighted[i] * weighted[j] for i, j in _PAIRS]
    noise = [noisy[i] * (pulls if variance is None else slopes)[j] for i, j in _PAIRS]
    sums = jnp.stack(_in_blocks([*normal, *noise, *pulls]))
    of_normal, of_noise = jnp.sum(sums[:-3], axis=(1, 2)).reshape(2, len(_PAIRS))[:, _PLACES]
    pulled = sums[-3:]
    return Sums(of_normal, of_noise, jnp.sum(pulled[:, None] * pulled, axis=(2, 3)))


def by_covariance(found: Solution, sums: Sums) -> tuple[Float[Array, "3"], Float[Array, "3"]]:
    """Variances of the parameters (sx, sy, log scale) from the covariance of the gradient: by noise, by blocks."""
    scatter = jnp.stack([sums.noise, sums.blocks])[:, None]
    covariance = jnp.sum(found.inverse[:, :, None] * found.inverse[:, None] * scatter, axis=(2, 3))
    by_noise, by_blocks = jnp.maximum(covariance / found.slope_unit**2, 0)
    return by_noise, by_blocks


def contraction(found: Solution, normal: Float[Array, "3 3"]) -> Float[Array, ""]:
    """What a Gauss-Newton step leaves of an error in the shift next to the minimum; scale and level eliminated."""
    cross, corner = normal[:2, 2], jnp.where(normal[2, 2] > 0, normal[2, 2], 1)
    gauss_newton = (normal[:2, :2] - cross[:, None] * cross / corner) / corner
    ratio = symmetric_times(inverse(gauss_newton), inverse(found.inverse[:2, :2]))
    ratio = ratio - jnp.eye(2, dtype=normal.dtype)
    half, determinant = (ratio[0, 0] + ratio[1, 1]) / 2, ratio[0, 0] * ratio[1, 1] - ratio[0, 1] * ratio[1, 0]
    return jnp.abs(half) + jnp.sqrt(jnp.maximum(half**2 - determinant, 0))


def shifted_variance(variance: Float[Array, "y x"], shift: Float[Array, "2"]) -> Float[Array, "y x"]:
    """Variance of the noise around every pixel of a shifted image, to the nearest pixel; 0 where it is not known.

    A Fourier shift leaves white noise white, so no more than its level moves; the frame is periodic.
    """
    columns, rows = jnp.round(shift).astype(int)
    return jnp.roll(jnp.where(jnp.isfinite(variance), variance, 0), (rows, columns), (0, 1))


_PAIRS = ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))  # of a symmetric matrix
_PLACES = np.array([[0, 1, 3], [1, 2, 4], [3, 4, 5]], np.int32)  # of those in it


def _in_blocks(images: list[Array]) -> tuple[Array, ...]:
    """Sums over blocks of pixels, of all images in one loop over them. They carry no derivative."""
    ny, nx = images[0].shape
    padded = [jnp.pad(image, ((0, -ny % BLOCK), (0, -nx % BLOCK))) for image in images]
    rows, columns = padded[0].shape
    blocks = [image.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK) for image in padded]
    zeros = [jnp.zeros((), images[0].dtype)] * len(images)

    def add(a: list[Array], b: list[Array]) -> list[Array]:
        return [x + y for x, y in zip(a, b, strict=True)]

    return tuple(jax.lax.reduce(blocks, zeros, add, (1, 3)))
