"""The blur of undersampled frames, and what it gains."""

import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.io.sampling import DIAMETER, GROWTH, TOLERATED
from coronjax.ops import blur, fourier_shift
from coronjax.simulate.modes import find_mode
from coronjax.simulate.optics import make_coronagraph, psf

SHAPE = (64, 64)


def test_equals_the_sampled_gaussian():
    point = jnp.zeros((41, 41)).at[20, 20].set(1.0)
    y, x = np.mgrid[-20:21, -20:21]
    expected = np.exp(-(x**2 + y**2) / (2 * 1.2**2)) / (2 * np.pi * 1.2**2)
    np.testing.assert_allclose(blur(point, 1.2), expected, atol=1e-4)  # sampled, it has a little beyond Nyquist


def test_no_blur_changes_nothing_and_a_level_stays():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(20, 23)))
    np.testing.assert_array_equal(blur(image, 0.0), image)
    np.testing.assert_allclose(blur(jnp.full((30, 30), 5.0), 0.7)[3:-3, 3:-3], 5.0, rtol=1e-3)


def rule(name):
    mode, filter = find_mode("nircam", name)
    cutoff = DIAMETER * mode.pixel_scale * np.pi / 180 / 3600 / filter.wavelength
    return GROWTH * np.sqrt(max(cutoff - TOLERATED, 0.0))


def errors(name, sigma):
    """Largest error over the peak of a shift by half a pixel along both axes, of a star beside the mask."""
    coronagraph, worst = make_coronagraph("nircam", name), 0.0
    for phase in ((0.0, 0.0), (0.5, 0.5), (0.3, 0.8)):
        centres = [(31 + phase[0] + step, 32 + phase[1] + step) for step in (0.0, 0.5)]
        here, there = (
            blur(jnp.asarray(psf(coronagraph, np.zeros((192, 192)), (0, 0), c, SHAPE, masked=False)), sigma)
            for c in centres
        )
        moved = fourier_shift(here, jnp.array([0.5, 0.5]))
        worst = max(worst, float(jnp.abs(moved - there).max() / there.max()))
    return worst


def signal_to_noise(name, sigma):
    """Of a star in white noise found with its blurred image, over the same without a blur."""
    image = jnp.asarray(
        psf(make_coronagraph("nircam", name), np.zeros((192, 192)), (0, 0), (31, 32), SHAPE, masked=False)
    )
    blurred = blur(image, sigma, padding=0)
    # The filter meets noise that was blurred: the same as the filter blurred once more.
    return float((blurred**2).sum() / jnp.linalg.norm(blur(blurred, sigma, padding=0)) / jnp.linalg.norm(image))


@pytest.mark.parametrize(
    ("name", "before", "after"), [pytest.param("F250M", 0.10, 0.02, marks=pytest.mark.slow), ("F300M", 0.019, 0.008)]
)
def test_undersampled_stars_can_be_shifted_once_blurred(name, before, after):
    assert errors(name, 0.0) > before
    assert errors(name, rule(name)) < after


@pytest.mark.parametrize(("name", "least"), [("F250M", 0.75), ("F300M", 0.87), ("F335M", 0.96)])
def test_what_a_blur_costs(name, least):
    assert least < signal_to_noise(name, rule(name)) < 1


def test_sampled_stars_need_no_blur():
    assert rule("F444W") == 0
    assert errors("F444W", 0.0) < 1e-3
