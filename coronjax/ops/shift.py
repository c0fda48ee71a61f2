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
    ny, nx = image.shape
    multiplier, _, _ = _multipliers((ny, nx), jnp.asarray(shift, image.dtype))
    return jnp.fft.irfft2(jnp.fft.rfft2(image) * multiplier, s=(ny, nx))


def shift_multiplier(shape: Shape, shift: Float[Array, "2"]) -> Complex[Array, "y k"]:
    """What multiplies the `rfft2` of an image of that shape to shift it as `fourier_shift` does."""
    return _multipliers(shape, shift)[0]


def phase_factor(frequency: np.ndarray, shift: Float[Array, ""]) -> Complex[Array, " k"]:
    """What multiplies a transform along one axis, frequencies in cycles per pixel, to shift it."""
    return _phase(frequency, shift)[0]


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
    """What multiplies an `rfft2` to shift its image, and the derivatives in sx and sy.

    The real part of the complex formula keeps the Hermitian part of its multiplier. Away from the Nyquist frequencies
    that is all of it; on one of them the phase becomes its real part; on both, the real part of the product.
    """
    (ny, nx), (sx, sy) = shape, shift
    phase_y, slope_y = _phase(np.fft.fftfreq(ny), sy)
    phase_x, slope_x = _phase(np.fft.rfftfreq(nx), sx)
    result = [y[:, None] * x for y, x in ((phase_y, phase_x), (phase_y, slope_x), (slope_y, phase_x))]
    if ny % 2 == 0 and nx % 2 == 0:
        total = jnp.pi * (sx + sy)
        value, slope = jnp.cos(total), -jnp.pi * jnp.sin(total)
        result = [m.at[ny // 2, nx // 2].set(at) for m, at in zip(result, (value, slope, slope), strict=True)]
    return tuple(result)


def _phase(frequency: np.ndarray, shift: Float[Array, ""]) -> tuple[Complex[Array, " k"], Complex[Array, " k"]]:
    """The phase factor along one axis and its derivative in the shift; real at the Nyquist frequency."""
    omega = jnp.asarray(2 * np.pi * frequency, shift.dtype)
    waves = jnp.stack([jnp.cos(omega * shift), jnp.sin(omega * shift)], axis=-1)
    # Times the identity, since XLA would merge them with what they multiply and compute them for every pixel of it.
    cosine, sine = jnp.matmul(waves, jnp.eye(2, dtype=shift.dtype), precision="highest").T
    inner = jnp.asarray(np.abs(frequency) != 0.5, shift.dtype)
    return jax.lax.complex(cosine, -inner * sine), jax.lax.complex(-omega * sine, -inner * omega * cosine)
