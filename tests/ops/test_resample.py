"""The image of the sky against the drizzle package, against what is known exactly, and against finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax.cube import DQ, Cube
from coronjax.ops import SharedNoise, resample
from coronjax.options import Resample
from tests.ops.drizzling import FRAME, MAPS, SHAPE, cubes, drizzled, resampled


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


@pytest.mark.parametrize("weight_type", ["ivm", pytest.param("exptime", marks=pytest.mark.slow)])
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
    other = resampled(cube, times=times, options=Resample(weight_type=weight_type))
    np.testing.assert_allclose(other.sci, ours.sci, rtol=1e-12)
    np.testing.assert_allclose(other.weight, ours.weight, rtol=1e-12)
    np.testing.assert_array_equal(other.context, con)


@pytest.mark.slow
def test_missing_variances():
    cube = cubes(np.random.default_rng(4))
    none = eqx.tree_at(lambda c: (c.var_poisson, c.var_rnoise, c.var_flat), cube, (None, None, None))
    image = resampled(none, options=Resample(variances="drizzled"))
    assert np.isnan(image.err).all()
    assert np.isnan(image.var_flat).all()
    assert float(image.weight.sum()) > 0
    for variances in ("drizzled", "propagated"):
        equal = resampled(eqx.tree_at(lambda c: c.var_rnoise, cube, None), options=Resample(variances=variances))
        np.testing.assert_allclose(equal.sci, image.sci, rtol=1e-12)
        np.testing.assert_allclose(equal.err**2, equal.var_poisson + equal.var_flat)
        assert np.isnan(equal.var_rnoise).all()


@pytest.mark.slow
def test_err_stands_for_missing_variances():
    cube = cubes(np.random.default_rng(4))
    bare = eqx.tree_at(lambda c: (c.var_poisson, c.var_rnoise, c.var_flat), cube, (None, None, None))
    bare = eqx.tree_at(lambda c: c.err, bare, jnp.sqrt(cube.var_poisson))
    alone = eqx.tree_at(lambda c: (c.var_rnoise, c.var_flat), cube, (None, None))
    one, other = resampled(bare), resampled(alone)
    np.testing.assert_allclose(one.err, other.err, rtol=1e-12)
    np.testing.assert_allclose(one.correlation, other.correlation, rtol=1e-12)
    assert np.isnan(one.var_poisson).all()
    shared = SharedNoise(jnp.ones((2, *SHAPE)), jnp.ones((2, *SHAPE)).at[:, 3, 4].set(jnp.nan))
    total = eqx.tree_at(lambda c: c.err, bare, jnp.sqrt(bare.err**2 + (1 + jnp.nan_to_num(shared.speckles))[:, None]))
    np.testing.assert_allclose(resampled(total, shared=shared).err, resampled(alone, shared=shared).err, rtol=1e-9)


@pytest.mark.parametrize("variances", ["propagated", "drizzled"])
def test_context_counts_valid_planes_across_words(variances):
    n = 40
    valid = np.ones((1, n), bool)
    valid[0, 3] = False
    sci = np.where(valid[..., None, None], np.ones((1, n, 4, 4)), np.nan)
    cube = Cube(jnp.asarray(sci), jnp.asarray(sci), jnp.zeros(sci.shape, jnp.uint32), jnp.asarray(valid))
    y, x = np.mgrid[:4, :4].astype(float)
    maps, zero = jnp.asarray(np.stack([x, y], -1)[None]), jnp.zeros(1)
    options = Resample(variances=variances)
    image = resample(cube, maps, output_shape=(4, 4), exposure_times=zero, background=zero, options=options, window=1)
    assert image.context.dtype == jnp.int32
    np.testing.assert_array_equal(image.context[:, 1, 2], [-1, 2 ** (n - 1 - 32) - 1])
    np.testing.assert_array_equal(image.weight, np.full((4, 4), n - 1))


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


@pytest.mark.slow
@pytest.mark.parametrize("variances", ["propagated", "drizzled"])
def test_derivatives_in_map_pixfrac_and_variances(variances):
    rng = np.random.default_rng(7)
    cube = jax.tree.map(lambda a: a[:1, :1], cubes(rng))

    def image(one_map, pixfrac, noise):
        changed = eqx.tree_at(lambda c: c.var_rnoise, cube, noise)
        result = resampled(changed, one_map[None], (1.0,), (0.0,), options=Resample(pixfrac, variances=variances))
        seen = result.weight > 1e-3
        return jnp.where(seen, result.sci, 0), result.weight, jnp.where(seen, result.err, 0)

    check_grads(
        image, (jnp.asarray(MAPS[0]), 0.83, cube.var_rnoise), order=1, modes=("fwd", "rev"), rtol=1e-4, eps=1e-6
    )


@pytest.mark.slow
def test_unknown_positions_leave_gradients_finite():
    cube = cubes(np.random.default_rng(8))
    maps = np.array(MAPS)
    maps[0, 3, 4] = maps[1, 0, 0] = np.nan

    def total(sci, maps, pixfrac):
        image = resampled(eqx.tree_at(lambda c: c.sci, cube, sci), maps, options=Resample(pixfrac=pixfrac))
        return jnp.nansum(image.sci) + jnp.nansum(image.err)

    point = cube.sci, jnp.asarray(maps), jnp.asarray(0.8)
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))
    _, gradients = compiled(*point)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0
    high, low = (compiled(*point[:2], jnp.asarray(0.8 + step))[0] for step in (1e-6, -1e-6))
    finite = (high - low) / 2e-6
    np.testing.assert_allclose(gradients[2], finite, rtol=1e-5)


def test_invalid_planes_and_exposures_change_nothing():
    cube = cubes(np.random.default_rng(9))

    def padded(array):
        fill = np.nan if jnp.issubdtype(array.dtype, jnp.floating) else 0
        widths = [(0, 1), (1, 1)] + [(0, 0)] * (array.ndim - 2)
        return jnp.pad(array, widths, constant_values=fill)

    maps = np.concatenate([MAPS, np.full_like(MAPS[:1], np.nan)])
    plain, other = resampled(cube), resampled(jax.tree.map(padded, cube), maps, (1.0,) * 3, (0.0,) * 3)
    jax.tree.map(np.testing.assert_array_equal, plain, other)


@pytest.mark.slow
def test_single_precision():
    cube = cubes(np.random.default_rng(10))
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, cube)
    exact = resampled(cube)
    image = resampled(single, MAPS.astype(np.float32), np.ones(2, np.float32), np.zeros(2, np.float32))
    assert image.sci.dtype == jnp.float32
    seen = np.asarray(exact.weight) > 1e-2
    np.testing.assert_allclose(image.sci[seen], exact.sci[seen], atol=2e-3)
    np.testing.assert_allclose(image.weight, exact.weight, atol=2e-4)
