"""Flag the cosmic rays of an exposure: pixels that stand out from the median of its integrations."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..cube import DQ, Cube, match_nans_and_flags, parse_bits
from ..options import OutlierDetection
from ._pairs import decide_pairs
from .median import nanmedian

_FLAG = DQ.DO_NOT_USE.value | DQ.OUTLIER.value


class Outliers(eqx.Module):
    """An exposure with its outliers flagged, and what they were measured against."""

    cube: Cube  # flagged pixels are DO_NOT_USE and OUTLIER, and NaN in every array
    flagged: Bool[Array, "int y x"]
    undecided: Bool[
        Array, "int y x"
    ]  # one of two integrations is wrong, and nothing says which: OUTLIER and a larger ERR
    median: Float[Array, "y x"]  # MJy/sr; NaN where no integration is good
    n_flagged: Int[Array, " int"]


def flag_outliers(
    cube: Cube, *, prediction: Float[Array, "y x"] | None = None, options: OutlierDetection | None = None
) -> Outliers:
    r"""Flag pixels that differ from the median of the integrations by more than their error allows.

    $$ |d_i - \operatorname{median}_j d_j| > s \, \sigma_i $$

    The median is over good pixels; the test is of every pixel. Where just two integrations are good their median is
    their mean, both deviate alike, and the test cannot say which is wrong. By default such a pair is looked at by
    itself:

    $$ |\Delta - L(\Delta)| > s \sqrt{\sigma_1^2 + \sigma_2^2 + f^2 (P - L(P))^2}, \qquad \Delta = d_1 - d_2 $$

    with P the star's light and L what the eight neighbours predict for a pixel: a star that moves changes smoothly, a
    cosmic ray does not. Then the integration is flagged that the prediction of the star's light speaks against; where
    it does not tell, both are marked and their variances grow by half of the squared
    difference, so that the error of their mean covers it. NaN and DO_NOT_USE are made to agree afterwards.

    Args:
        cube: the integrations of one exposure, MJy/sr.
        prediction: the star's light in them, from `predict_star`, MJy/sr; NaN where unknown. None: of a pair the
            neighbours alone decide.
        options: `snr` is $s$, `mismatch` $f$, `good_bits` and `maskpt` say which pixels enter the median;
            `pairs="both"` flags both integrations of a pair; `skip` flags nothing.

    Returns:
        `Outliers`. With one integration nothing stands out and nothing is flagged.

    Example:
        >>> sci = jnp.ones((3, 2, 2)).at[1, 0, 0].set(90.0)
        >>> cube = Cube(sci, jnp.ones((3, 2, 2)), jnp.zeros((3, 2, 2), jnp.uint32), jnp.ones(3, bool))
        >>> flag_outliers(cube).n_flagged.tolist()
        [0, 1, 0]

    Source: outlier_detection, mode 'coron', of jwst 3.0.0; pairs: after P. G. van Dokkum 2001, PASP 113, 1420, whose
    hits too are what is sharper than the light of the sky.
    """
    options = OutlierDetection() if options is None else options
    valid = cube.valid[:, None, None]
    bits, complement = parse_bits(options.good_bits)
    bad_bits = bits if complement else ~bits & 0xFFFFFFFF
    weight = jnp.where((cube.dq & jnp.uint32(bad_bits)) == 0, 1.0, 0.0)
    # The mean of the non-zero weights is one; where no pixel is good the threshold is undefined and masks nothing.
    threshold = jnp.where(jnp.any((weight > 0) & valid), options.maskpt, -jnp.inf)
    usable = (weight >= threshold) & valid
    median = nanmedian(cube.sci, usable)
    limit = options.snr * jnp.nan_to_num(jax.lax.stop_gradient(cube.err))
    flagged = (jnp.abs(cube.sci - median) > limit) & valid & (not options.skip)
    undecided = jnp.zeros_like(flagged)
    if options.pairs == "prediction" and not options.skip and len(cube.sci) > 1:
        good = usable & ~jnp.isnan(cube.sci)
        single = jnp.sum(good, axis=0) != 2
        pairs = decide_pairs(cube.sci, cube.err, good, flagged & single, median, prediction, options)
        flagged, undecided = jnp.where(single, flagged, pairs.flagged), pairs.undecided
        cube = _widen(cube, undecided, pairs.excess)
    dq = jnp.where(flagged, cube.dq | jnp.uint32(_FLAG), cube.dq)
    dq = jnp.where(undecided, dq | jnp.uint32(DQ.OUTLIER.value), dq)
    matched = match_nans_and_flags(eqx.tree_at(lambda c: c.dq, cube, dq))
    return Outliers(matched, flagged, undecided, median, jnp.sum(flagged, axis=(1, 2)))


def _widen(cube: Cube, undecided: Array, excess: Array) -> Cube:
    """Let error and variances of undecided pixels grow by the same factor, to cover the excess."""
    grown = undecided & (cube.err > 0)
    safe = jnp.where(grown, cube.err, 1)
    factor = jnp.where(grown, 1 + excess**2 / (2 * safe**2), 1)

    def spread(cube: Cube) -> list[Array | None]:
        variances = (cube.var_poisson, cube.var_rnoise, cube.var_flat)
        return [cube.err * jnp.sqrt(factor), *(None if v is None else v * factor for v in variances)]

    return eqx.tree_at(
        lambda c: (c.err, c.var_poisson, c.var_rnoise, c.var_flat),
        cube,
        spread(cube),
        is_leaf=lambda leaf: leaf is None,
    )
