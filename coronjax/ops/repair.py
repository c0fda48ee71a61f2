"""Replace bad pixels by what their good neighbours say, so that every later step sees finite images."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from ..cube import DQ, parse_bits
from ..options import AlignRefs
from ._fill import from_coarser, relax
from .median import LARGEST_NETWORK, median_of_few, nanmedian


class Repaired(eqx.Module):
    """An image without bad pixels, and which of its pixels are not measured."""

    image: Float[Array, "y x"]  # MJy/sr, finite
    filled: Bool[Array, "y x"]  # true: replaced


def repair_bad_pixels(
    image: Float[Array, "y x"],
    dq: UInt32[Array, "y x"],
    *,
    zero_non_science: Bool[Array, ""] | bool = False,
    positive: bool = False,
    options: AlignRefs | None = None,
) -> Repaired:
    r"""Fill pixels that are flagged or not finite from the good pixels around them.

    With `options.repair="neighbours"`, from real neighbours however far. The mean of the good pixels at the finest
    scale that has any is a start without holes, and is then moved towards the least bending

    $$ \min_u \sum (\Delta u)^2 + \tau \, |\nabla u|^2 \quad \text{over the bad pixels}, \qquad \tau = 0.3 $$

    by a fixed number of Chebyshev steps. Inside a PSF a lone pixel is filled to a tenth of its light, where a median of
    3 x 3 errs by 0.4 of it; far from any good pixel the start remains, smooth and without noise. Linear in the good
    pixels. 0 only where no pixel is good at all.

    With `"box"`, the median of the good pixels of a box,

    $$ d_{yx} \leftarrow \operatorname{median} \{ d_{y'x'} : |y'-y| \le h, \; |x'-x| \le h, \; g_{y'x'} \},
       \qquad h = \lfloor b / 2 \rfloor, $$

    where a pixel with no good neighbour becomes 0, and so does one in the first $h$ rows or columns.

    Args:
        image: surface brightness, MJy/sr; or its error or variance.
        dq: data quality bits.
        zero_non_science: with `"box"`, set bad NON_SCIENCE pixels to 0, as for MIRI's field stop. Traced.
        positive: of `"neighbours"`, keep the start, whose weights are positive: errors and variances stay so. Static.
        options: `repair`, `bad_bits` that make a pixel bad, and `median_box_length`, which is $b$.

    Returns:
        `Repaired`. No derivative flows into a bad pixel; its fill carries those of the values used.

    Raises:
        ValueError: `image` and `dq` differ in shape.

    Example:
        >>> image = jnp.ones((5, 5)).at[2, 2].set(jnp.nan)
        >>> round(repair_bad_pixels(image, jnp.zeros((5, 5), jnp.uint32)).image[2, 2].item(), 6)
        1.0

    Source: Gortler et al. 1996, SIGGRAPH 96, 43 (coarse to fine); Smith & Wessel 1990, Geophysics 55, 293 (plate under
    tension). Box: align_refs of jwst 3.0.0, bad pixel replacement. It visits pixels in turn, so that a NaN without a
    flag may serve, once filled, as a neighbour; here filled pixels never do.
    """
    if image.shape != dq.shape:
        raise ValueError(f"image has shape {image.shape} and dq {dq.shape}")
    options = AlignRefs() if options is None else options
    bad = _is_bad(image, dq, options)
    fill = _start(image, dq, bad, zero_non_science, options)
    if options.repair == "neighbours" and not positive:
        fill = relax(fill, bad)
    return Repaired(jnp.where(bad, fill, image), bad)


def repair_with_error(
    image: Float[Array, "y x"],
    error: Float[Array, "y x"],
    dq: UInt32[Array, "y x"],
    *,
    zero_non_science: Bool[Array, ""] | bool = False,
    options: AlignRefs,
) -> tuple[Repaired, Float[Array, "y x"]]:
    """Repair an image, and its error with `positive`, at once: the program is half as large, and as fast as one.

    Args:
        image: as for `repair_bad_pixels`.
        error: its standard deviation.
        dq: data quality bits of both.
        zero_non_science: as for `repair_bad_pixels`.
        options: as for `repair_bad_pixels`.

    Returns:
        The repaired image, and the repaired error.
    """
    both = jnp.stack([image, error])
    bad = _is_bad(both, dq, options)
    fill = jax.vmap(lambda one, own: _start(one, dq, own, zero_non_science, options))(both, bad)
    smooth = relax(fill[0], bad[0]) if options.repair == "neighbours" else fill[0]
    return Repaired(jnp.where(bad[0], smooth, image), bad[0]), jnp.where(bad[1], fill[1], error)


def _is_bad(image: Array, dq: Array, options: AlignRefs) -> Array:
    bits, complement = parse_bits(options.bad_bits)
    bad_bits = ~bits & 0xFFFFFFFF if complement else bits
    return ((dq & jnp.uint32(bad_bits)) != 0) | ~jnp.isfinite(image)


def _start(image: Array, dq: Array, bad: Array, zero_non_science: Array | bool, options: AlignRefs) -> Array:
    """What bad pixels are filled with, before they are made smooth."""
    if options.repair == "neighbours":
        return from_coarser(image, ~bad)
    zeroed = jnp.asarray(zero_non_science) & ((dq & jnp.uint32(DQ.NON_SCIENCE.value)) != 0)
    return jnp.where(zeroed, 0, _box_median(image, ~bad, options.median_box_length // 2))


def _box_median(image: Float[Array, "y x"], good: Bool[Array, "y x"], h: int) -> Float[Array, "y x"]:
    """The median of the good pixels within h rows and columns, 0 where there is none or the box is cut off below."""
    counts = _neighbours(good, h, False)
    if len(counts) <= LARGEST_NETWORK:  # from slices: a stack of them would be written first
        count = sum((one.astype(jnp.int32) for one in counts[1:]), counts[0].astype(jnp.int32))
        median = median_of_few(_neighbours(jnp.where(good, image, jnp.inf), h, jnp.inf), count)
    else:
        median = nanmedian(jnp.stack(_neighbours(jnp.where(good, image, 0), h, 0)), jnp.stack(counts))
    rows, columns = (jnp.arange(n) for n in image.shape)
    # The reference slices with y - h, which for a negative start is an empty box.
    boxed = (rows >= h)[:, None] & (columns >= h)[None, :]
    return jnp.where(boxed & ~jnp.isnan(median), median, 0)


def _neighbours(image: Array, h: int, beyond: float) -> list[Array]:
    """The box around every pixel as shifted images, with a value for what lies beyond the edge."""
    padded = jnp.pad(image, h, constant_values=beyond)
    ny, nx = image.shape
    side = range(2 * h + 1)
    return [padded[i : i + ny, j : j + nx] for i in side for j in side]
