"""Registration: the minimum, how it is reached, its errors and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from coronjax.ops.align import register, register_all
from coronjax.ops.shift import fourier_shift

from .test_shift import formula


def speckles(rng, shape=(40, 44)):
    """Something like a star behind a coronagraph, speckles that fade outwards around a dark centre; and a weight."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(y - shape[0] / 2 + 0.3, x - shape[1] / 2 - 0.2)
    image = gaussian_filter(rng.normal(size=shape), 1.1) ** 2
    image = 1e3 * image / image.max() * np.exp(-radius / 6) * (1 - 0.9 * np.exp(-(radius**2) / 12))
    return image, 1 - 0.95 * np.exp(-(radius**2) / 12)


def scene(seed, reach=0.7, noise=0.5, shape=(40, 44)):
    """Target, moving image, weight and the true (sx, sy, scale)."""
    rng = np.random.default_rng(seed)
    moving, weight = speckles(rng, shape)
    truth = np.array([*rng.uniform(-reach, reach, 2), rng.uniform(0.5, 3)])
    target = truth[2] * formula(moving, truth[:2]) + noise * rng.normal(size=shape)
    weight = np.where(rng.random(shape) < 0.05, 0.0, weight)
    return target, moving + noise * rng.normal(size=shape), weight, truth


def parameters(result):
    return jnp.append(result.shift, result.scale)


def residuals(p, target, moving, weight):
    return ((target - p[2] * formula(moving, p[:2])) * weight).ravel()


@pytest.mark.parametrize("shape", [(40, 44), (41, 44), (40, 39), (41, 39)])
@pytest.mark.parametrize("noise", [0.5, 8.0])
def test_finds_the_least_squares_minimum(shape, noise):
    target, moving, weight, truth = scene(1, noise=noise, shape=shape)
    peer = least_squares(residuals, truth, "3-point", xtol=1e-15, ftol=1e-15, gtol=1e-15, args=(target, moving, weight))
    result = register(target, moving, weight)
    assert result.converged
    assert result.n_iterations <= 8
    np.testing.assert_allclose(parameters(result), peer.x, rtol=0, atol=1e-6)
    rms = np.sqrt(2 * peer.cost / np.sum(weight**2))
    np.testing.assert_allclose(result.residual, rms, rtol=1e-9)


@jax.jit
def newton_step(p, target, moving, weight):
    """What is left to go to the minimum, by derivatives of the images."""

    def cost(p):
        return jnp.sum(((target - p[2] * fourier_shift(moving, p[:2])) * weight) ** 2)

    return jnp.linalg.solve(jax.hessian(cost)(p), jax.grad(cost)(p))


def test_minimum_is_stationary_to_rounding():
    images = scene(2)[:3]
    assert jnp.abs(newton_step(parameters(register(*images)), *images)).max() < 1e-11


@pytest.mark.parametrize(
    ("dtype", "brighter", "reach"),
    [(np.float64, 1e6, 1e-9), (np.float32, 1e3, 1e-3), (np.float32, 3e3, None)],
)
def test_a_bright_star_without_weight(dtype, brighter, reach):
    """It takes digits from the objective, not from where that is least; where too many are gone, that is said."""
    rng, shape = np.random.default_rng(15), (40, 44)
    y, x = np.indices(shape)
    radius = np.hypot(y - 20, x - 22)
    moving = gaussian_filter(rng.normal(size=(8, *shape)), (0, 1.5, 1.5))
    moving = moving / moving.std() + brighter * np.exp(-(radius**2) / 4.5)
    targets = np.stack([1.7 * formula(image, rng.uniform(-1, 1, 2)) for image in moving])
    targets = targets + 0.05 * gaussian_filter(rng.normal(size=targets.shape), (0, 1, 1))
    weight = (radius > 11).astype(float)
    each = jax.vmap(register, (0, 0, None))
    found = each(*(a.astype(dtype) for a in (targets, moving, weight)))
    if reach is None:
        assert not found.converged.any()
        return
    assert found.converged.all()
    double = jnp.append(found.shift, found.scale[:, None], axis=1).astype(float)
    assert np.abs(jax.vmap(newton_step, (0, 0, 0, None))(double, targets, moving, weight)).max() < reach


