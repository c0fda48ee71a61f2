"""Variance of residual speckles: found where it was put, from noise alone not invented, by sources not raised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import ops
from coronjax.ops import correlate_speckles

SHAPE = (96, 97)
STAR = jnp.array([47.3, 48.6])
FWHM = 3.0
Y, X = np.indices(SHAPE)
RADIUS = np.hypot(X - 47.3, Y - 48.6)
ANNULI = ((5, 10), (10, 16), (16, 25), (25, 45))
NOISE = jnp.ones(SHAPE)

speckle_variance = jax.jit(ops.speckle_variance)


def speckles(rng: np.random.Generator, deviation: np.ndarray, fwhm: float = FWHM) -> np.ndarray:
    """Gaussian speckles of this standard deviation, correlated as a Gaussian of this width."""
    ny, nx = (2 * n for n in SHAPE)
    frequency = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.fftfreq(nx)[None])
    sigma = fwhm / np.sqrt(8 * np.log(2))
    power = np.exp(-2 * np.pi**2 * sigma**2 * frequency**2)
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(ny, nx))) * np.sqrt(power / power.mean())).real
    return deviation * field[: SHAPE[0], : SHAPE[1]]


def mean_variance(deviation: np.ndarray, seeds: int = 12, **keywords) -> np.ndarray:
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        residual = speckles(rng, deviation) + rng.normal(size=SHAPE)
        found.append(speckle_variance(jnp.asarray(residual), NOISE, STAR, fwhm=FWHM, **keywords))
    return np.mean(found, axis=0)


def test_a_falling_profile_is_found() -> None:
    deviation = 20 / (1 + (RADIUS / 6) ** 1.5)
    found = mean_variance(deviation)
    for low, high in ANNULI:
        ring = (low <= RADIUS) & (high > RADIUS)
        assert found[ring].mean() == pytest.approx((deviation[ring] ** 2).mean(), rel=0.25)


def test_noise_alone_makes_no_speckles() -> None:
    assert mean_variance(np.zeros(SHAPE))[RADIUS < 45].mean() < 0.1


def test_white_noise_beyond_the_expected_counts_little() -> None:
    """What is not correlated over a resolution element averages down in a companion, as it does here."""
    rng = np.random.default_rng(3)
    residual = jnp.asarray(1.5 * rng.normal(size=SHAPE))
    assert float(speckle_variance(residual, NOISE, STAR, fwhm=FWHM)[RADIUS < 45].mean()) < 0.8 * 1.25


def test_the_variance_follows_the_contrast_of_the_star() -> None:
    half = np.where(X > 47, 3.0, 1.0)
    rng = np.random.default_rng(4)
    model = jnp.asarray(speckles(rng, 100 * half**2))
    found = mean_variance(5 * half, model=model)
    ring = (RADIUS > 8) & (RADIUS < 40)
    ratio = found[ring & (X > 52)].mean() / found[ring & (X < 42)].mean()
    assert 6 < ratio < 12  # 9, were the model's contrast without scatter
    even = mean_variance(5 * half, model=7 + 0 * model)
    assert even[ring & (X > 52)].mean() == pytest.approx(even[ring & (X < 42)].mean(), rel=0.2)


@pytest.mark.parametrize("radius", [8.0, 20.0])
def test_a_companion_raises_nothing(radius: float) -> None:
    deviation = 20 / (1 + (RADIUS / 6) ** 1.5)
    rng = np.random.default_rng(5)
    residual = speckles(rng, deviation) + rng.normal(size=SHAPE)
    companion = np.exp(-4 * np.log(2) * ((X - 47.3 - radius) ** 2 + (Y - 48.6) ** 2) / FWHM**2)
    bright = 12 * np.interp(radius, RADIUS[48, 48:], deviation[48, 48:]) * companion
    before, after = (
        np.asarray(speckle_variance(jnp.asarray(image), NOISE, STAR, fwhm=FWHM))
        for image in (residual, residual + bright)
    )
    ring = np.abs(RADIUS - radius) < 3
    assert after[ring].mean() == pytest.approx(before[ring].mean(), rel=0.4)
    left_out = speckle_variance(
        jnp.asarray(residual + bright), NOISE, STAR, fwhm=FWHM, good=jnp.asarray(companion < 0.01)
    )
    assert np.asarray(left_out)[ring].mean() == pytest.approx(before[ring].mean(), rel=0.25)


def test_missing_pixels_cost_little() -> None:
    deviation = 20 / (1 + (RADIUS / 6) ** 1.5)
    rng = np.random.default_rng(6)
    residual = jnp.asarray(speckles(rng, deviation) + rng.normal(size=SHAPE))
    spoilt = jnp.where(jnp.asarray(rng.random(SHAPE) < 0.03), jnp.nan, residual)
    whole, found = (speckle_variance(image, NOISE, STAR, fwhm=FWHM) for image in (residual, spoilt))
    assert bool(jnp.isfinite(found).all())
    assert bool((found >= 0).all())
    ring = (RADIUS > 5) & (RADIUS < 30)
    assert float(found[ring].mean()) == pytest.approx(float(whole[ring].mean()), rel=0.2)


@pytest.mark.parametrize("residual", [jnp.full(SHAPE, jnp.nan), jnp.zeros(SHAPE)])
def test_nothing_gives_zero(residual: jax.Array) -> None:
    assert bool((speckle_variance(residual, NOISE, STAR, fwhm=FWHM) == 0).all())


def test_unit_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    residual = jnp.asarray(speckles(rng, 20 / (1 + RADIUS / 6)))
    one = speckle_variance(residual, NOISE, STAR, fwhm=FWHM)
    np.testing.assert_allclose(
        speckle_variance(1e-3 * residual, 1e-6 * NOISE, STAR, fwhm=FWHM), 1e-6 * one, rtol=1e-6, atol=1e-12
    )


def test_correlation_gives_the_variance_of_a_sum() -> None:
    rng = np.random.default_rng(8)
    weight = np.where(RADIUS < 6, rng.normal(size=SHAPE) + 0.5, 0)
    sums = [np.sum(weight * speckles(rng, np.full(SHAPE, 2.0))) for _ in range(300)]
    expected = jnp.sum(2 * weight * correlate_speckles(jnp.asarray(2 * weight), FWHM))
    assert np.var(sums) == pytest.approx(float(expected), rel=0.2)
