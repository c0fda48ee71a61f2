"""Aperture sums and their errors against areas counted finely, photometry of known images, and simulated noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.analysis import aperture_error, aperture_sum, correlation_at
from coronjax.ops import APERTURE_RADII, aperture_mask

CENTRE = jnp.array([14.3, 15.8])


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 6.7])
@pytest.mark.parametrize("position", [(10.0, 11.0), (10.5, 11.5), (10.21, 10.87)])
def test_pixels_on_the_rim_count_by_their_part(position, radius):
    fine = 50
    y, x = (np.mgrid[: 22 * fine, : 24 * fine] + 0.5) / fine - 0.5
    inside = (np.hypot(x - position[0], y - position[1]) < radius).reshape(22, fine, 24, fine).mean((1, 3))
    mask = aperture_mask((22, 24), jnp.array(position), radius)
    np.testing.assert_allclose(mask, inside, atol=1.5 / fine)
    assert float(mask.sum()) == pytest.approx(np.pi * radius**2, rel=1e-12)


@pytest.mark.slow
def test_the_area_grows_by_the_rim():
    growth = jax.grad(lambda radius: aperture_mask((30, 30), CENTRE, radius).sum())(3.3)
    assert float(growth) == pytest.approx(2 * np.pi * 3.3, rel=1e-9)


def test_a_slope_sums_to_its_value_at_the_centre_and_follows_it():
    y, x = jnp.mgrid[:30, :30].astype(float)
    image = 2 + 0.5 * x - 0.3 * y
    slope = jax.jit(jax.grad(lambda place: aperture_sum(image, place, radius=3.0)))
    for centre in (jnp.array([15.5, 14.5]), CENTRE):
        moved = slope(centre)
        # within a pixel the image is flat: the slope is met on average over a pixel
        np.testing.assert_allclose(moved, 9 * np.pi * np.array([0.5, -0.3]), rtol=0.15)
    assert float(aperture_sum(image, jnp.array([15.0, 14.0]), radius=3.0)) == pytest.approx(9 * np.pi * 5.3)


def test_compiled_a_circle_is_what_it_is_without():
    plain = aperture_mask((9, 9), CENTRE / 4, 2.5)
    compiled = jax.jit(aperture_mask, static_argnums=0)((9, 9), CENTRE / 4, 2.5)
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-14)


def test_missing_pixels_are_like_the_rest():
    image = jnp.full((30, 30), 3.0).at[15, 14].set(jnp.nan).at[17, 16].set(jnp.nan)
    assert float(aperture_sum(image, CENTRE, radius=4.0)) == pytest.approx(3 * 16 * np.pi)
    assert float(aperture_error(image, CENTRE, radius=4.0)) == pytest.approx(np.sqrt(3 * 16 * np.pi))
    nothing = jnp.full((30, 30), jnp.nan)
    assert float(aperture_sum(nothing, CENTRE, radius=4.0)) == 0
    assert float(aperture_error(nothing, CENTRE, radius=4.0, speckles=nothing)) == 0
    speckles = image.at[3, 3].set(jnp.inf)
    whole = aperture_error(image, CENTRE, radius=4.0, speckles=image)
    assert float(aperture_error(image, CENTRE, radius=4.0, speckles=speckles)) == pytest.approx(float(whole))
    assert np.isnan(aperture_error(image, CENTRE, radius=4.0, correlation=np.nan))
    assert np.isfinite(jax.grad(lambda p: aperture_error(nothing, p, radius=4.0, speckles=nothing))(CENTRE)).all()


def test_speckles_add_as_roots_within_and_as_squares_beyond_a_resolution_element():
    zero, speckles = jnp.zeros((30, 30)), jnp.full((30, 30), 4.0)
    mask = aperture_mask((30, 30), CENTRE, 2.5)
    whole = aperture_error(zero, CENTRE, radius=2.5, speckles=speckles)
    assert float(whole) == pytest.approx(2 * float(mask.sum()))
    single = aperture_error(zero, CENTRE, radius=2.5, speckles=speckles, resolution=0.1)
    assert float(single) == pytest.approx(2 * np.sqrt(float((mask**2).sum())))
    both = aperture_error(zero + 3, CENTRE, radius=2.5, correlation=1.5, speckles=speckles)
    assert float(both) == pytest.approx(np.hypot(1.5 * np.sqrt(3 * mask.sum()), float(whole)))


def test_the_error_is_the_scatter_of_sums_over_speckles():
    width, along = 4.0, np.arange(40)
    kernel = 2.0 ** (-8 * (along[:, None] - along) ** 2 / width**2)  # a field of these has a correlation 4 px wide
    kernel /= np.sqrt((kernel**2).sum(1, keepdims=True))
    fields = kernel @ np.random.default_rng(0).normal(size=(3000, 40, 40)) @ kernel.T
    for radius in APERTURE_RADII:
        sums = np.einsum("yx,kyx->k", np.asarray(aperture_mask((40, 40), CENTRE + 5, radius)), fields)
        given = {"speckles": jnp.ones((40, 40)), "resolution": width}
        expected = aperture_error(jnp.zeros((40, 40)), CENTRE + 5, radius=radius, **given)
        assert float(expected) == pytest.approx(sums.std(), rel=0.05)


def test_the_factor_is_that_of_the_nearest_radii():
    factors = jnp.array([1.1, 1.4, 1.5])
    for radius, factor in ((0.0, 1.0), (0.5, 1.05), (1.0, 1.1), (1.75, 1.25), (4.0, 1.5), (9.0, 1.5)):
        assert float(correlation_at(radius, factors)) == pytest.approx(factor)
