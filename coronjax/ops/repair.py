"""Replace bad pixels by the median of their neighbours, so that every later step sees finite images."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from ..cube import DQ, parse_bits
from ..options import AlignRefs
from .median import nanmedian


class Repaired(eqx.Module):
    """An image without bad pixels, and which of its pixels are not measured."""

    image: Float[Array, "y x"]  # MJy/sr, finite
    filled: Bool[Array, "y x"]  # true: replaced


def repair_bad_pixels(
    image: Float[Array, "y x"],
    dq: UInt32[Array, "y x"],
    *,
    zero_non_science: Bool[Array, ""] | bool = False,
    options: AlignRefs | None = None,
) -> Repaired:
    r"""Fill pixels that are flagged or not finite with the median of the good pixels around them.

    $$ d_{yx} \leftarrow \operatorname{median} \{ d_{y'x'} : |y'-y| \le h, \; |x'-x| \le h, \; g_{y'x'} \},
       \qquad h = \lfloor b / 2 \rfloor $$

    A pixel with no good neighbour becomes 0, and so does one in the first $h$ rows or columns.

    Args:
        image: surface brightness, MJy/sr.
        dq: data quality bits.
        zero_non_science: set bad NON_SCIENCE pixels to 0, as for MIRI's field stop. Traced.
        options: `median_box_length` is $b$, `bad_bits` are the bits that make a pixel bad.

    Returns:
        `Repaired`. No derivative flows into a bad pixel; its fill carries those of the values picked.

    Raises:
        ValueError: `image` and `dq` differ in shape.

    Example:
        >>> image = jnp.ones((5, 5)).at[2, 2].set(jnp.nan)
        >>> repair_bad_pixels(image, jnp.zeros((5, 5), jnp.uint32)).image[2, 2].item()
        1.0

    Source: align_refs of jwst 3.0.0, bad pixel replacement. It visits pixels in turn, so that a NaN without a flag
    may serve, once filled, as a neighbour; here filled pixels never do.
    """
    if image.shape != dq.shape:
        raise ValueError(f"image has shape {image.shape} and dq {dq.shape}")
    options = AlignRefs() if options is None else options
    bits, complement = parse_bits(options.bad_bits)
    bad_bits = ~bits & 0xFFFFFFFF if complement else bits
    flagged = (dq & jnp.uint32(bad_bits)) != 0
    bad = flagged | ~jnp.isfinite(image)
    good = ~bad
    h = options.median_box_length // 2
    median = nanmedian(_neighbours(jnp.where(good, image, 0), h), _neighbours(good, h))
    rows, columns = (jnp.arange(n) for n in image.shape)
    # The reference slices with y - h, which for a negative start is an empty box.
    boxed = (rows >= h)[:, None] & (columns >= h)[None, :]
    zeroed = jnp.asarray(zero_non_science) & ((dq & jnp.uint32(DQ.NON_SCIENCE.value)) != 0)
    fill = jnp.where(boxed & ~zeroed & ~jnp.isnan(median), median, 0)
    return Repaired(jnp.where(bad, fill, image), bad)


def _neighbours(image: Array, h: int) -> Array:
    """The box around every pixel as a stack of shifted images; beyond the edge there is nothing (0 or false)."""
    padded = jnp.pad(image, h)
    ny, nx = image.shape
    side = range(2 * h + 1)
    return jnp.stack([padded[i : i + ny, j : j + nx] for i in side for j in side])
