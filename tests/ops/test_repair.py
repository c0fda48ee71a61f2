"""Bad pixels are filled from real neighbours, wherever they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.cube import DQ
from coronjax.ops import repair_bad_pixels
from coronjax.options import AlignRefs
from coronjax.simulate.optics import make_coronagraph, psf
from coronjax.simulate.scene import wavefronts

BOX = AlignRefs(repair="box")
repair = jax.jit(repair_bad_pixels, static_argnames=("positive", "options"))


def flagged(bad):
    return jnp.where(jnp.asarray(bad), jnp.uint32(DQ.DO_NOT_USE.value), jnp.uint32(0))


@pytest.fixture(scope="module")
def star():
    """A star behind the round mask, brightest pixel 1."""
    coronagraph = make_coronagraph("nircam")
    (wavefront,) = wavefronts(coronagraph.mode, coronagraph.pupil, 1, 1)
    image = psf(coronagraph, wavefront, (0.012, 0.006), (31.7, 32.2), (64, 64))
    return image / image.max()


def holes(kind, position):
    bad = np.zeros((64, 64), bool)
    height, width = {"pixel": (1, 1), "pair": (1, 2), "block": (5, 5)}[kind]
    bad[position[1] : position[1] + height, position[0] : position[0] + width] = True
    return bad


def error(star, masks, options):
    """Rms error of the filled pixels over their rms light."""
    call = jax.jit(jax.vmap(lambda dq: repair_bad_pixels(jnp.asarray(star), dq, options=options).image))
    repaired = np.asarray(call(jnp.stack([flagged(mask) for mask in masks])))
    difference, truth = (repaired - star)[masks], np.broadcast_to(star, masks.shape)[masks]
    return np.sqrt(np.mean(difference**2) / np.mean(truth**2))


@pytest.mark.parametrize(("kind", "gain", "limit"), [("pixel", 2.3, 0.18), ("pair", 1.9, 0.22), ("block", 1.2, 0.7)])
def test_star_is_filled_better_than_by_the_box(star, kind, gain, limit):
    rng = np.random.default_rng(1)
    masks = np.stack([holes(kind, rng.integers(18, 44, 2)) for _ in range(60)])
    ours, box = error(star, masks, AlignRefs()), error(star, masks, BOX)
    assert ours < limit
    assert ours < box / gain


def test_edges_are_filled_better_than_by_the_box(star):
    cut = star[28:]  # the star lies on the edge
    masks = np.zeros((2, *cut.shape), bool)
    masks[0, 0], masks[1, :2] = True, True
    ours, box = error(cut, masks, AlignRefs()), error(cut, masks, BOX)
    assert ours < 0.85 * box


def test_field_stop_continues_the_level():
    """Far from any good pixel there is the level of the frame, without its noise."""
    rng = np.random.default_rng(2)
    image, bad = 50.0 + rng.normal(size=(96, 80)), np.zeros((96, 80), bool)
    bad[:20], bad[:, 60:] = True, True
    filled = np.asarray(repair(jnp.where(bad, jnp.nan, image), flagged(bad)).image)
    np.testing.assert_allclose(filled[:17, :], 50.0, atol=2.0)
    assert filled[:12, 70:].std() < 0.3
    assert np.abs(np.diff(filled[:15], axis=0)).max() < 1.0


def test_good_pixels_stay_and_bad_ones_do_not_count():
    rng = np.random.default_rng(3)
    image, bad = jnp.asarray(rng.normal(size=(20, 33))), rng.random((20, 33)) < 0.3
    one, two = (repair(jnp.where(bad, wrong, image), flagged(bad)) for wrong in (1e30, jnp.nan))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(np.asarray(one.image)[~bad], np.asarray(image)[~bad])
    np.testing.assert_array_equal(one.filled, bad)


def test_flat_image_stays_flat_and_one_pixel_is_enough():
    image = jnp.full((17, 30), 3.0)
    alone = np.ones((17, 30), bool)
    alone[16, 2] = False
    np.testing.assert_allclose(repair(image, flagged(alone)).image, 3.0, rtol=1e-12)
    assert float(jnp.abs(repair(image * jnp.nan, flagged(alone)).image).max()) == 0.0


def test_linear_in_the_good_pixels():
    rng = np.random.default_rng(4)
    bad = rng.random((16, 19)) < 0.3
    one, two = (jnp.asarray(rng.normal(size=(16, 19))) for _ in range(2))
    parts = [repair(image, flagged(bad)).image for image in (one, two, 2 * one - 3 * two)]
    np.testing.assert_allclose(parts[2], 2 * parts[0] - 3 * parts[1], atol=1e-12)


def test_variances_stay_positive():
    rng = np.random.default_rng(5)
    variance, bad = jnp.exp(jnp.asarray(3 * rng.normal(size=(40, 41)))), rng.random((40, 41)) < 0.4
    filled = repair(jnp.where(bad, jnp.nan, variance), flagged(bad), positive=True).image
    assert float(filled.min()) >= float(variance[~bad].min())
    assert float(filled.max()) <= float(variance[~bad].max())


def test_box_is_a_median_with_zeros_at_the_low_edges():
    rng = np.random.default_rng(6)
    image = rng.normal(size=(12, 11))
    bad = np.zeros((12, 11), bool)
    bad[[0, 5, 11], [4, 6, 10]] = True
    filled = np.asarray(repair(jnp.asarray(image), flagged(bad), options=BOX).image)
    assert filled[0, 4] == 0
    assert filled[5, 6] == np.median(np.delete(image[4:7, 5:8].ravel(), 4))
    assert filled[11, 10] == np.median(np.delete(image[10:, 9:].ravel(), 3))


def test_box_zeroes_the_field_stop_when_told():
    dq = jnp.zeros((6, 6), jnp.uint32).at[3, 3].set(DQ.DO_NOT_USE.value | DQ.NON_SCIENCE.value)
    image = jnp.ones((6, 6))
    for zero, expected in ((True, 0.0), (False, 1.0)):
        assert repair(image, dq, zero_non_science=zero, options=BOX).image[3, 3] == expected
