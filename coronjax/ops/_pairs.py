"""Decide which of two integrations a sharp difference belongs to."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..options import OutlierDetection
from ._sums import sum_of_planes

_MOTION = 2.0  # a star may change smoothly by so many times `mismatch`
_LINEAR = 1.25  # variance of the neighbours' prediction over that of a pixel: 4 (1/2)^2 + 4 (1/4)^2
_DOUBT = 3.0  # by so many times `mismatch` of what is sharp in the star a prediction is off
_PRIOR = 2.3  # log odds beforehand: ten positive hits to one negative
_CERTAIN = 4.6  # log odds of a decision: 99 to 1
_PASSES = 3  # a hit that reaches several pixels is taken off from the strongest outwards


class Pairs(eqx.Module):
    """What was found where just two integrations are good."""

    flagged: Bool[Array, "int y x"]  # this integration is wrong
    undecided: Bool[Array, "int y x"]  # one of two is wrong, and nothing says which: both are marked
    excess: Float[Array, "y x"]  # difference of the two beyond what a moving star explains, MJy/sr


class _Pair(eqx.Module):
    """The two good integrations of every pixel."""

    found: Bool[Array, "y x"]  # there are just two
    first: Bool[Array, "int y x"]
    second: Bool[Array, "int y x"]

    def __init__(self, good: Bool[Array, "int y x"]):
        """Of more than two the first and the last, of none any."""
        plane, n = jnp.arange(len(good))[:, None, None], len(good)
        self.found = jnp.sum(good, axis=0) == 2
        self.first = plane == (jnp.min(jnp.where(good, plane, n - 1), axis=0) if n > 2 else 0)
        self.second = plane == (jnp.max(jnp.where(good, plane, 0), axis=0) if n > 2 else 1)

    def __call__(self, planes: Float[Array, "int y x"]) -> tuple[Float[Array, "y x"], Float[Array, "y x"]]:
        """The two values of every pixel."""
        if len(planes) == 2:
            return planes[0], planes[1]
        return sum_of_planes(jnp.where(self.first, planes, 0)), sum_of_planes(jnp.where(self.second, planes, 0))

    def mark(self, in_first: Bool[Array, "y x"], in_second: Bool[Array, "y x"]) -> Bool[Array, "int y x"]:
        """Booleans of the two, put where they belong among all integrations."""
        return self.found & ((in_first & self.first) | (in_second & self.second))


class _Smooth(eqx.Module):
    """What the neighbours predict for every pixel: of third degree, or a mean where some are missing."""

    beside: Float[Array, "y x"]  # what each of the four nearest counts
    diagonal: Float[Array, "y x"]
    itself: Float[Array, "y x"]  # 1 where there are no neighbours
    complete: Bool[Array, "y x"]  # all eight are there

    def __init__(self, known: Bool[Array, "y x"], dtype: jnp.dtype):
        """Pixels that are not known are to be 0 in the images."""
        n_beside, n_diagonal = _sums(known.astype(dtype))
        self.complete = (n_beside == 4) & (n_diagonal == 4)
        self.beside = jnp.where(self.complete, 0.5, jnp.where(n_beside > 0, 1 / jnp.maximum(n_beside, 1), 0))
        alone = jnp.where((n_beside == 0) & (n_diagonal > 0), 1 / jnp.maximum(n_diagonal, 1), 0)
        self.diagonal = jnp.where(self.complete, -0.25, alone)
        self.itself = jnp.where(n_beside + n_diagonal == 0, 1.0, 0.0).astype(dtype)

    def __call__(self, image: Float[Array, "*planes y x"]) -> Float[Array, "*planes y x"]:
        """The prediction for one image or several."""
        beside, diagonal = _sums(image)
        return self.beside * beside + self.diagonal * diagonal + self.itself * image


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

    with $\Delta = a - b$; $L$ what the means of the four nearest and of the four diagonal neighbours predict for a
    pixel, exact for cubic polynomials; the maximum over a pixel and its neighbours; and $\lambda$ going from 0 where no
    star can change to 1 where its change outweighs the neighbours' noise. What neighbours fail to predict of the
    star's light P they fail to predict of its changes: the sharper the star is sampled, the less is sure.

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
    pair, known = _Pair(good), ~jnp.isnan(median)
    snr, mismatch = (jnp.asarray(number, sci.dtype) for number in (options.snr, options.mismatch))
    prediction = None if prediction is None else prediction.astype(sci.dtype)
    smooth = _Smooth(known, sci.dtype)
    level = jnp.where(known, median, 0)
    expected = jnp.zeros_like(level) if prediction is None else jnp.where(known, jnp.nan_to_num(prediction), 0)
    star = level if prediction is None else jnp.where(jnp.isnan(prediction) | ~known, level, prediction)
    noise_a, noise_b = pair(jnp.where(good & jnp.isfinite(err), err, 0))
    variance, (motion, sharp) = noise_a**2 + noise_b**2, _changes(star, known, smooth, mismatch)
    trust = motion / jnp.where(motion > 0, motion + _LINEAR * variance, 1)
    threshold = snr * jnp.sqrt(jnp.where(pair.found, variance + sharp, 1))
    doubt = (1 + _LINEAR) * variance / 4 + _DOUBT**2 * sharp
    planes = jnp.where(good & ~outlying, sci, level)
    (a, b), off = pair(planes), smooth(expected) - expected

    def step(turn: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        smooth_a, smooth_b = pair(smooth(state[0]))
        gap = trust * (smooth_a - smooth_b)
        excess = (a - b) - gap
        middle = (a + b) / 2 - (smooth_a + smooth_b) / 2 + off
        odds = _PRIOR + middle * jnp.abs(excess) / jnp.where(doubt > 0, doubt, 1)
        # What stands beside a hit seems to deviate the other way, yet the two integrations do not differ there.
        hit = pair.found & (jnp.minimum(jnp.abs(excess), 2 * jnp.sign(excess) * (a - b)) > threshold)
        in_a = (odds > 0) == (excess > 0)
        # The neighbours as they would be without the hits: those give way to the other integration.
        mended = jnp.where(pair.mark(hit & in_a, hit & ~in_a), jnp.where(in_a, b + gap, a - gap), planes)
        return mended, excess, odds

    _, excess, odds = jax.lax.fori_loop(0, _PASSES, step, (planes, jnp.zeros_like(a), jnp.zeros_like(a)))
    hit, in_a = pair.found & (jnp.abs(excess) > threshold), (odds > 0) == (excess > 0)
    sure, both = hit & (jnp.abs(odds) > _CERTAIN), hit & (jnp.abs(odds) <= _CERTAIN)
    return Pairs(pair.mark(sure & in_a, sure & ~in_a), pair.mark(both, both), jnp.where(both, excess, 0))


def _changes(star: Array, known: Array, smooth: _Smooth, mismatch: Array) -> tuple[Array, Array]:
    """Variance of the star's changes: of what neighbours can tell, and of what they cannot."""
    light = mismatch * _largest(_above_sky(star, known))
    sharp = jnp.where(smooth.complete, mismatch * _largest(star - smooth(star)), light)
    return (_MOTION * light) ** 2, sharp**2


