"""Drizzle against the drizzle package, against what is known exactly, and against finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drizzle.resample import Drizzle
from jax.test_util import check_grads

from coronjax.cube import DQ, Cube
from coronjax.ops.overlap import overlap, overlap_window
from coronjax.ops import resample, spread
from coronjax.ops.scan import visited_pixels
from coronjax.options import Resample

SHAPE = (17, 15)
FRAME = (40, 44)
table_of = jax.jit(overlap, static_argnames=("output_shape", "kernel", "window"))


def pixel_map(angle=0.0, scale=1.0, bend=0.0, flip=False, centre=(21.3, 19.6), shape=SHAPE):
    """Where a rotated, scaled, slightly bent image of the given shape falls on the frame."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    x, y = (x - shape[1] / 2) * (-1 if flip else 1), y - shape[0] / 2
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.stack([cos * x - sin * y + bend * x * (x - y), sin * x + cos * y + bend * y * (x + y)], -1) + centre


def drizzled(planes, maps, weights, pixfrac=1.0, shape=FRAME):
    """What the drizzle package makes of some planes: image, weight, context."""
    package = Drizzle(kernel="square", fillval="NaN", out_shape=shape)
    for plane, one_map, weight in zip(planes, maps, weights, strict=True):
        package.add_image(
            np.asarray(plane, np.float32),
            exptime=1.0,
            pixmap=np.array(one_map),
            weight_map=np.asarray(weight, np.float32),
            pixfrac=pixfrac,
            pixel_scale_ratio=1.0,
            in_units="cps",
        )
    return package.out_img, package.out_wht, package.out_ctx


@jax.jit
def spread_on_frame(one_map, pixfrac, used, values):
    table = overlap(one_map, output_shape=FRAME, pixfrac=pixfrac, window=6, used=used)
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


def cubes(rng, exposures=2, integrations=2):
    shape = (exposures, integrations, *SHAPE)
    sci, (poisson, noise, flat) = rng.normal(3, 1, shape), rng.uniform(0.5, 2, (3, *shape))
    dq = np.where(rng.random(shape) < 0.1, rng.choice([1, 4, 17, 512, 2048], shape), 0).astype(np.uint32)
    sci[rng.random(shape) < 0.03] = np.nan
    valid = np.ones((exposures, integrations), bool)
    return Cube(*(jnp.asarray(a) for a in (sci, np.ones(shape), dq, valid, poisson, noise, flat)))


MAPS = np.stack([pixel_map(0.1), pixel_map(-0.2, 1.01, 1e-4, centre=(22.0, 20.0))])


@eqx.filter_jit
def resampled(cube, maps=MAPS, times=(1.0, 1.0), background=(0.0, 0.0), ratio=1.0, window=4, options=None):
    return resample(
        cube,
        jnp.asarray(maps),
        output_shape=FRAME,
        exposure_times=jnp.asarray(times),
        background=jnp.asarray(background),
        pixel_scale_ratio=ratio,
        options=options or Resample(),
        window=window,
    )


def combined_by_the_package(cube, weights, omega_of):
    """SCI, WHT, CON and variances plane by plane, with the package doing the overlaps."""
    good = (np.asarray(cube.dq) & (DQ.DO_NOT_USE | DQ.NON_SCIENCE) == 0) & np.isfinite(cube.sci)
    planes = [(e, i) for e in range(2) for i in range(2)]
    weight = {k: np.where(good[k], weights[k], 0) for k in planes}
    image = drizzled([np.nan_to_num(cube.sci[k]) for k in planes], [MAPS[k[0]] for k in planes], weight.values())
    numerators, denominator = np.zeros((3, *FRAME)), np.zeros(FRAME)
    for k in planes:
        variances = (cube.var_poisson, cube.var_rnoise, cube.var_flat)
        v = [drizzled([np.sqrt(a[k])], [MAPS[k[0]]], [weight[k]])[0].astype(float) ** 2 for a in variances]
        omega = omega_of(k, v)
        seen = np.isfinite(v[0])
        numerators += [np.where(seen, one * omega**2, 0) for one in v]
        denominator += np.where(seen, omega, 0)
    with np.errstate(invalid="ignore"):
        return image, [one / denominator**2 for one in numerators]


