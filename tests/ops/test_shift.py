"""The Fourier shift against its formula, rolls and round trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax.ops.shift import fourier_shift, shift_derivatives

SHAPES = [(8, 8), (9, 8), (8, 9), (9, 9), (2, 2), (1, 4), (3, 1), (31, 20)]


def formula(image, shift):
    """The shift as it is defined, with full complex transforms."""
    ny, nx = image.shape
    ky, kx = np.fft.fftfreq(ny), np.fft.fftfreq(nx)
    phase = np.exp(-2j * np.pi * (ky[:, None] * shift[1] + kx * shift[0]))
    return np.fft.ifft2(np.fft.fft2(image) * phase).real


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_formula(shape):
    rng = np.random.default_rng(0)
    for _ in range(5):
        image, shift = rng.normal(size=shape), rng.normal(0, 3, 2)
        np.testing.assert_allclose(
            fourier_shift(jnp.asarray(image), jnp.asarray(shift)), formula(image, shift), atol=1e-13
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_integer_shift_is_a_roll(shape):
    image = np.random.default_rng(1).normal(size=shape)
    moved = fourier_shift(jnp.asarray(image), jnp.array([3.0, -2.0]))
    np.testing.assert_allclose(moved, np.roll(image, (-2, 3), (0, 1)), atol=1e-13)


def test_there_and_back_on_an_odd_frame():
    image = np.random.default_rng(2).normal(size=(15, 17))
    shift = jnp.array([0.37, -1.61])
    np.testing.assert_allclose(fourier_shift(fourier_shift(jnp.asarray(image), shift), -shift), image, atol=1e-13)


def test_conserves_flux():
    image = np.random.default_rng(3).normal(size=(16, 14))
    np.testing.assert_allclose(fourier_shift(jnp.asarray(image), jnp.array([0.3, 0.4])).sum(), image.sum(), atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (9, 8), (9, 9)])
def test_derivatives(shape):
    rng = np.random.default_rng(4)
    image, shift = jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=2))
    check_grads(jax.jit(fourier_shift), (image, shift), order=1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-7)
    slopes = jax.jit(jax.jacfwd(fourier_shift, argnums=1))(image, shift)
    derivatives = jax.jit(shift_derivatives, static_argnums=2)
    shifted, along_x, along_y = derivatives(jnp.fft.rfft2(image), shift, shape)
    np.testing.assert_allclose(shifted, fourier_shift(image, shift), atol=1e-13)
    np.testing.assert_allclose(jnp.stack([along_x, along_y], -1), slopes, atol=1e-12)


def test_keeps_single_precision():
    image = jnp.ones((6, 5), jnp.float32)
    assert fourier_shift(image, jnp.array([0.5, 0.5])).dtype == jnp.float32
