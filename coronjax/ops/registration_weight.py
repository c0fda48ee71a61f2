"""How much each pixel should count in a registration: by mask, noise, slope, and by how far PSFs may differ."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

SIGMA = 2.0  # pixels: of the smoothing, which keeps a pixel's own noise out of its weight


def registration_weight(
    psf_mask: Float[Array, "y x"],
    moving: Float[Array, "y x"],
    variance: Float[Array, "y x"],
    *,
    mismatch: float | Float[Array, ""] = 0.1,
) -> Float[Array, "y x"]:
    r"""Weigh pixels by what they say about a shift, and by what a registration's residual will be in them.

    $$ W = \frac{M}{\sqrt{G * v + f^2 \, (G * R^2)}} \cdot \frac{g}{g + \frac{\pi^2}{3} \, G * v}, \qquad
       g = \max(0, G * |\nabla R|^2 - G * v) $$

    divided by its largest value; M is the mask, R the moving image, v the variance of its noise, f a share, G a
    Gaussian of 2 pixels; the gradient is of central differences, in which noise alone has variance v. With f = 0 the
    first factor is that of least scatter where R is known without noise. The second leaves out pixels in which the
    slopes of R are noise: they say nothing about the shift, and noise times noise scatters it.

    Images of a star whose wavefront drifts, or that moves behind a fixed mask, differ by a share of their brightness:
    f > 0 keeps the few brightest pixels from deciding alone. Behind round masks and bars the shift then comes nearer to
    the star's own motion. Behind MIRI's quadrants it does not, and f = 0 is the better choice.

    Args:
        psf_mask: weight of each pixel as far as the mask goes, 1 = use, 0 = ignore.
        moving: background-subtracted, any unit, finite.
        variance: of its noise, same unit squared. What is not positive and finite is unknown: taken from next to it.
        mismatch: the share f. Traced.

    Returns:
        Weight for `register`, at most 1; 0 where the mask is, where no variance is known nearby, and where there is no
        more than noise.

    Raises:
        ValueError: the three differ in shape.

    Example:
        >>> star = 100 * jnp.exp(-0.1 * jnp.hypot(*jnp.mgrid[-16:16, -16:16]) ** 2)
        >>> weight = registration_weight(jnp.ones((32, 32)), star, jnp.ones((32, 32)))
        >>> round(float(weight.max()), 6), float(weight[0, 0]), bool(weight[16, 16] < weight[16, 10])
        (1.0, 0.0, True)

    Source: inverse-variance weights with an error floor in proportion to the light; the second factor is Wiener's.
    """
    if not psf_mask.shape == moving.shape == variance.shape:
        raise ValueError(f"mask {psf_mask.shape}, moving {moving.shape} and variance {variance.shape} differ in shape")
    dtype = jnp.result_type(psf_mask, moving, jnp.float32)
    known = jnp.isfinite(variance) & (variance > 0)
    moving = jnp.asarray(moving, dtype)
    noise = _over_known(jnp.where(known, variance, 0).astype(dtype), known)
    along_y, along_x = jnp.gradient(moving)
    steep = jnp.maximum(_smooth(along_x**2 + along_y**2) - noise, 0)
    usable = noise > 0
    noise = jnp.where(usable, noise, 1)
    error = jnp.sqrt(noise + mismatch**2 * _smooth(moving**2))
    weight = jnp.where(usable, psf_mask / error * steep / (steep + np.pi**2 / 3 * noise), 0)
    largest = jnp.max(jnp.abs(weight))
    return weight / jnp.where(largest > 0, largest, 1)


def _over_known(image: Float[Array, "y x"], known: Bool[Array, "y x"]) -> Float[Array, "y x"]:
    """Gaussian mean over known pixels; 0 where there is none within reach."""
    total, share = _sums(image * known), _sums(known.astype(image.dtype))
    some = share > 1e-6
    return jnp.where(some, total / jnp.where(some, share, 1), 0)


def _smooth(image: Float[Array, "y x"]) -> Float[Array, "y x"]:
    """Gaussian mean over the pixels of the frame."""
    down, across = (_gaussian(n).sum(0) for n in image.shape)
    return _sums(image) / jnp.asarray(np.outer(down, across), image.dtype)


def _sums(image: Float[Array, "y x"]) -> Float[Array, "y x"]:
    down, across = (jnp.asarray(_gaussian(n), image.dtype) for n in image.shape)
    return jnp.matmul(jnp.matmul(down, image, precision="highest"), across, precision="highest")


def _gaussian(n: int) -> np.ndarray:
    """The smoothing of `n` pixels, as a symmetric matrix, cut at four sigma."""
    distance = np.subtract.outer(np.arange(n), np.arange(n)) / SIGMA
    return np.where(np.abs(distance) <= 4, np.exp(-(distance**2) / 2), 0)
