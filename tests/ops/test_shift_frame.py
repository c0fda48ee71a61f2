"""Frames shifted with their noise and flags, against truth, naive ways and simulated noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.cube import DQ
from coronjax.ops import fourier_shift, repair_bad_pixels, shift_frame
from coronjax.simulate.optics import make_coronagraph, psf

SHAPE = (48, 60)
repair = jax.jit(repair_bad_pixels)
shifted = jax.jit(shift_frame, static_argnames="padding")


def nothing(shape=SHAPE):
    return jnp.zeros(shape, jnp.uint32)


def noise_free(image, shift, **settings):
    return np.asarray(shifted(image, jnp.zeros_like(image), nothing(image.shape), jnp.asarray(shift), **settings).image)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (-20.0, 5.0)])
def test_whole_shifts_are_exact(shift):
    rng = np.random.default_rng(0)
    image, variance = jnp.asarray(rng.normal(size=SHAPE)), jnp.asarray(rng.random(SHAPE))
    dq = jnp.asarray(rng.integers(0, 2**32, SHAPE), jnp.uint32)
    result = shifted(image, variance, dq, jnp.asarray(shift))
    sx, sy = (int(s) for s in shift)
    for moved, original in ((result.image, image), (result.variance, variance), (result.dq, dq)):
        rolled, inside = np.roll(original, (sy, sx), (0, 1)), np.asarray(result.inside)
        np.testing.assert_array_equal(np.asarray(moved)[inside], rolled[inside])
    assert int(result.inside.sum()) == (SHAPE[0] - abs(sy)) * (SHAPE[1] - abs(sx))
    assert not np.asarray(result.dq)[~np.asarray(result.inside)].any()


def test_without_a_border_it_is_the_plain_shift():
    image, shift = jnp.asarray(np.random.default_rng(1).normal(size=SHAPE)), jnp.array([0.3, -1.4])
    np.testing.assert_allclose(noise_free(image, shift, padding=0), fourier_shift(image, shift), atol=1e-13)


def test_star_goes_where_it_belongs():
    """To the image of the star behind no mask, taken where it was shifted to."""
    coronagraph = make_coronagraph("nircam", "F444W")
    front = np.zeros((192, 192))
    here, there = (psf(coronagraph, front, (0, 0), c, SHAPE, masked=False) for c in ((30.0, 24.0), (30.4, 23.7)))
    moved = noise_free(jnp.asarray(here), (0.4, -0.3))
    assert np.abs(moved - there).max() < 1e-3 * there.max()


def test_hot_pixel_leaves_nothing_along_its_row():
    hot = (24, 30)
    image = np.random.default_rng(2).normal(size=SHAPE)
    image[hot] = 1e4
    dq = nothing().at[hot].set(DQ.DO_NOT_USE.value)
    naive = np.asarray(fourier_shift(jnp.asarray(image), jnp.array([0.5, 0.0])))
    assert 0.04 < np.abs(naive[24, 35]) / 1e4 < 0.08
    repaired = repair(jnp.asarray(image), dq).image
    moved = noise_free(repaired, (0.5, 0.0))
    assert np.abs(moved[24, 35:40]).max() < 5.0  # of a noise of 1


def test_field_stop_does_not_ripple():
    """Outside the field stop there is nothing; inside a glow, here constant."""
    bad = np.zeros(SHAPE, bool)
    bad[:, :20] = True
    image = np.where(bad, 0.0, 100.0)
    naive = np.asarray(fourier_shift(jnp.asarray(image), jnp.array([0.5, 0.0]))) - 100.0
    assert np.abs(naive[24, 29:31]).max() > 0.8
    dq = jnp.where(bad, jnp.uint32(DQ.DO_NOT_USE.value), jnp.uint32(0))
    moved = noise_free(repair(jnp.asarray(image), dq).image, (0.5, 0.0)) - 100.0
    assert np.abs(moved[2:-2, 22:-2]).max() < 0.5


@pytest.mark.parametrize(
    ("shift", "blur"),
    [
        ((0.5, -0.5), 0.0),
        pytest.param((0.2, 1.3), 0.0, marks=pytest.mark.slow),
        ((0.5, 0.1), 0.6),
        pytest.param((0.0, 0.0), 1.0, marks=pytest.mark.slow),
    ],
)
def test_variance_is_that_of_shifted_noise(shift, blur):
    """White noise whose level changes by a factor of 30 over the frame, with a pixel a hundred times as bad."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    variance = jnp.asarray(1.0 + 30.0 * np.exp(-((x - 30) ** 2 + (y - 20) ** 2) / 50.0)).at[30, 40].set(100.0)
    noise = jnp.sqrt(variance) * jnp.asarray(rng.normal(size=(2000, *SHAPE)))
    move = jax.jit(lambda image: shift_frame(image, variance, nothing(), jnp.asarray(shift), blur))
    empirical = np.asarray(jnp.var(jax.lax.map(lambda image: move(image).image, noise, batch_size=50), axis=0))
    predicted = np.asarray(move(noise[0]).variance)
    ratio = empirical / predicted
    assert abs(ratio.mean() - 1) < 0.003
    assert ratio.std() < 1.1 * np.sqrt(2 / 2000)  # no more than 2000 draws scatter
    assert predicted.min() >= 0


def flags_of(shift, blur=0.0):
    one = nothing((21, 21)).at[10, 10].set(DQ.SATURATED.value)
    image = jnp.zeros((21, 21))
    dq = np.asarray(shifted(image, image, one, jnp.asarray(shift), blur).dq)
    assert set(np.unique(dq)) <= {0, DQ.SATURATED.value}
    return {(int(x) - 10, int(y) - 10) for y, x in np.argwhere(dq)}


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.5, 0.5), (0.1, 0.0), (-2.3, 1.2), (0.01, 0.02), (1.49, -0.2)])
def test_flags_go_with_a_tenth_of_the_weight(shift):
    """Against the ideal kernel, sin(pi x) / (pi x) along each axis."""
    offsets = np.arange(-8, 9)
    weight = np.abs(np.sinc(offsets[:, None] - shift[1]) * np.sinc(offsets - shift[0]))
    assert np.abs(weight - 0.1).min() > 1e-4  # nothing undecided
    expected = {(int(offsets[j]), int(offsets[i])) for i, j in np.argwhere(weight >= 0.1)}
    assert flags_of(shift) == expected


def test_flags_of_a_blur_go_to_the_neighbours():
    cross = {(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)}
    assert flags_of((0.0, 0.0), 0.3) == {(0, 0)}
    assert flags_of((0.0, 0.0), 0.8) == cross
    assert cross < flags_of((0.0, 0.0), 1.5)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        shift_frame(jnp.zeros((4, 4)), jnp.zeros((4, 4)), nothing((4, 5)), jnp.zeros(2))


def test_next_to_a_whole_shift_it_changes_by_its_derivative():
    """The value of a whole shift is that of a roll, the derivative that of the interpolation."""
    image = jnp.asarray(np.random.default_rng(5).normal(size=(8, 9)))
    nothing = jnp.zeros(image.shape, jnp.uint32)

    @jax.jit
    def moved(shift):
        return shift_frame(image, jnp.ones_like(image), nothing, shift).image

    whole, step = jnp.array([2.0, -1.0]), 1e-5
    difference = (moved(whole + step) - moved(whole - step)) / (2 * step)
    for derivative in (jax.jacfwd(moved), jax.jacrev(moved)):
        np.testing.assert_allclose(jax.jit(derivative)(whole).sum(-1), difference, atol=1e-7)
