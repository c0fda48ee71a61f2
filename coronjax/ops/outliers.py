"""Flag the cosmic rays of an exposure: pixels that stand out from the median of its integrations."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..cube import DQ, Cube, match_nans_and_flags, parse_bits
from ..options import OutlierDetection
from .median import nanmedian

_FLAG = DQ.DO_NOT_USE.value | DQ.OUTLIER.value


class Outliers(eqx.Module):
    """An exposure with its outliers flagged, and what they were measured against."""

    cube: Cube  # flagged pixels are DO_NOT_USE and OUTLIER, and NaN in every array
    flagged: Bool[Array, "int y x"]
    median: Float[Array, "y x"]  # MJy/sr; NaN where no integration is good
    n_flagged: Int[Array, " int"]


def flag_outliers(cube: Cube, *, options: OutlierDetection | None = None) -> Outliers:
    r"""Flag pixels that differ from the median of the integrations by more than their error allows.

    $$ |d_i - \operatorname{median}_j d_j| > s \, \sigma_i $$

    The median is over good pixels; the test is of every pixel. NaN and DO_NOT_USE are made to agree afterwards.

    Args:
        cube: the integrations of one exposure, MJy/sr.
        options: `snr` is $s$, `good_bits` and `maskpt` say which pixels enter the median; `skip` flags nothing.

    Returns:
        `Outliers`. With one integration nothing stands out and nothing is flagged; with two the median is their
        mean, both deviate alike, and a cosmic ray flags the pixel in both.

    Example:
        >>> sci = jnp.ones((3, 2, 2)).at[1, 0, 0].set(90.0)
        >>> cube = Cube(sci, jnp.ones((3, 2, 2)), jnp.zeros((3, 2, 2), jnp.uint32), jnp.ones(3, bool))
        >>> flag_outliers(cube).n_flagged.tolist()
        [0, 1, 0]

    Source: outlier_detection, mode 'coron', of jwst 3.0.0.
    """
    options = OutlierDetection() if options is None else options
    valid = cube.valid[:, None, None]
    bits, complement = parse_bits(options.good_bits)
    bad_bits = bits if complement else ~bits & 0xFFFFFFFF
    weight = jnp.where((cube.dq & jnp.uint32(bad_bits)) == 0, 1.0, 0.0)
    # The mean of the non-zero weights is one; where no pixel is good the threshold is undefined and masks nothing.
    threshold = jnp.where(jnp.any((weight > 0) & valid), options.maskpt, -jnp.inf)
    median = nanmedian(cube.sci, (weight >= threshold) & valid)
    limit = options.snr * jnp.nan_to_num(jax.lax.stop_gradient(cube.err))
    flagged = (jnp.abs(cube.sci - median) > limit) & valid & (not options.skip)
    dq = jnp.where(flagged, cube.dq | jnp.uint32(_FLAG), cube.dq)
    matched = match_nans_and_flags(eqx.tree_at(lambda c: c.dq, cube, dq))
    return Outliers(matched, flagged, median, jnp.sum(flagged, axis=(1, 2)))