def test_mirrored_images_are_registered_as_well():
    target, moving, weight, _ = scene(16)
    result = register(-target, moving, weight, search=0)
    assert result.converged
    assert result.scale < 0
    assert jnp.abs(newton_step(parameters(result), -target, moving, weight)).max() < 1e-11


@pytest.mark.parametrize("unit", [1e-10, 1e8])
def test_units_do_not_matter(unit):
    """Squares of the coefficients are beyond float32."""
    target, moving, weight, _ = scene(17)
    images = (a.astype(np.float32) for a in (unit * target / 1e3, unit * moving / 1e3, weight))
    result, expected = register(*images), register(target, moving, weight)
    assert result.converged
    np.testing.assert_allclose(parameters(result), parameters(expected), atol=1e-5)


@pytest.mark.parametrize("search", [8, None])
def test_recovers_far_shifts_in_every_trial(search):
    trials, shape = 100, (40, 44)
    rng = np.random.default_rng(3)
    angles = rng.uniform(0, 2 * np.pi, trials)
    truths = rng.uniform(3, 5, (trials, 1)) * np.stack([np.cos(angles), np.sin(angles)], -1)
    images = [speckles(rng, shape) for _ in range(trials)]
    noise = rng.normal(size=(2, trials, *shape)) * 3
    targets = np.stack([1.7 * formula(image, s) for (image, _), s in zip(images, truths, strict=True)]) + noise[0]
    moving = np.stack([image for image, _ in images]) + noise[1]
    weights = np.stack([weight for _, weight in images])
    results = jax.vmap(lambda *a: register(*a, search=search))(targets, moving, weights)
    assert results.converged.all()
    error = np.abs(results.shift - truths)
    assert (error < 0.2).all()
    assert (error < 6 * results.standard_error[:, :2]).all()


def test_prefers_the_minimum_near_zero_where_it_is_about_as_good():
    star = np.exp(-0.5 * np.hypot(*np.mgrid[-20:20, -20:20]) ** 2)
    target = jnp.asarray(np.roll(star, 6, 1) + 0.97 * star)
    weight = jnp.ones_like(target)
    near, far = (register(target, jnp.asarray(star), weight, prefer_near=share).shift[0] for share in (0.1, 0.0))
    assert abs(near) < 0.1
    assert abs(far - 6) < 0.1


@pytest.mark.parametrize("kind", ["white", "photons"])
def test_standard_errors_hold_over_noise(kind):
    target, moving, weight, truth = scene(4, noise=0.0)
    rng = np.random.default_rng(5)
    sigma = 3.0 if kind == "white" else 0.3 * np.sqrt(np.abs(target) + 10)
    targets = target + sigma * rng.normal(size=(400, *target.shape))
    results = register_all(targets, moving, weight, np.ones(400, bool), batch_size=50)
    fitted = np.column_stack([results.shift, results.scale])
    np.testing.assert_allclose(results.standard_error.mean(0), fitted.std(0), rtol=0.15)
    np.testing.assert_allclose(fitted.mean(0), truth, atol=4 * np.max(fitted.std(0) / 20))


@pytest.mark.parametrize("noise", [pytest.param(0.5, marks=pytest.mark.slow), 8.0])
def test_derivatives_are_those_of_the_whole_registration(noise):
    target, moving, weight, _ = scene(6, noise=noise, shape=(24, 25))
    point = tuple(map(jnp.asarray, (target, moving, weight)))
    rng = np.random.default_rng(7)

    def function(*images):
        result = register(*images)
        return jnp.append(parameters(result), result.residual)

    reverse = jax.jacrev(function, argnums=(0, 1, 2))(*point)
    for position in range(3):
        tangent = [jnp.zeros_like(a) for a in point]
        tangent[position] = jnp.asarray(rng.normal(size=target.shape) * (0.01 if position == 2 else 1.0))
        step = 1e-4 if position < 2 else 1e-3
        ahead, behind = (function(*(a + s * step * t for a, t in zip(point, tangent, strict=True))) for s in (1, -1))
        finite = (ahead - behind) / (2 * step)
        _, forward = jax.jvp(function, point, tuple(tangent))
        np.testing.assert_allclose(forward, finite, rtol=1e-5, atol=1e-6 * np.abs(finite).max())
        np.testing.assert_allclose(
            jnp.sum(reverse[position] * tangent[position], (1, 2)), forward, rtol=1e-9, atol=1e-13
        )


