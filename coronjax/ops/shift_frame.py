"""Shift and blur a frame with its variance and its flags."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, UInt32

from .blur import gaussian, instead
from .border import crop_border, fold_border, pad_and_taper
from .shift import frequencies, phase_factor, shift_multiplier

CARRIES = 0.1  # share of the interpolation weight with which a pixel passes its flags on
CARRIES_OF_PEAK = 0.25  # the same over the largest weight, where all are small
REACH = 3  # pixels from the nearest one to the farthest that can carry so much


class Shifted(eqx.Module):
    """A frame moved over the pixels, with its noise and its flags."""

    image: Float[Array, "y x"]  # unit of the input
    variance: Float[Array, "y x"]  # its square
    dq: UInt32[Array, "y x"]  # data quality bits
    inside: Bool[Array, "y x"]  # the pixel comes from within the frame, not from its continuation


def shift_frame(
    image: Float[Array, "y x"],
    variance: Float[Array, "y x"],
    dq: UInt32[Array, "y x"],
    shift: Float[Array, "2"],
    blur: float | Float[Array, ""] = 0.0,
    *,
    padding: int = 16,
) -> Shifted:
    r"""Shift a frame by a fraction of a pixel, blurred by a Gaussian first if asked for, with variance and flags.

    $$ d' = k * d, \quad v' = k^2 * v, \quad
       \hat k = e^{-2\pi i \, \nu \cdot s - 2 \pi^2 \sigma^2 |\nu|^2}, \qquad
       f'_p = \bigvee \left\{ f_q : |k(p - q)| \ge \min(0.1, \; \tfrac14 \max |k|) \right\} $$

    on the frame in its tapered border. The kernel adds up to 1. Its square is exact for noise that is independent from
    pixel to pixel; neighbours of the result are correlated by it. The second bound on the weight matters for blurs
    wider than a pixel only. Whole shifts without a blur are exact: every pixel, its variance and its flags are moved.

    Args:
        image: any unit, finite: repaired.
        variance: of its independent noise, its square, finite, at least 0.
        dq: data quality bits. Outside the frame there are none.
        shift: (sx, sy), pixels. Positive moves the frame towards +x and +y. Traced.
        blur: $\sigma$ of the Gaussian, pixels; 0: none. Traced.
        padding: width of the border, pixels; 0 takes the frame to be periodic. Static.

    Returns:
        `Shifted`. Along the edges, pixels that are not `inside` show the border.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> frame, flags = jnp.zeros((5, 5)).at[2, 1].set(1.0), jnp.zeros((5, 5), jnp.uint32).at[2, 1].set(4)
        >>> moved = shift_frame(frame, frame, flags, jnp.array([2.0, 0.0]))
        >>> moved.image[2, 3].item(), moved.dq[2, 3].item(), moved.dq.sum().item()
        (1.0, 4, 4)

    Source: the shift theorem; the variance is that of any linear filter.
    """
    if not image.shape == variance.shape == dq.shape:
        raise ValueError(f"image {image.shape}, variance {variance.shape} and dq {dq.shape} differ in shape")
    image, variance = (jnp.asarray(a, jnp.result_type(a, jnp.float32)) for a in (image, variance))
    shift, blur = jnp.asarray(shift, image.dtype), jnp.asarray(blur, image.dtype)
    rounded = jax.lax.stop_gradient(jnp.round(shift)).astype(int)
    exact = jnp.all(jax.lax.stop_gradient(shift) == rounded) & (jax.lax.stop_gradient(blur) == 0)
    padded = pad_and_taper(image, padding)
    axes = [_kernel(n, s, blur, r, exact) for n, s, r in zip(padded.shape, shift[::-1], rounded[::-1], strict=True)]
    soft = [gaussian(frequency, blur) for frequency in frequencies(padded.shape)]
    moved = _filtered(padded, shift_multiplier(padded.shape, shift) * soft[0][:, None] * soft[1])
    # `instead` has the derivatives. To roll by a traced number takes a tenth of a shift: it is done where it is wanted.
    still, computed = jax.lax.stop_gradient((padded, moved))
    whole = jax.lax.cond(exact, lambda: jnp.roll(still, rounded[::-1], (0, 1)), lambda: computed)
    moved = instead(exact, whole, moved)
    flags, inside = _carried(dq, axes, rounded)
    return Shifted(crop_border(moved, padding), _propagated(variance, axes, padding), flags, inside)


def _kernel(n: int, shift: Array, sigma: Array, rounded: Array, exact: Bool[Array, ""]) -> Float[Array, " n"]:
    """Along one axis, the weight with which a pixel enters the one that lies so many behind it, periodic."""
    frequency = np.fft.rfftfreq(n)
    kernel = jnp.fft.irfft(phase_factor(frequency, shift) * gaussian(frequency, sigma), n)
    return instead(exact, jnp.asarray(jnp.arange(n) == rounded % n, kernel.dtype), kernel)


def _propagated(variance: Float[Array, "y x"], axes: list[Array], padding: int) -> Float[Array, "y x"]:
    """The variance of every weighted sum, along one axis after the other.

    As matrix products, in which nothing is subtracted, so that it is never negative, and a pixel near the edge and its
    mirror images in the border count as what they are, one.
    """
    squares = []
    for n, kernel in zip(variance.shape, axes, strict=True):
        periodic = kernel[np.subtract.outer(np.arange(padding, padding + n), np.arange(len(kernel))) % len(kernel)]
        squares.append(fold_border(periodic, padding).astype(variance.dtype) ** 2)
    along_y = jnp.matmul(squares[0], variance, precision="highest")
    return jnp.matmul(along_y, squares[1].T, precision="highest")


def _filtered(image: Float[Array, "i j"], multiplier: Complex[Array, "i k"]) -> Float[Array, "i j"]:
    return jnp.fft.irfft2(jnp.fft.rfft2(image) * multiplier, s=image.shape)


def _carried(
    dq: UInt32[Array, "y x"], axes: list[Float[Array, " n"]], rounded: Array
) -> tuple[UInt32[Array, "y x"], Bool[Array, "y x"]]:
    """Flags of all pixels that carry enough weight, and whether the nearest pixel is on the frame."""
    (ny, nx), offsets = dq.shape, np.arange(-REACH, REACH + 1)
    weights = [jnp.take(axis, whole + offsets, mode="wrap") for axis, whole in zip(axes, rounded[::-1], strict=True)]
    product = jnp.abs(weights[0][:, None] * weights[1])
    carries = product >= jnp.minimum(CARRIES, CARRIES_OF_PEAK * product.max())
    rows, columns = (np.arange(-REACH, n + REACH) - whole for n, whole in zip((ny, nx), rounded[::-1], strict=True))
    on = ((rows >= 0) & (rows < ny))[:, None] & ((columns >= 0) & (columns < nx))
    near = jnp.where(on, dq[jnp.clip(rows, 0, ny - 1)][:, jnp.clip(columns, 0, nx - 1)], jnp.uint32(0))
    flags = jnp.zeros_like(dq)
    for i, j in np.argwhere(np.hypot(offsets[:, None], offsets) < REACH + 0.3):
        # A kernel's weight at +i comes from i pixels before.
        y, x = 2 * REACH - i, 2 * REACH - j
        flags = flags | jnp.where(carries[i, j], near[y : y + ny, x : x + nx], jnp.uint32(0))
    return flags, on[REACH:-REACH, REACH:-REACH]
