"""The level of the background, against simulated noise and stars."""

import jax
import jax.numpy as jnp
import numpy as np

from coronjax.ops import pedestal

SHAPE = (40, 50)
level_of = jax.jit(pedestal)
found = jax.jit(jax.vmap(pedestal))


def test_noise_does_not_bias_it_and_the_error_is_right():
    rng = np.random.default_rng(0)
    frames = 3.0 + 0.7 * rng.normal(size=(1000, *SHAPE))
    good = rng.random((1000, *SHAPE)) < 0.9
    result = found(jnp.asarray(np.where(good, frames, np.nan)), jnp.asarray(good))
    scatter = float(jnp.std(result.level))
    assert abs(float(result.level.mean()) - 3.0) < 3 * scatter / np.sqrt(1000)
    assert abs(float(result.standard_error.mean()) / scatter - 1) < 0.1
    assert abs(float(result.sigma.mean()) / 0.7 - 1) < 0.02


def test_a_star_and_hot_pixels_hardly_move_it():
    """A star with a halo that falls with the cube of the distance."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-80:80, -80:80]
    star = 3e4 / (5 + np.hypot(x, y)) ** 3
    frame = 10.0 + star + rng.normal(size=star.shape)
    frame[rng.random(star.shape) < 0.02] = 1e5
    result = level_of(jnp.asarray(frame), jnp.ones(star.shape, bool))
    assert abs(float(result.level) - 10.0) < 0.25
    assert abs(float(result.level) - 10.0) < 0.75 * abs(np.median(frame) - 10.0)


def test_a_level_moves_with_the_frame():
    frame, good = jnp.asarray(np.random.default_rng(2).normal(size=SHAPE)), jnp.ones(SHAPE, bool)
    one, two = level_of(frame, good), level_of(-2.0 * frame[::-1] - 7.0, good)
    np.testing.assert_allclose(level_of(2.0 * frame + 7.0, good).level, 2.0 * one.level + 7.0, rtol=1e-9)
    assert abs(float(two.level) + 2.0 * float(one.level) + 7.0) < 0.1
    np.testing.assert_allclose(jax.grad(lambda f: pedestal(f, good).level)(frame).sum(), 1.0, rtol=1e-9)


def test_without_a_good_pixel_it_is_nothing():
    result = level_of(jnp.full(SHAPE, jnp.nan), jnp.ones(SHAPE, bool))
    assert (float(result.level), float(result.standard_error), int(result.n_pixels)) == (0.0, 0.0, 0)
