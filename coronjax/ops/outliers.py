"""Flag the cosmic rays of an exposure: pixels that stand out from the median of its integrations."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from ..cube import DQ, VARIANCES, Cube, masked, parse_bits, unusable
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
    found = _find(cube, prediction, OutlierDetection() if options is None else options)
    n_flagged = jnp.sum(found.flagged, axis=(1, 2))
    return Outliers(_decided(cube, found).applied(cube), found.flagged, found.undecided, found.median, n_flagged)


class Decision(eqx.Module):
    """What becomes of the pixels of an exposure.

    To decide takes long, and the compiler would do it again for each array of the cube that it is applied to, unless it
    is behind a branch.
    """

    bad: Bool[Array, "*planes y x"]  # NaN and DO_NOT_USE
    dq: UInt32[Array, "*planes y x"]
    growth: Float[Array, "*planes y x"] | None  # of variances; None: none grows

    def applied(self, cube: Cube) -> Cube:
        """The cube that it was decided of, flagged."""
        return masked(dataclasses.replace(_widened(cube, self.growth), dq=self.dq), self.bad)


def decide_outliers(cube: Cube, *, prediction: Float[Array, "y x"] | None, options: OutlierDetection) -> Decision:
    """Decide as `flag_outliers` does.

    Args:
        cube: the integrations of one exposure.
        prediction: the star's light in them, if it is known.
        options: as there.

    Returns:
        `Decision`.
    """
    return _decided(cube, _find(cube, prediction, options))


def nothing_decided(cube: Cube, *, options: OutlierDetection) -> Decision:
    """The decision on integrations that are padding: NaN and DO_NOT_USE are made to agree.

    Args:
        cube: such integrations.
        options: as in `flag_outliers`.

    Returns:
        `Decision`, of the same form as that of `decide_outliers`.
    """
    growth = jnp.ones_like(cube.err) if _tells_pairs(cube, options) else None
    return Decision(unusable(cube), cube.dq, growth)


class _Found(NamedTuple):
    flagged: Bool[Array, "int y x"]
    undecided: Bool[Array, "int y x"]
    growth: Float[Array, "int y x"] | None
    median: Float[Array, "y x"]


def _find(cube: Cube, prediction: Array | None, options: OutlierDetection) -> _Found:
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
    if not _tells_pairs(cube, options):
        return _Found(flagged, jnp.zeros_like(flagged), None, median)
    good = usable & ~jnp.isnan(cube.sci)
    single = jnp.sum(good, axis=0) != 2
    pairs = decide_pairs(cube.sci, cube.err, good, flagged & single, median, prediction, options)
    flagged = jnp.where(single, flagged, pairs.flagged)
    return _Found(flagged, pairs.undecided, _growth(cube.err, pairs.undecided, pairs.excess), median)


def _tells_pairs(cube: Cube, options: OutlierDetection) -> bool:
    """Whether of two integrations the one that is wrong is looked for."""
    return options.pairs == "prediction" and not options.skip and len(cube.sci) > 1


def _decided(cube: Cube, found: _Found) -> Decision:
    dq = jnp.where(found.flagged, cube.dq | jnp.uint32(_FLAG), cube.dq)
    dq = jnp.where(found.undecided, dq | jnp.uint32(DQ.OUTLIER.value), dq)
    bad = unusable(dataclasses.replace(_widened(cube, found.growth), dq=dq))
    return Decision(bad, dq, found.growth)


def _growth(err: Array, undecided: Array, excess: Array) -> Array:
    """The factor by which the variance of undecided pixels grows, to cover the excess."""
    grown = undecided & (err > 0)
    return jnp.where(grown, 1 + excess**2 / (2 * jnp.where(grown, err, 1) ** 2), 1)


def _widened(cube: Cube, growth: Array | None) -> Cube:
    """Let variances grow, and the error with them."""
    if growth is None:
        return cube
    fields: dict[str, Any] = {"err": cube.err * jnp.sqrt(growth)}
    for name in VARIANCES:
        variance = getattr(cube, name)
        fields[name] = None if variance is None else variance * growth
    return dataclasses.replace(cube, **fields)
