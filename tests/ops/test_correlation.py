"""Weighted products of images under a shift, against the images shifted."""

import itertools

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
    def series(shift: jax.Array) -> jax.Array:
        spectrum, other = jnp.fft.rfft2(image), jnp.fft.rfft2(weight)
        found = product_series(other, spectrum, shape), power_series(square_spectrum(spectrum, shape), other)
        return jnp.stack([one.derivatives(shift) for one in found])

    def sums(shift: jax.Array) -> jax.Array:
        shifted = fourier_shift(image, shift)
        return jnp.stack([jnp.sum(weight * shifted), jnp.sum(weight * shifted**2)])

    shift, eps = jnp.asarray([0.3, -1.4], dtype), jnp.finfo(dtype).eps
    found = series(shift)
    assert found.dtype == dtype
    for order, derivative in enumerate((sums, jax.jacfwd(sums), jax.jacfwd(jax.jacfwd(sums)))):
        expected = jax.jit(derivative)(shift)
        for axes in itertools.product((0, 1), repeat=order):  # x, y
            of_order = found[:, axes.count(1), axes.count(0)]
            np.testing.assert_allclose(of_order, expected[:, *axes], rtol=100 * eps, atol=1000 * eps)


@pytest.mark.parametrize(("shape", "dtype"), [((4, 6), jnp.float64), ((1, 3), jnp.float64), ((64, 50), jnp.float32)])
def test_on_a_grid_they_are_the_sums_over_the_rolled_image(shape: tuple[int, int], dtype: jnp.dtype) -> None:
    rng = np.random.default_rng(sum(shape))
    image, weight = (jnp.asarray(rng.normal(size=shape), dtype) for _ in range(2))
    shifts_y, shifts_x = (np.unique([-(n // 2), 0, (n - 1) // 2]) for n in shape)

    @jax.jit
    def on_grid(image: jax.Array, weight: jax.Array) -> list[jax.Array]:
        spectrum, other = jnp.fft.rfft2(image), jnp.fft.rfft2(weight)
        found = product_series(other, spectrum, shape), power_series(square_spectrum(spectrum, shape), other)
        return [one.on_grid(shifts_y, shifts_x) for one in found]

    product, power = on_grid(image, weight)
    assert product.dtype == power.dtype == dtype
    tolerance = 20 * float(jnp.finfo(dtype).eps) * np.sqrt(image.size)
    for i, j in np.ndindex(product.shape):
        moved = np.roll(image, (shifts_y[i], shifts_x[j]), (0, 1)).astype(float)  # whole pixels: no interpolation
        np.testing.assert_allclose(product[i, j], np.sum(weight * moved), rtol=0, atol=tolerance)
        np.testing.assert_allclose(power[i, j], np.sum(weight * moved**2), rtol=0, atol=3 * tolerance)
