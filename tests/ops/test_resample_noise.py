"""The errors of the sky image against the scatter of many images of noise alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.cube import Cube
from coronjax.ops import APERTURE_RADII, SharedNoise, aperture_mask, overlap_window
from coronjax.options import Resample
from tests.ops.drizzling import pixel_map, resampled

SIDE, FRAME, REPLICAS = 40, (54, 54), 300
ROLLS = np.stack([pixel_map(turn, 1, 1e-4, centre=(26.3, 26.8), shape=(SIDE, SIDE)) for turn in (-0.09, 0.09)])


def exposures(rng, integrations=3):
    """Two rolls: Poisson noise that falls from the star, read noise that varies, hot and bad pixels."""
    shape = (2, integrations, SIDE, SIDE)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    poisson = (5 * np.exp(-np.hypot(x, y) / 8) + 0.3) * rng.uniform(0.9, 1.1, shape)
    read = np.broadcast_to(np.exp(rng.normal(0, 0.3, shape[2:])), shape).copy()
    read[..., rng.random(shape[2:]) < 0.005] *= 30
    flat = np.broadcast_to(0.3 * np.exp(-np.hypot(x, y) / 6), shape)
    bad = (rng.random(shape[2:]) < 0.01) | (rng.random(shape) < 0.003)
    valid = np.ones(shape[:2], bool)
    arrays = (np.zeros(shape), np.ones(shape), bad.astype(np.uint32), valid, poisson, read, flat)
    return Cube(*(jnp.asarray(array) for array in arrays))


def images_of(cube, noise, key, **given):
    """The sky images of many replicas, each with the noise that a function draws."""

    def one(key):
        return resampled(dataclasses.replace(cube, sci=noise(key)), ROLLS, window=3, frame=FRAME, **given).sci

    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, REPLICAS)))


def ratios(images, variance, correlation):
    """Predicted error over scatter: of single pixels, and of aperture sums, each the root mean square of all."""
    seen = np.isfinite(variance)
    bias = (REPLICAS - 3) / (REPLICAS - 1)  # of the inverse of a scatter squared
    found = [np.sqrt(np.mean(variance[seen] / images.var(0, ddof=1)[seen]) * bias)]
    places = np.stack(np.meshgrid(*[np.arange(9, 46, 5)] * 2), -1).reshape(-1, 2)
    places = jnp.asarray(places + np.random.default_rng(0).uniform(-0.5, 0.5, places.shape))
    for radius, factor in zip(APERTURE_RADII, correlation, strict=True):
        masks = np.asarray(jax.vmap(lambda place, r=radius: aperture_mask(FRAME, place, r))(places))
        masks = masks[((masks == 0) | seen).all((1, 2))]
        assert len(masks) > 8
        sums = np.einsum("ayx,kyx->ka", masks, np.nan_to_num(images))
        expected = factor**2 * (masks * np.nan_to_num(variance)).sum((1, 2))
        found.append(np.sqrt(np.mean(expected / sums.var(0, ddof=1)) * bias))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("weight_type", ["ivm", "exptime"])
def test_errors_are_the_scatter_of_detector_noise(weight_type):
    cube = exposures(np.random.default_rng(1))
    assert overlap_window(ROLLS) == 3
    sigma = jnp.sqrt(cube.var_poisson + cube.var_rnoise + cube.var_flat)
    options = Resample(weight_type=weight_type)
    made = resampled(cube, ROLLS, window=3, frame=FRAME, options=options)
    images = images_of(
        *(cube, lambda key: sigma * jax.random.normal(key, sigma.shape), jax.random.key(0)), options=options
    )
    pixel, *apertures = ratios(images, np.asarray(made.err) ** 2, made.correlation)
    assert 0.95 < pixel < 1.05
    assert all(0.9 < ratio < 1.1 for ratio in apertures)
    assert made.correlation[2] > 1.2  # without which the error of the largest would be too small by as much


@pytest.mark.slow
def test_shared_errors_are_the_scatter_of_noise_that_integrations_share():
    cube = exposures(np.random.default_rng(2))
    variance = jnp.asarray(2 * np.exp(np.random.default_rng(3).normal(0, 0.3, (2, SIDE, SIDE))))

    def noise(key):
        alike = jnp.sqrt(variance) * jax.random.normal(key, variance.shape)
        return jnp.broadcast_to(alike[:, None], cube.sci.shape)

    made = resampled(cube, ROLLS, window=3, frame=FRAME, shared=SharedNoise(references=variance))
    pixel, *apertures = ratios(
        images_of(cube, noise, jax.random.key(1)), np.asarray(made.var_references), made.correlation
    )
    assert 0.95 < pixel < 1.05
    assert all(0.9 < ratio < 1.1 for ratio in apertures)


@pytest.mark.slow
def test_speckles_are_not_averaged_within_a_resolution_element():
    cube = exposures(np.random.default_rng(4))
    along = np.arange(SIDE)
    kernel = 2.0 ** (-4 * (along[:, None] - along) ** 2 / 4.0**2 * 2)  # a field of Gaussians with correlation 4 px wide
    kernel /= np.sqrt((kernel**2).sum(1, keepdims=True))
    sigma = 1 + np.hypot(*np.meshgrid(along - 20, along - 20)) / 20

    def noise(key):
        alike = sigma * (kernel @ jax.random.normal(key, (2, SIDE, SIDE)) @ kernel.T)
        return jnp.broadcast_to(alike[:, None], cube.sci.shape)

    shared = SharedNoise(speckles=jnp.broadcast_to(sigma**2, (2, SIDE, SIDE)))
    made = resampled(cube, ROLLS, window=3, frame=FRAME, shared=shared)
    images, predicted = images_of(cube, noise, jax.random.key(2)), np.asarray(made.var_speckles)
    inner = np.isfinite(predicted[8:-8, 8:-8])
    ratio = (predicted[8:-8, 8:-8] / images.var(0)[8:-8, 8:-8])[inner]
    assert 1.0 < np.sqrt(ratio.mean()) < 1.1  # a pixel is smoother than a point of the field, by little


@pytest.mark.slow
def test_only_what_integrations_share_stays_when_there_are_more_of_them():
    def made(integrations):
        shape = (2, integrations, SIDE, SIDE)
        ones, valid = jnp.ones(shape), jnp.ones(shape[:2], bool)
        cube = Cube(ones, ones, jnp.zeros(shape, jnp.uint32), valid, ones, ones, ones)
        return resampled(cube, ROLLS, window=3, frame=FRAME, shared=SharedNoise(ones[:, 0], 4 * ones[:, 0]))

    few, many = made(1), made(4)
    seen = np.asarray(few.weight) > 0
    np.testing.assert_allclose(many.var_poisson[seen], few.var_poisson[seen] / 4, rtol=1e-12)
    np.testing.assert_allclose(many.var_references[seen], few.var_references[seen], rtol=1e-12)
    np.testing.assert_allclose(many.var_speckles[seen], few.var_speckles[seen], rtol=1e-12)
    parts = (many.var_poisson, many.var_rnoise, many.var_flat, many.var_references, many.var_speckles)
    np.testing.assert_allclose(many.err[seen] ** 2, sum(parts)[seen], rtol=1e-12)
    one_roll = np.isclose(few.var_speckles, 4) & seen  # where both rolls count alike, half of it
    assert one_roll.sum() > 20
    assert few.var_speckles[FRAME[0] // 2, FRAME[1] // 2] == pytest.approx(2, rel=0.02)