def _beside(image: Float[Array, "*planes y x"], axis: int) -> tuple[Array, Array]:
    """The two neighbours of every pixel along an axis; beyond the edge there is nothing."""
    edge = jnp.zeros_like(jax.lax.slice_in_dim(image, 0, 1, axis=axis))
    n = image.shape[axis]
    return (
        jnp.concatenate([edge, jax.lax.slice_in_dim(image, 0, n - 1, axis=axis)], axis),
        jnp.concatenate([jax.lax.slice_in_dim(image, 1, n, axis=axis), edge], axis),
    )


def _sums(image: Float[Array, "*planes y x"]) -> tuple[Array, Array]:
    """Of every pixel the sum of the four nearest and that of the four diagonal neighbours."""
    row = jnp.add(*_beside(image, -1))
    return row + jnp.add(*_beside(image, -2)), jnp.add(*_beside(row, -2))


def _largest(image: Float[Array, "y x"]) -> Float[Array, "y x"]:
    """The largest magnitude among a pixel and its neighbours, as a constant."""
    magnitude = jax.lax.stop_gradient(jnp.abs(image))
    return jax.lax.reduce_window(magnitude, -jnp.inf, jax.lax.max, (3, 3), (1, 1), "SAME")


def _above_sky(image: Float[Array, "y x"], known: Bool[Array, "y x"]) -> Float[Array, "y x"]:
    """An image over the level of its faintest tenth, judged by a sample: what a pedestal is no star can move."""
    sample, counted = image[::8, ::8].ravel(), known[::8, ::8].ravel()
    rank = jnp.sum(counted) // 10
    level = jnp.sort(jnp.where(counted, sample, jnp.inf))[rank]
    return image - jax.lax.stop_gradient(jnp.where(jnp.isfinite(level), level, 0))
