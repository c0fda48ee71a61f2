r"""Residual speckles: what the star leaves behind beyond the noise of detector and references.

The model is fixed beforehand. Over a resolution element speckles vary together: their correlation is a Gaussian as wide
as the telescope resolves, $\lambda / D$. Their variance follows the contrast of the star's own image, whose light a
change of the wavefront beats with, times a smooth function of the distance from the star; that function alone is
measured, on the scale on which a companion is.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._root import root

BORDER = 32  # zeros beside a frame that is convolved: kernels reach no further, pixels
REACH = 1.5  # radius of the disc in which a companion is compared with its surroundings, in widths
COVERED = 0.8  # a disc counts where at least this share of its kernel holds good pixels
LIMIT = 4.0  # times the scatter expected: what stands out further is a source
ROUNDS = 8  # of leaving out sources
SKIRT = 0.02  # of the core: so far around a source its light is left out as well
SHARPENINGS = 2  # of the profile against the mixing of distances within a disc
RINGS = 32  # distances at which the variance is found
NARROWEST = 2.0  # of those, pixels
BREADTH = 0.12  # of a ring, standard deviation over distance
BIN = 0.5  # of distances, pixels
FLAT = 1e-6  # of the star's mean contrast: where it has none, the variance depends on the distance alone


class _Disc(NamedTuple):
    """Kernels around the origin of a padded frame, `[kernel y x]`."""

    pair: Array  # a Gaussian core within the disc; the disc, which is one
    noise: Array  # products of the two: core core, core disc, disc disc
    gain: Array  # [1 y x] how much of its variance a speckle keeps, by offset


class _Rings(NamedTuple):
    """Rings around the star."""

    bins: Array  # [y x] bin of distances that a pixel is in
    weight: Array  # [ring bin]
    place: Array  # [y x] distance as a fractional number of rings


def correlate_speckles(amplitude: Float[Array, "y x"], fwhm: float | Float[Array, ""]) -> Float[Array, "y x"]:
    r"""Apply the correlation of speckles to an image, so that $a^T R a$ is the variance of a weighted sum of them.

    $$ (R a)_p = \sum_q a_q \, e^{-4 \ln 2 \, |p - q|^2 / \mathrm{fwhm}^2} $$

    Args:
        amplitude: weight times standard deviation of the speckles in each pixel, any unit.
        fwhm: width of the correlation, pixels, at most 12: $\lambda / D$. Traced.

    Returns:
        Image in the unit of `amplitude`.

    Example:
        >>> point = jnp.zeros((5, 5)).at[2, 2].set(1.0)
        >>> correlate_speckles(point, 2.0)[2].round(4).tolist()
        [0.0625, 0.5, 1.0, 0.5, 0.0625]
    """
    return _convolve(amplitude, _gaussian(_distance(amplitude), fwhm)[None])[0]


def speckle_variance(
    residual: Float[Array, "y x"],
    noise_variance: Float[Array, "y x"],
    star: Float[Array, " 2"],
    *,
    fwhm: float | Float[Array, ""],
    model: Float[Array, "y x"] | None = None,
    good: Bool[Array, "y x"] | None = None,
) -> Float[Array, "y x"]:
    r"""Variance of the speckles that the subtraction of the star left in an exposure.

    $$ s_p^2 = c_p \, h(|p - \star|), \qquad
       \langle z^2 \rangle_r = \sum_u Q_u \langle s^2_{p-u} \rangle_r + \langle \mathrm{Var}_\mathrm{n}\, z \rangle_r $$

    $z$ is the residual through the filter that a companion is measured with, a Gaussian core against the level of a
    disc; $c$ is the contrast of `model`, and $Q = K \, (R * K)$ what filter and correlation leave of a speckle. $h$ is
    solved for in rings around the star. What stands out by more than four times the scatter expected is a source and
    is left out.

    Args:
        residual: mean of an exposure's integrations, the star subtracted, MJy/sr; NaN is missing.
        noise_variance: of that mean, by detector and references, (MJy/sr)^2.
        star: (x, y), pixels.
        fwhm: $\lambda / D$, pixels, at most 20. Traced.
        model: image of the star that was subtracted, MJy/sr, finite; by default of even contrast.
        good: pixels that may be used; by default all that are finite. Leave bright sources out here: the wings of one
            that stands out a hundredfold double the variance at its distance and more.

    Returns:
        Variance, (MJy/sr)^2, never negative; 0 where the noise explains the residual. Finite everywhere.
        Differentiable, with the choice of the sources held fixed.

    Example:
        >>> noise = jax.random.normal(jax.random.key(0), (48, 48))
        >>> speckles = 3 * correlate_speckles(jax.random.normal(jax.random.key(1), (48, 48)), 4.0)
        >>> bool(speckle_variance(speckles + noise, jnp.ones((48, 48)), jnp.array([24.0, 24.0]), fwhm=5.0).mean() > 10)
        True

    Source: speckles pinned to the star's image: Aime & Soummer 2004, ApJ 612, L85.
    """
    usable = jnp.isfinite(residual) & jnp.isfinite(noise_variance)
    good = usable if good is None else usable & good
    values, noise = jnp.where(good, residual, 0), jnp.where(good, noise_variance, 0)
    kernels = _disc(values, jnp.asarray(fwhm, values.dtype))
    rings = _rings(values, star, fwhm)
    filtered, share, covered = _filtered(values, good, kernels)
    square, cross, level = _convolve(noise, kernels.noise)
    known = square - 2 * share * cross + share**2 * level
    contrast = jnp.ones_like(values) if model is None else _contrast(model, good, kernels)
    power, excess = filtered**2, filtered**2 - known
    kept = _without_sources(power, known, contrast, covered, rings, kernels)
    found = _ratio(_total(excess, kept, rings), _total(contrast, kept, rings))
    profile = found / jnp.sum(kernels.gain)
    for _ in range(SHARPENINGS):
        expected = _convolve(_spread(profile, rings) * contrast, kernels.gain)[0]
        change = _ratio(_total(excess, kept, rings), _total(expected, kept, rings))
        profile = profile * jnp.clip(change, 0.25, 4)
    return _spread(profile, rings) * contrast


def _without_sources(
    power: Array, known: Array, contrast: Array, covered: Array, rings: _Rings, kernels: _Disc
) -> Array:
    """Pixels away from what stands out: that, and the scatter that the rest has, are found in turns, faint first."""
    power, known, contrast, kernels = jax.lax.stop_gradient((power, known, contrast, kernels))
    # For Gaussian noise the mean root of the modulus is 0.8222 of that of the scatter; sources weigh little in it.
    root = _ratio(_total(power**0.25, covered, rings), _total(jnp.ones_like(power), covered, rings))
    start = covered & (power <= LIMIT**2 * _spread((root / 0.8222) ** 4, rings))

    def again(kept: Array, _: None) -> tuple[Array, None]:
        profile = _ratio(_total(power - known, kept, rings), _total(contrast, kept, rings))
        return covered & (power <= LIMIT**2 * (_spread(profile, rings) * contrast + known)), None

    kept = jax.lax.scan(again, start, None, ROUNDS)[0]
    return kept & (_convolve((covered & ~kept).astype(power.dtype), kernels.pair[:1])[0] < SKIRT)


def _filtered(image: Array, good: Array, kernels: _Disc) -> tuple[Array, Array, Array]:
    """The core's sum less its share of the disc's; that share; where enough of the core is good."""
    ones, values = good.astype(image.dtype), jnp.where(good, image, 0)
    core, disc = _convolve(ones, kernels.pair)
    covered = good & (core > COVERED * jnp.sum(kernels.pair[0]))
    share = jnp.where(covered, core / jnp.where(covered, disc, 1), 0)
    sums = _convolve(values, kernels.pair)
    return jnp.where(covered, sums[0] - share * sums[1], 0), share, covered


def _contrast(model: Array, good: Array, kernels: _Disc) -> Array:
    """Root mean square of the star's filtered image, around every pixel, over its mean."""
    filtered = _filtered(model, good, kernels)[0]
    contrast = root(_convolve(filtered**2, kernels.pair[:1])[0])
    mean = jnp.mean(contrast)
    return jnp.where(mean > 0, contrast / jnp.where(mean > 0, mean, 1), 0) + FLAT