@pytest.mark.parametrize("weight_type", ["ivm", "exptime"])
def test_planes_and_variances_combine_as_by_the_package(weight_type):
    cube, times = cubes(np.random.default_rng(3)), (1.5, 4.0)
    weights = 1 / np.asarray(cube.var_rnoise)
    if weight_type == "exptime":
        weights = np.ones_like(weights) * np.asarray(times)[:, None, None, None]
    (sci, wht, con), variances = combined_by_the_package(
        cube, weights, lambda k, v: 1 / v[1] if weight_type == "ivm" else np.full(FRAME, times[k[0]])
    )
    ours = resampled(cube, times=times, ratio=2.0, options=Resample(weight_type=weight_type, variances="drizzled"))
    for name, reference in zip(("sci", "var_poisson", "var_rnoise", "var_flat"), (sci, *variances), strict=True):
        factor = 1.0 if name == "sci" else 4.0
        np.testing.assert_allclose(factor * getattr(ours, name), reference, rtol=2e-5, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(ours.weight, wht, atol=1e-6 * wht.max())
    np.testing.assert_array_equal(ours.context, con)
    np.testing.assert_allclose(ours.err**2, (ours.var_poisson + ours.var_rnoise + ours.var_flat))


def test_missing_variances():
    cube = cubes(np.random.default_rng(4))
    none = eqx.tree_at(lambda c: (c.var_poisson, c.var_rnoise, c.var_flat), cube, (None, None, None))
    image = resampled(none)
    assert np.isnan(image.err).all()
    assert np.isnan(image.var_flat).all()
    assert float(image.weight.sum()) > 0
    equal = resampled(eqx.tree_at(lambda c: c.var_rnoise, cube, None))
    np.testing.assert_array_equal(equal.sci, image.sci)
    np.testing.assert_allclose(equal.err**2, equal.var_poisson + equal.var_flat)
    assert np.isnan(equal.var_rnoise).all()


def test_context_counts_valid_planes_across_words():
    n = 40
    valid = np.ones((1, n), bool)
    valid[0, 3] = False
    sci = np.where(valid[..., None, None], np.ones((1, n, 4, 4)), np.nan)
    cube = Cube(jnp.asarray(sci), jnp.asarray(sci), jnp.zeros(sci.shape, jnp.uint32), jnp.asarray(valid))
    y, x = np.mgrid[:4, :4].astype(float)
    maps, zero = jnp.asarray(np.stack([x, y], -1)[None]), jnp.zeros(1)
    image = resample(
        cube, maps, output_shape=(4, 4), exposure_times=zero, background=zero, options=Resample(), window=1
    )
    assert image.context.dtype == jnp.int32
    np.testing.assert_array_equal(image.context[:, 1, 2], [-1, 2 ** (n - 1 - 32) - 1])
    np.testing.assert_array_equal(image.weight, np.full((4, 4), n - 1))


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


def test_a_flat_image_stays_flat():
    cube = cubes(np.random.default_rng(5))
    image = resampled(eqx.tree_at(lambda c: c.sci, cube, jnp.where(jnp.isnan(cube.sci), cube.sci, 7.0)))
    seen = np.asarray(image.weight) > 0
    assert seen.sum() > 200
    np.testing.assert_allclose(image.sci[seen], 7.0, rtol=1e-12)
    assert np.isnan(image.sci[~seen]).all()
    lower = resampled(eqx.tree_at(lambda c: c.sci, cube, jnp.full_like(cube.sci, 7.0)), background=(2.0, 2.0))
    np.testing.assert_allclose(lower.sci[seen], 5.0, rtol=1e-12)


def test_linear_in_the_data():
    cube = cubes(np.random.default_rng(6))
    other = jnp.where(
        jnp.isnan(cube.sci), cube.sci, jnp.cos(jnp.arange(cube.sci.size, dtype=float)).reshape(cube.sci.shape)
    )
    one, two, both = (
        resampled(eqx.tree_at(lambda c: c.sci, cube, sci)).sci for sci in (cube.sci, other, 2 * cube.sci - 3 * other)
    )
    np.testing.assert_allclose(both, 2 * one - 3 * two, atol=1e-12)


def test_a_quarter_turn_moves_pixels_exactly():
    y, x = np.mgrid[:6, :8].astype(float)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)))
    table = overlap(
        jnp.asarray(np.stack([5 - y, x], -1)), output_shape=(8, 6), window=overlap_window(np.stack([5 - y, x], -1))
    )
    np.testing.assert_array_equal(spread(table, image), np.rot90(image, -1))


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


def test_derivatives_in_map_pixfrac_and_variances():
    rng = np.random.default_rng(7)
    cube = jax.tree.map(lambda a: a[:1, :1], cubes(rng))

    def image(one_map, pixfrac, noise):
        changed = eqx.tree_at(lambda c: c.var_rnoise, cube, noise)
        result = resampled(changed, one_map[None], (1.0,), (0.0,), options=Resample(pixfrac=pixfrac))
        seen = result.weight > 1e-3
        return jnp.where(seen, result.sci, 0), result.weight, jnp.where(seen, result.err, 0)

    check_grads(
        image, (jnp.asarray(MAPS[0]), 0.83, cube.var_rnoise), order=1, modes=("fwd", "rev"), rtol=1e-4, eps=1e-6
    )


def test_unknown_positions_leave_gradients_finite():
    cube = cubes(np.random.default_rng(8))
    maps = np.array(MAPS)
    maps[0, 3, 4] = maps[1, 0, 0] = np.nan

    def total(sci, maps):
        image = resampled(eqx.tree_at(lambda c: c.sci, cube, sci), maps)
        return jnp.nansum(image.sci) + jnp.nansum(image.err)

    for gradient in jax.grad(total, argnums=(0, 1))(cube.sci, jnp.asarray(maps)):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_invalid_planes_and_exposures_change_nothing():
    cube = cubes(np.random.default_rng(9))

    def padded(array):
        fill = np.nan if jnp.issubdtype(array.dtype, jnp.floating) else 0
        widths = [(0, 1), (1, 1)] + [(0, 0)] * (array.ndim - 2)
        return jnp.pad(array, widths, constant_values=fill)

    maps = np.concatenate([MAPS, np.full_like(MAPS[:1], np.nan)])
    plain, other = resampled(cube), resampled(jax.tree.map(padded, cube), maps, (1.0,) * 3, (0.0,) * 3)
    jax.tree.map(np.testing.assert_array_equal, plain, other)


def test_single_precision():
    cube = cubes(np.random.default_rng(10))
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, cube)
    exact = resampled(cube)
    image = resampled(single, MAPS.astype(np.float32), np.ones(2, np.float32), np.zeros(2, np.float32))
    assert image.sci.dtype == jnp.float32
    seen = np.asarray(exact.weight) > 1e-2
    np.testing.assert_allclose(image.sci[seen], exact.sci[seen], atol=2e-3)
    np.testing.assert_allclose(image.weight, exact.weight, atol=2e-4)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'round' is not known"):
        table_of(jnp.asarray(MAPS[0]), output_shape=FRAME, kernel="round")
    with pytest.raises(ValueError, match="no cell"):
        table_of(jnp.asarray(MAPS[0][:1]), output_shape=FRAME)
