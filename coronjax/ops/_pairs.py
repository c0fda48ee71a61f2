"""Decide which of two integrations a sharp difference belongs to."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..options import OutlierDetection

_MOTION = 2.0  # a star may change smoothly by so many times `mismatch`
_LINEAR = 1.25  # variance of the neighbours' prediction over that of a pixel: 4 (1/2)^2 + 4 (1/4)^2
_DOUBT = 3.0  # by so many times `mismatch` of what is sharp in the star a prediction is off
_PRIOR = 2.3  # log odds beforehand: ten positive hits to one negative
_CERTAIN = 4.6  # log odds of a decision: 99 to 1
_PASSES = 3  # a hit that reaches several pixels is taken off from the strongest outwards
_BESIDE = ((0, 1), (1, 0), (1, 2), (2, 1))
_DIAGONAL = ((0, 0), (0, 2), (2, 0), (2, 2))


class Pairs(eqx.Module):
    """What was found where just two integrations are good."""

    flagged: Bool[Array, "int y x"]  # this integration is wrong
    undecided: Bool[Array, "int y x"]  # one of two is wrong, and nothing says which: both are marked
    excess: Float[Array, "y x"]  # difference of the two beyond what a moving star explains, MJy/sr


class _Pair(eqx.Module):
    """The two good integrations of every pixel."""

    found: Bool[Array, "y x"]  # there are just two
    first: Int[Array, "y x"]
    second: Int[Array, "y x"]

    def __call__(self, planes: Float[Array, "int y x"]) -> tuple[Float[Array, "y x"], Float[Array, "y x"]]:
        """The two values of every pixel."""
        if len(planes) == 2:
            return planes[0], planes[1]
        take = jnp.take_along_axis
        return take(planes, self.first[None], axis=0)[0], take(planes, self.second[None], axis=0)[0]

    def mark(self, in_first: Bool[Array, "y x"], in_second: Bool[Array, "y x"], n: int) -> Bool[Array, "int y x"]:
        """Booleans of the two, put where they belong among all integrations."""
        plane = jnp.arange(n)[:, None, None]
        return self.found & ((in_first & (plane == self.first)) | (in_second & (plane == self.second)))


def decide_pairs(
    sci: Float[Array, "int y x"],
    err: Float[Array, "int y x"],
    good: Bool[Array, "int y x"],
    outlying: Bool[Array, "int y x"],
    median: Float[Array, "y x"],
    prediction: Float[Array, "y x"] | None,
    options: OutlierDetection,
) -> Pairs:
    r"""Find hits where two integrations are good, and the one they are in.

    $$ |\Delta - \lambda L(\Delta)| > k \sqrt{\sigma_a^2 + \sigma_b^2 + f^2 \max (P - L(P))^2}, \qquad
       L(d) = 2 \bar d_+ - \bar d_\times $$

    with $\Delta = a - b$; $L$ what the means of the four nearest and of the four diagonal neighbours predict for a pixel,
    exact for cubic polynomials; the maximum over a pixel and its neighbours; and $\lambda$ going from 0 where no star
    can change to 1 where its change outweighs the neighbours' noise. What neighbours fail to predict of the star's
    light P they fail to predict of its changes: the sharper the star is sampled, the less is sure.

    Where the mean of the two lies against the prediction, once more beyond what the neighbours say, gives the odds of
    a positive hit in the brighter integration against a negative one in the fainter.

    Args:
        sci: the integrations, MJy/sr.
        err: their standard deviations, MJy/sr.
        good: pixels that are usable.
        outlying: pixels that stand out from a median of three or more: no good as neighbours.
        median: of the good values, NaN where there are none.
        prediction: the star's light, NaN where unknown; None: the neighbours alone decide.
        options: `snr` is k, `mismatch` is f.

    Returns:
        `Pairs`.
    """
    pair = _Pair(jnp.sum(good, axis=0) == 2, jnp.argmax(good, axis=0), len(sci) - 1 - jnp.argmax(good[::-1], axis=0))
    known = ~jnp.isnan(median)
    level = jnp.where(known, median, 0)
    expected = jnp.zeros_like(level) if prediction is None else jnp.nan_to_num(prediction)
    star = level if prediction is None else jnp.where(jnp.isnan(prediction), level, prediction)
    complete = sum(_around(known.astype(sci.dtype), _BESIDE + _DIAGONAL)) == 8
    light = options.mismatch * _largest(star)
    sharp = jnp.where(complete, options.mismatch * _largest(star - _neighbours(star, known)), light)
    noise_a, noise_b = pair(jnp.where(good & jnp.isfinite(err), err, 0))
    variance = noise_a**2 + noise_b**2
    motion = (_MOTION * light) ** 2
    trust = motion / jnp.where(motion > 0, motion + _LINEAR * variance, 1)
    threshold = options.snr * jnp.sqrt(jnp.where(pair.found, variance + sharp**2, 1))
    doubt = (1 + _LINEAR) * variance / 4 + (_DOUBT * sharp) ** 2
    planes = jnp.where(good & ~outlying, sci, level)
    (a, b), off = pair(planes), _neighbours(expected, known) - expected
    working = planes
    for step in range(_PASSES):
        smooth_a, smooth_b = pair(_neighbours(working, known))
        gap = trust * (smooth_a - smooth_b)
        excess = (a - b) - gap
        hit = pair.found & (jnp.abs(excess) > threshold)
        if step < _PASSES - 1:  # strongest first: what stands beside a hit seems to deviate the other way
            hit = hit & (jnp.abs(excess) >= _largest(excess))
        middle = (a + b) / 2 - (smooth_a + smooth_b) / 2 + off
        odds = _PRIOR + middle * jnp.abs(excess) / jnp.where(doubt > 0, doubt, 1)
        in_a = hit & ((odds > 0) == (excess > 0))
        in_b = hit & ~in_a
        # The neighbours as they would be without the hits: those give way to the other integration.
        working = jnp.where(pair.mark(in_a, in_b, len(sci)), jnp.where(in_a, b + gap, a - gap), planes)
    certain = jnp.abs(odds) > _CERTAIN
    both = hit & ~certain
    flagged = pair.mark(in_a & certain, in_b & certain, len(sci))
    return Pairs(flagged, pair.mark(both, both, len(sci)), jnp.where(both, excess, 0))


def _around(image: Float[Array, "*planes y x"], places: tuple[tuple[int, int], ...]) -> list[Array]:
    """Every pixel's neighbours at some places of a 3 x 3 box, as images; beyond the edge there is nothing."""
    ny, nx = image.shape[-2:]
    padded = jnp.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)])
    return [padded[..., i : i + ny, j : j + nx] for i, j in places]


def _neighbours(image: Float[Array, "*planes y x"], known: Bool[Array, "y x"]) -> Float[Array, "*planes y x"]:
    """What the neighbours predict for every pixel: of third degree, or a mean where some kind is missing."""
    counted = known.astype(image.dtype)

    def mean(places: tuple[tuple[int, int], ...]) -> tuple[Array, Array]:
        count = sum(_around(counted, places))
        return sum(_around(image * counted, places)) / jnp.maximum(count, 1), count

    (beside, n_beside), (diagonal, n_diagonal) = mean(_BESIDE), mean(_DIAGONAL)
    both = jnp.where((n_beside == 4) & (n_diagonal == 4), 2 * beside - diagonal, beside)
    return jnp.where(n_beside > 0, both, jnp.where(n_diagonal > 0, diagonal, image))


def _largest(image: Float[Array, "y x"]) -> Float[Array, "y x"]:
    """The largest magnitude among a pixel and its neighbours."""
    light = jnp.abs(image)
    largest = light
    for neighbour in _around(light, _BESIDE + _DIAGONAL):
        largest = jnp.maximum(largest, neighbour)
    return largest
