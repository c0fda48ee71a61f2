"""The overlap of pixels against the drizzle package, against what is known exactly, and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.ops import overlap, overlap_window, spread, visited_pixels
from tests.ops.drizzling import FRAME, MAPS, SHAPE, drizzled, pixel_map

table_of = jax.jit(overlap, static_argnames=("output_shape", "kernel", "window"))


@jax.jit
def spread_on_frame(one_map, pixfrac, used, values):
    table = overlap(one_map, output_shape=FRAME, pixfrac=pixfrac, window=6, used=used)
    assert table.index.dtype == jnp.int32  # in double precision too
    return spread(table, values), table.n_lost


def compare_with_package(one_map, pixfrac, used):
    rng = np.random.default_rng(1)
    data, weight = rng.normal(size=SHAPE), rng.random(SHAPE)
    values = np.float32(data) * np.float32(weight).astype(float), np.float32(weight).astype(float)
    (total, ours), lost = spread_on_frame(one_map, pixfrac, used, jnp.stack(values))
    image, theirs, _ = drizzled([data], [one_map], [weight], pixfrac)
    assert lost == 0
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * theirs.max())
    well = theirs > 1e-6 * theirs.max()
    assert well.sum() > 20
    np.testing.assert_allclose((total / ours)[well], image[well], atol=1e-6 * np.abs(data).max())


@pytest.mark.parametrize("pixfrac", [0.3, 0.75, 1.0])
@pytest.mark.parametrize(
    "geometry",
    [
        {"angle": 0.2},
        {"angle": -2.4, "scale": 1.3, "bend": 1e-3},
        {"angle": 0.8, "scale": 0.6, "bend": -2e-3},
        {"angle": 1.9, "flip": True, "bend": 1e-3},
    ],
)
def test_agrees_with_the_drizzle_package(geometry, pixfrac):
    compare_with_package(pixel_map(**geometry), pixfrac, np.ones(SHAPE, bool))


def test_pixels_without_a_position_are_left_out_as_by_the_package():
    one_map = pixel_map(angle=0.01)
    one_map[8, 7] = one_map[0, 4] = np.nan
    compare_with_package(one_map, 1.0, np.ones(SHAPE, bool))


@pytest.mark.slow
def test_where_no_pixel_is_to_be_dropped_there_is_nothing():
    table = overlap(pixel_map(angle=0.2), output_shape=FRAME, window=3, used=np.zeros(SHAPE, bool))
    np.testing.assert_array_equal(table.share, 0)
    assert table.n_lost == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_frame_that_cuts_the_image_cuts_it_as_the_package_does(seed):
    rng = np.random.default_rng(seed)
    centre = rng.choice([0.0, 1.0], 2) * np.array(FRAME[::-1]) + rng.uniform(-4, 4, 2)
    one_map = pixel_map(rng.uniform(-0.5, 0.5) * (seed > 1), rng.choice([1.0, 1.6]), 1e-4, seed == 5, centre)
    visited = visited_pixels(one_map, FRAME)
    assert 0 < visited.sum() < visited.size
    compare_with_package(one_map, 1.0, visited)


def test_every_pixel_is_visited_where_the_frame_holds_all_or_a_position_is_unknown():
    one_map = pixel_map(0.3)
    assert visited_pixels(one_map, FRAME).all()
    one_map[0, 0] = np.nan
    assert visited_pixels(one_map, (5, 5)).all()
    assert not visited_pixels(pixel_map(centre=(-90.0, 0.0)), FRAME).any()


def test_a_window_too_small_is_reported():
    one_map = jnp.asarray(pixel_map(0.6))
    assert table_of(one_map, output_shape=FRAME, window=2).n_lost > 0
    assert table_of(one_map, output_shape=FRAME, window=overlap_window(one_map)).n_lost == 0


@pytest.mark.parametrize(("scale", "pixfrac"), [(0.4, 1.0), (0.8, 0.3), (1.0, 1.0), (2.5, 0.7)])
def test_the_window_found_beforehand_is_wide_enough(scale, pixfrac):
    one_map = pixel_map(0.5, scale, 2e-3 * scale)
    _, lost = spread_on_frame(one_map, pixfrac, np.ones(SHAPE, bool), jnp.ones((2, *SHAPE)))
    window = overlap_window(one_map, pixfrac)
    assert lost == 0
    assert window <= 6
    assert table_of(jnp.asarray(one_map), output_shape=FRAME, pixfrac=pixfrac, window=window).n_lost == 0


@pytest.mark.parametrize("pixfrac", [0.5, 1.0])
def test_flux_is_conserved(pixfrac):
    table = table_of(jnp.asarray(pixel_map(0.3, 0.9, 1e-3)), output_shape=FRAME, pixfrac=pixfrac, window=4)
    given = np.zeros(np.prod(SHAPE))
    np.add.at(given, np.asarray(table.index), np.asarray(table.share))
    np.testing.assert_allclose(given, 1.0, rtol=1e-12)


def test_a_quarter_turn_moves_pixels_exactly():
    y, x = np.mgrid[:6, :8].astype(float)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)))
    table = overlap(
        jnp.asarray(np.stack([5 - y, x], -1)), output_shape=(8, 6), window=overlap_window(np.stack([5 - y, x], -1))
    )
    np.testing.assert_array_equal(spread(table, image), np.rot90(image, -1))


@pytest.mark.slow
def test_a_moved_star_moves_by_as_much():
    one_map = jnp.asarray(pixel_map(0.35, bend=1e-3))
    star = jnp.zeros(SHAPE).at[7:10, 6:9].set(jnp.arange(1.0, 10.0).reshape(3, 3))
    rows, columns = jnp.mgrid[: FRAME[0], : FRAME[1]]

    @jax.jit
    def centroid(shift, pixfrac):
        table = table_of(one_map + shift, output_shape=FRAME, pixfrac=pixfrac, window=4)
        image = spread(table, star)
        return jnp.array([jnp.sum(columns * image), jnp.sum(rows * image)]) / jnp.sum(image)

    for transform in (jax.jacfwd, jax.jacrev):
        at_zero = jax.jit(transform(centroid))(jnp.zeros(2), 0.9)
        h = 1e-4
        steps = [h * jnp.eye(2)[k] for k in (0, 1)]
        finite = jnp.stack([(centroid(s, 0.9) - centroid(-s, 0.9)) / (2 * h) for s in steps], 1)
        np.testing.assert_allclose(at_zero, finite, atol=1e-6)
        np.testing.assert_allclose(jnp.diag(at_zero), 1.0, atol=0.2)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'round' is not known"):
        table_of(jnp.asarray(MAPS[0]), output_shape=FRAME, kernel="round")
    with pytest.raises(ValueError, match="no cell"):
        table_of(jnp.asarray(MAPS[0][:1]), output_shape=FRAME)
