"""Shift an image by a fraction of a pixel with the Fourier shift theorem."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

Shape = tuple[int, ...]


def fourier_shift(image: Float[Array, "y x"], shift: Float[Array, "2"]) -> Float[Array, "y x"]:
    r"""Shift an image by `shift` pixels; the frame is periodic.

    $$ S(I; s) = \mathrm{Re}\; \mathcal F^{-1}\left[ \mathcal F[I](k)\,
       e^{-2\pi i (k_y s_y / N_y + k_x s_x / N_x)} \right], \qquad -N/2 \le k < N/2 $$

    In an even-sized frame the Nyquist frequency is $k = -N/2$ and taking the real part turns its phase into a cosine.
    Linear in `image`; flux is conserved; integer shifts are exact rolls.

    Args:
        image: any unit, finite: one NaN would spread over the whole frame.
        shift: (sx, sy), pixels. Positive moves the image towards +x and +y.

    Returns:
        The shifted image, in the dtype of `image` if that is floating.

    Example:
        >>> point = jnp.zeros((5, 5)).at[2, 1].set(1.0)
        >>> int(jnp.argmax(fourier_shift(point, jnp.array([2.0, 0.0]))[2]))
        3

    Source: the alignment of calwebb_coron3, jwst 3.0.0 (imageregistration).
    """
    image = jnp.asarray(image, jnp.result_type(image, jnp.float32))  # of integers, the shift would become one
    multiplier = shift_multiplier(image.shape, jnp.asarray(shift, image.dtype))
    return jnp.fft.irfft2(jnp.fft.rfft2(image) * multiplier, s=image.shape)


def shift_multiplier(shape: Shape, shift: Float[Array, "2"]) -> Complex[Array, "y k"]:
    """What multiplies the `rfft2` of an image of that shape to shift it as `fourier_shift` does."""
    phase_y, phase_x = (phase_factor(*axis) for axis in zip(frequencies(shape), (shift[1], shift[0]), strict=True))
    return _with_corner(phase_y[:, None] * phase_x, jnp.cos(jnp.pi * jnp.sum(shift)), shape)


def phase_factor(frequency: np.ndarray, shift: Float[Array, ""]) -> Complex[Array, " k"]:
    """What multiplies a transform along one axis, frequencies in cycles per pixel, to shift it."""
    return _phase(frequency, *_waves(frequency, shift))


def frequencies(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Cycles per pixel along the two axes of the `rfft2` of an image of that shape."""
    return np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])


def shift_derivatives(
    spectrum: Complex[Array, "y k"], shift: Float[Array, "2"], shape: Shape
) -> tuple[Float[Array, "y x"], Float[Array, "y x"], Float[Array, "y x"]]:
    """Shift an image given by its spectrum, and differentiate it in the shift.

    Args:
        spectrum: `rfft2` of the image.
        shift: (sx, sy), pixels.
        shape: (ny, nx) of the image.

    Returns:
        $S$, $\\partial S / \\partial s_x$ and $\\partial S / \\partial s_y$.
    """
    shifted, along_x, along_y = (jnp.fft.irfft2(spectrum * m, s=shape) for m in _multipliers(shape, shift))
    return shifted, along_x, along_y


def _multipliers(shape: Shape, shift: Float[Array, "2"]) -> tuple[Complex[Array, "y k"], ...]:
    """What multiplies an `rfft2` to shift its image, and the derivatives in sx and sy."""
    axes = zip(frequencies(shape), (shift[1], shift[0]), strict=True)
    (phase_y, slope_y), (phase_x, slope_x) = (_phase_and_slope(*axis) for axis in axes)
    result = [y[:, None] * x for y, x in ((phase_y, phase_x), (phase_y, slope_x), (slope_y, phase_x))]
    total = jnp.pi * jnp.sum(shift)
    value, slope = jnp.cos(total), -jnp.pi * jnp.sin(total)
    return tuple(_with_corner(m, at, shape) for m, at in zip(result, (value, slope, slope), strict=True))


def _with_corner(multiplier: Complex[Array, "y k"], corner: Float[Array, ""], shape: Shape) -> Complex[Array, "y k"]:
    """With another value where both axes are at their Nyquist frequencies.

    The real part of the complex formula keeps the Hermitian part of its multiplier. Away from the Nyquist frequencies
    that is all of it; on one of them the phase becomes its real part; on both, the real part of the product.
    """
    ny, nx = shape
    return multiplier.at[ny // 2, nx // 2].set(corner) if ny % 2 == 0 and nx % 2 == 0 else multiplier


def _phase_and_slope(
    frequency: np.ndarray, shift: Float[Array, ""]
) -> tuple[Complex[Array, " k"], Complex[Array, " k"]]:
    """The phase factor along one axis and its derivative in the shift."""
    cosine, sine = _waves(frequency, shift)
    omega = (2 * np.pi * frequency).astype(shift.dtype)
    slope = jax.lax.complex(-omega * sine, -omega * _inner(frequency, shift.dtype) * cosine)
    return _phase(frequency, cosine, sine), slope


def _waves(frequency: np.ndarray, shift: Float[Array, ""]) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Cosines and sines of the phases along one axis."""
    angle = (2 * np.pi * frequency).astype(shift.dtype) * shift
    waves = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    # Times the identity, since XLA would merge them with what they multiply and compute them for every pixel of it.
    cosine, sine = jnp.matmul(np.eye(2, dtype=shift.dtype), waves, precision="highest")
    return cosine, sine


def _phase(frequency: np.ndarray, cosine: Float[Array, " k"], sine: Float[Array, " k"]) -> Complex[Array, " k"]:
    """The phase factor of those cosines and sines: real at the Nyquist frequency, as `_with_corner` says."""
    return jax.lax.complex(cosine, -_inner(frequency, sine.dtype) * sine)


def _inner(frequency: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Zero at the Nyquist frequency, else one."""
    return (np.abs(frequency) != 0.5).astype(dtype)
