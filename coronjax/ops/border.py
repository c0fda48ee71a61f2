"""Put a tapered border around a frame, so that a Fourier transform meets no jump at its edges."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def pad_and_taper(image: Float[Array, "y x"], width: int) -> Float[Array, "i j"]:
    r"""Extend a frame on every side: mirrored about its edge pixels, and faded to zero.

    $$ d_{-n} = d_n \, \cos^2 \frac{\pi n}{2 (w + 1)}, \qquad 1 \le n \le w $$

    and alike on the other sides. The frame itself is unchanged.

    Args:
        image: any unit, finite.
        width: w, pixels; 0 leaves the frame as it is. Static.

    Returns:
        The frame in its border, larger by twice `width` along both axes.

    Raises:
        ValueError: `width` is negative.

    Example:
        >>> [round(float(v), 2) for v in pad_and_taper(jnp.ones((3, 3)), 2)[3]]
        [0.25, 0.75, 1.0, 1.0, 1.0, 0.75, 0.25]

    Source: Harris 1978, Proc. IEEE 66, 51 (cosine taper).
    """
    if width < 0:
        raise ValueError(f"width={width} is negative")
    if width == 0:
        return image
    (rows, down), (columns, across) = (_mirror(n, width) for n in image.shape)
    return image[rows][:, columns] * jnp.asarray(down, image.dtype)[:, None] * jnp.asarray(across, image.dtype)


def fold_border(weights: Float[Array, "i m"], width: int) -> Float[Array, "i n"]:
    """Put the weights of pixels along a padded axis, the last one, on the pixels of the frame that those repeat.

    Args:
        weights: of the pixels in the border too; any unit.
        width: of the border, pixels. Static.

    Returns:
        For every pixel of the frame its own weight and the faded ones of its mirror images.
    """
    n = weights.shape[-1] - 2 * width
    inside = weights[:, width : width + n]
    if width == 0:
        return inside
    source, fade = _mirror(n, width)
    repeats = fade[:, None] * (source[:, None] == np.arange(n))
    outside = jnp.concatenate([weights[:, :width], weights[:, width + n :]], axis=1)
    folded = jnp.asarray(np.concatenate([repeats[:width], repeats[width + n :]]), weights.dtype)
    return inside + jnp.matmul(outside, folded, precision="highest")


def _mirror(n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """For every pixel along a padded axis, the one that it repeats, and the share of it."""
    # A single pixel has no other to be mirrored.
    source = np.pad(np.arange(n), width, mode="reflect" if n > 1 else "edge")
    fade = np.cos(0.5 * np.pi * np.arange(1, width + 1) / (width + 1)) ** 2
    return source, np.r_[fade[::-1], np.ones(n), fade]


def crop_border(padded: Float[Array, "i j"], width: int) -> Float[Array, "y x"]:
    """Take a frame out of its border again: the inverse of `pad_and_taper`.

    Args:
        padded: a frame in a border.
        width: of the border, pixels. Static.

    Returns:
        The frame.

    Raises:
        ValueError: `width` is negative, or leaves nothing.

    Example:
        >>> crop_border(pad_and_taper(jnp.ones((3, 4)), 2), 2).shape
        (3, 4)
    """
    ny, nx = padded.shape
    if width < 0 or min(ny, nx) <= 2 * width:
        raise ValueError(f"a border of {width} pixels does not fit into a frame of {padded.shape}")
    return padded[width : ny - width, width : nx - width]