@pytest.mark.slow
def test_derivatives_under_vmap_and_jit():
    target, moving, weight, _ = map(jnp.asarray, scene(8, shape=(24, 24)))
    targets = jnp.stack([target, jnp.roll(target, 1, 0)])

    def total(targets, moving):
        return register_all(targets, moving, weight, jnp.ones(2, bool)).shift[:, 0].sum()

    plain = [jax.grad(lambda t, m: register(t, m, weight).shift[0], argnums=(0, 1))(t, moving) for t in targets]
    of_targets, of_moving = jax.jit(jax.grad(total, argnums=(0, 1)))(targets, moving)
    np.testing.assert_allclose(of_targets, jnp.stack([p[0] for p in plain]), atol=1e-12)
    np.testing.assert_allclose(of_moving, plain[0][1] + plain[1][1], atol=1e-12)


@pytest.mark.parametrize(
    ("zero", "value"), [((0,), 0.0), ((1,), 0.0), ((2,), 0.0), ((0, 1, 2), 0.0), ((1,), 3.0), ((0, 1), 3.0)]
)
def test_undetermined_registration_stays_finite(zero, value):
    images = [jnp.full_like(a, value) if i in zero else a for i, a in enumerate(map(jnp.asarray, scene(9)[:3]))]
    result = register(*images)
    assert not result.converged
    np.testing.assert_array_equal(result.shift, 0)
    assert result.scale == 1
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(result))

    def total(*arguments):
        fit = register(*arguments)
        return parameters(fit).sum() + fit.residual

    gradients = jax.grad(total, argnums=(0, 1, 2))(*images)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.slow
def test_invalid_planes_change_nothing():
    target, moving, weight, _ = map(jnp.asarray, scene(10, shape=(24, 24)))
    stack = jnp.stack([target, jnp.full_like(target, jnp.nan), jnp.roll(target, 1, 1)])

    def shifts(stack, moving):
        return register_all(stack, moving, weight, jnp.array([True, False, True]))

    result = shifts(stack, moving)
    np.testing.assert_allclose(result.shift[::2], register_all(stack[::2], moving, weight, jnp.ones(2, bool)).shift)
    np.testing.assert_array_equal(parameters(jax.tree.map(lambda leaf: leaf[1], result)), [0, 0, 1])
    assert result.residual[1] == 0
    of_stack, of_moving = jax.grad(lambda *a: shifts(*a).shift.sum(), argnums=(0, 1))(stack, moving)
    np.testing.assert_array_equal(of_stack[1], 0)
    assert jnp.isfinite(of_moving).all()
    assert (of_stack[0] != 0).any()


def test_what_is_not_finite_is_given_up_at_once():
    target, moving, weight, _ = scene(11)
    result = register(np.nan * target, moving, weight)
    assert jnp.isnan(result.residual)
    assert not result.converged
    assert result.n_iterations == 1


def test_few_iterations_are_reported_as_such():
    target, moving, weight, _ = scene(11)
    result = register(target, moving, weight, max_iterations=1)
    assert not result.converged
    assert result.n_iterations == 1


def test_single_precision():
    images = scene(12)[:3]
    double = register(*images)
    single = register(*(np.asarray(a, np.float32) for a in images))
    assert single.shift.dtype == jnp.float32
    assert single.converged
    np.testing.assert_allclose(parameters(single), parameters(double), atol=1e-4)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        register(jnp.ones((4, 4)), jnp.ones((4, 4)), jnp.ones((4, 5)))


@pytest.mark.parametrize("pedestal", [False, True])
def test_residual_is_that_of_what_is_returned(pedestal):
    star = jnp.exp(-0.05 * jnp.hypot(*jnp.mgrid[-12:13, -12:13]) ** 2).astype(jnp.float32)
    weight = jnp.ones_like(star)
    for shift in ((0.4, -0.3), (1.3, 0.8), (-1.7, 1.1)):
        target = 1.3 * fourier_shift(star, jnp.array(shift, jnp.float32)) + 0.2 * pedestal
        found = register(target, star, weight, search=2, pedestal=pedestal)
        left = target - found.scale * fourier_shift(star, found.shift) - found.pedestal
        assert float(found.residual) < 2 * float(jnp.sqrt(jnp.mean(left**2))) + 1e-6
        assert float(found.mismatch[:2].max()) < 1e-5