def _disc(image: Array, fwhm: Array) -> _Disc:
    distance = _distance(image)
    disc = jnp.clip(REACH * fwhm + 0.5 - distance, 0, 1)
    shape = _gaussian(distance, fwhm)
    core = shape * disc
    both = core - disc * (jnp.sum(core) / jnp.sum(disc))
    correlated = jnp.fft.irfft2(jnp.fft.rfft2(shape) * jnp.fft.rfft2(both), both.shape)
    return _Disc(jnp.stack([core, disc]), jnp.stack([core * core, core * disc, disc * disc]), (both * correlated)[None])


def _rings(image: Array, star: Array, fwhm: Array | float) -> _Rings:
    y, x = (axis.astype(image.dtype) for axis in jnp.indices(image.shape))
    # No derivative in the star's position: it only says which ring a pixel counts in.
    star = jax.lax.stop_gradient(jnp.asarray(star, image.dtype))
    distance = jnp.hypot(x - star[0], y - star[1])
    farthest = 2.0 * sum(image.shape)
    growth = jnp.log(farthest / NARROWEST) / (RINGS - 1)
    radius = NARROWEST * jnp.exp(growth * jnp.arange(RINGS, dtype=image.dtype))
    middle = BIN * (jnp.arange(int(farthest / BIN), dtype=image.dtype) + 0.5)
    breadth = jnp.hypot(BREADTH * radius, jnp.asarray(fwhm, image.dtype) / 2.355)
    weight = jnp.exp(-0.5 * ((middle - radius[:, None]) / breadth[:, None]) ** 2)
    place = jnp.log(jnp.maximum(distance, NARROWEST) / NARROWEST) / growth
    return _Rings((distance / BIN).astype(int), weight, place)


