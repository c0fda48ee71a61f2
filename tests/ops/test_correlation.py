"""Weighted products of images under a shift, against the images shifted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.ops import fourier_shift
from coronjax.ops._correlation import power_series, product_series, square_spectrum


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((n, m), jnp.float64) for n, m in ((1, 4), (2, 2), (3, 2), (4, 7), (7, 5))] + [((4, 6), jnp.float32)],
)
def test_series_are_the_sums_over_the_shifted_image(shape: tuple[int, int], dtype: jnp.dtype) -> None:
    rng = np.random.default_rng(sum(shape))
    image, weight = (jnp.asarray(rng.normal(size=shape), dtype) for _ in range(2))

    @jax.jit
    def series(shift: jax.Array) -> list[tuple[jax.Array, ...]]:
        spectrum, other = jnp.fft.rfft2(image), jnp.fft.rfft2(weight)
        found = product_series(other, spectrum, shape), power_series(square_spectrum(spectrum, shape), other)
        return [one.derivatives(shift) for one in found]

    def sums(shift: jax.Array) -> jax.Array:
        shifted = fourier_shift(image, shift)
        return jnp.stack([jnp.sum(weight * shifted), jnp.sum(weight * shifted**2)])

    shift, eps = jnp.asarray([0.3, -1.4], dtype), jnp.finfo(dtype).eps
    found = series(shift)
    assert {part.dtype for one in found for part in one} == {jnp.dtype(dtype)}
    for order, derivative in enumerate((sums, jax.jacfwd(sums), jax.jacfwd(jax.jacfwd(sums)))):
        expected = jax.jit(derivative)(shift)
        for one, truth in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[order], truth, rtol=100 * eps, atol=1000 * eps)


@pytest.mark.parametrize("shape", [(4, 6), (5, 3)])
def test_on_a_grid_they_are_what_they_are_at_each_shift(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    image, weight = (jnp.asarray(rng.normal(size=shape)) for _ in range(2))
    shifts_y, shifts_x = np.array([-2, 0, 1]), np.array([-1, 2])
    spectrum, other = jnp.fft.rfft2(image), jnp.fft.rfft2(weight)
    product = product_series(other, spectrum, shape).on_grid(shifts_y, shifts_x)
    power = power_series(square_spectrum(spectrum, shape), other).on_grid(shifts_y, shifts_x)
    for i, j in np.ndindex(product.shape):
        moved = np.roll(image, (shifts_y[i], shifts_x[j]), (0, 1))  # whole pixels: no interpolation
        np.testing.assert_allclose(product[i, j], np.sum(weight * moved), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(power[i, j], np.sum(weight * moved**2), rtol=1e-12, atol=1e-12)
