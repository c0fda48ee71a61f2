"""Blur an undersampled frame to what its pixels can carry."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .border import crop_border, pad_and_taper
from .shift import frequencies


def blur(image: Float[Array, "y x"], sigma: float | Float[Array, ""], *, padding: int = 16) -> Float[Array, "y x"]:
    r"""Convolve a frame with a Gaussian, in the Fourier domain of the frame in its tapered border.

    $$ d' = \mathcal F^{-1} \left[ \mathcal F[d] \, e^{-2 \pi^2 \sigma^2 |\nu|^2} \right] $$

    Args:
        image: any unit, finite: repaired.
        sigma: of the Gaussian, pixels; 0 gives the frame back, to the last digit. Traced.
        padding: width of the border, pixels; 0 takes the frame to be periodic. Static.

    Returns:
        The blurred frame. `shift_frame` blurs variance and flags too, with shift 0.

    Raises:
        ValueError: `padding` is negative.

    Example:
        >>> point = jnp.zeros((9, 9)).at[4, 4].set(1.0)
        >>> round(float(blur(point, 1.0)[4, 4]), 3)
        0.158
    """
    image = jnp.asarray(image, jnp.result_type(image, jnp.float32))
    sigma = jnp.asarray(sigma, image.dtype)
    padded = pad_and_taper(image, padding)
    down, across = (gaussian(frequency, sigma) for frequency in frequencies(padded.shape))
    blurred = jnp.fft.irfft2(jnp.fft.rfft2(padded) * down[:, None] * across, s=padded.shape)
    return crop_border(instead(sigma == 0, padded, blurred), padding)


def gaussian(frequency: np.ndarray, sigma: Float[Array, ""]) -> Float[Array, " k"]:
    """The transform of a normalised Gaussian; frequencies in cycles per pixel."""
    return jnp.exp(-jnp.asarray(2 * np.pi**2 * frequency**2, sigma.dtype) * sigma**2)


def instead(exact: Array, value: Array, computed: Array) -> Array:
    """`value` where exact, to the last digit, and yet the derivatives of what was computed."""
    fixed = jax.lax.stop_gradient(jnp.where(exact, value, computed))
    return fixed + (computed - jax.lax.stop_gradient(computed))