def _total(image: Array, kept: Array, rings: _Rings) -> Array:
    """Sums over the pixels kept, around every ring's radius."""
    count = rings.weight.shape[1]
    sums = jax.ops.segment_sum(jnp.where(kept, image, 0).ravel(), rings.bins.ravel(), count)
    return jnp.matmul(rings.weight, sums, precision="highest")


def _spread(profile: Array, rings: _Rings) -> Array:
    """A profile as an image, linear between rings."""
    inner = jnp.minimum(rings.place.astype(int), RINGS - 2)
    share = rings.place - inner
    return (1 - share) * profile[inner] + share * profile[inner + 1]


def _ratio(above: Array, below: Array) -> Array:
    """The ratio of sums, neither negative; 0 where there is nothing to divide by."""
    some = below > 0
    return jnp.where(some, jnp.maximum(above, 0) / jnp.where(some, below, 1), 0)


def _gaussian(distance: Array, fwhm: Array | float) -> Array:
    return jnp.exp(-4 * jnp.log(2.0) * (distance / fwhm) ** 2).astype(distance.dtype)


def _distance(image: Array) -> Array:
    """Distance from the first pixel of the padded frame, which is periodic."""
    ny, nx = (n + BORDER for n in image.shape)
    y, x = jnp.fft.fftfreq(ny, 1 / ny), jnp.fft.fftfreq(nx, 1 / nx)
    return jnp.hypot(y[:, None], x[None, :]).astype(image.dtype)


def _convolve(image: Array, kernels: Array) -> Array:
    """Convolve with kernels drawn around the first pixel of the padded frame; beyond the edge there is nothing."""
    padded = jnp.pad(image, ((0, BORDER), (0, BORDER)))
    both = jnp.fft.rfft2(padded) * jnp.fft.rfft2(kernels)
    return jnp.fft.irfft2(both, padded.shape)[:, : image.shape[0], : image.shape[1]]
