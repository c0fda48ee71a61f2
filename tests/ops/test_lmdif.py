"""lmdif goes the way of MINPACK's, as scipy runs it, also where that stops short of the minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import leastsq

from coronjax.ops import follow_lmdif, fourier_shift, register_all
from coronjax.ops.lmdif import lmdif

T = np.arange(1, 21) / 5


def rosenbrock(p, xp=np):
    return xp.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])


def brown_dennis(p, xp=np):
    """Twenty residuals that stay large: Gauss-Newton steps close in slowly."""
    return (p[0] + T * p[1] - xp.exp(T)) ** 2 + (p[2] + xp.sin(T) * p[3] - xp.cos(T)) ** 2


def decay(p, xp=np):
    return p[0] * xp.exp(-p[1] * T) + p[2] - (2 * np.exp(-T) + 0.5 + 0.1 * np.sin(9 * T))


PROBLEMS = [  # far from the minimum the way itself amplifies rounding: there the first steps are compared
    (rosenbrock, (-1.2, 1.0), 800, 1e-6),
    (decay, (1.0, 0.5, 0.0), 800, 1e-6),
    (brown_dennis, (25.0, 5.0, -5.0, -1.0), 12, 1e-3),
]


@pytest.mark.parametrize(("problem", "start", "limit", "tolerance"), PROBLEMS)
def test_stops_where_minpack_stops(problem, start, limit, tolerance):
    expected, _, info, _, status = leastsq(problem, start, xtol=1e-15, ftol=1e-15, maxfev=limit, full_output=True)
    found = jax.jit(lambda p: lmdif(lambda q: problem(q, jnp), p, max_evaluations=limit))(jnp.array(start))
    np.testing.assert_allclose(found.params, expected, rtol=tolerance, atol=1e-9)
    assert bool(found.converged) == (status != 5)
    if status == 5:  # it ran to the limit
        assert int(found.n_evaluations) == info["nfev"]


def _images(mismatch: float):
    """A star, and a target that is the moved star plus structure that moves with nothing."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[-16:17, -16:17]
    smooth = np.fft.ifft2(np.fft.fft2(rng.normal(size=x.shape)) * np.fft.fft2(np.exp(-(np.hypot(x, y) ** 2) / 8))).real
    star = np.exp(-((x - 0.4) ** 2 + y**2) / 18) * (1 + 0.3 * np.cos(0.9 * x))
    target = 1.5 * np.asarray(fourier_shift(jnp.asarray(star), jnp.array([0.3, -0.2])))
    return target + mismatch * smooth / smooth.std(), star, np.exp(-(x**2 + y**2) / 200)


@pytest.mark.parametrize("mismatch", [pytest.param(0.01, marks=pytest.mark.slow), 1.2])
def test_registration_ends_where_scipy_ends(mismatch):
    target, star, weight = _images(mismatch)

    def residual(p):
        return np.asarray((target - p[2] * shifted(p[:2])) * weight).ravel()

    shifted = jax.jit(lambda shift: fourier_shift(jnp.asarray(star), shift))
    expected, *_ = leastsq(residual, (0.0, 0.0, 1.0), xtol=1e-15, ftol=1e-15, maxfev=800, full_output=True)
    images = jnp.asarray(target)[None], jnp.asarray(star), jnp.asarray(weight), jnp.ones(1, bool)
    minimum = register_all(*images, search=0)
    found = follow_lmdif(minimum, *images)
    np.testing.assert_allclose([*found.shift[0], found.scale[0]], expected, atol=1e-6)
    followed = int(found.n_iterations[0]) != int(minimum.n_iterations[0])
    assert followed == (mismatch > 1)


def test_of_planes_worked_on_together_those_not_wanted_are_not_begun():
    """One that is NaN would not stop before its limit, and the others would wait for it."""
    calls = []

    def residual(p):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])

    def follow(start, wanted):
        return lmdif(residual, start, max_evaluations=800, wanted=wanted)

    starts = jnp.array([[-1.2, 1.0], [jnp.nan, 1.0]])
    first, second = (jax.vmap(follow)(starts, jnp.array(wanted)) for wanted in ([True, False], [False, False]))
    jax.effects_barrier()
    np.testing.assert_allclose(first.params[0], 1, rtol=1e-6)
    assert first.n_evaluations[0] > 20
    assert not first.converged[1]
    assert not second.converged.any()
    np.testing.assert_array_equal(second.params, starts)
    # A try, of both, is one evaluation or three; the second call makes one for each.
    assert len(calls) <= 2 * (3 * int(first.n_evaluations[0]) + 1)


def test_derivative_is_that_of_the_minimum():
    target, star, weight = (jnp.asarray(image) for image in _images(1.2))

    def shift(image, follow):
        images = image[None], star, weight, jnp.ones(1, bool)
        found = register_all(*images, search=0)
        return (follow_lmdif(found, *images) if follow else found).shift[0, 0]

    one, other = (jax.grad(shift)(target, follow) for follow in (True, False))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert float(jnp.abs(one).max()) > 0
