"""Whether a minimisation says truly that it has converged."""

import jax.numpy as jnp
import pytest

from coronjax.ops._newton import Objective, minimise

ROUNDING = 64 * jnp.finfo(float).eps


def _bowl(p: jnp.ndarray) -> Objective:
    """A paraboloid with its minimum at (0.3, -0.2)."""
    off = p - jnp.array([0.3, -0.2])
    value = jnp.sum(off**2)
    return Objective(value, 2 * off, 2 * jnp.eye(2), ROUNDING * value)


def _cone(p: jnp.ndarray) -> Objective:
    """Least at the origin, where its gradient is one: no step of the model leads downhill."""
    value = jnp.sqrt(jnp.sum(p**2))
    return Objective(value, jnp.array([1.0, 0.0]), jnp.eye(2), ROUNDING * value)


def _noisy(p: jnp.ndarray) -> Objective:
    """Newton's step from the origin is longer than the tolerance, and rounding makes every other point worse."""
    off = p - jnp.array([5e-8, 0.0])
    return Objective(1 + 1e-12 * jnp.any(p != 0), 2 * off, 2 * jnp.eye(2), jnp.array(ROUNDING))


def _found(objective, max_iterations: int = 200):
    return minimise(lambda p: p, objective, jnp.zeros(2), jnp.zeros(2), max_iterations)


def test_a_minimum_is_converged_upon():
    found = _found(_bowl)
    assert bool(found.converged)
    assert jnp.allclose(found.params, jnp.array([0.3, -0.2]), atol=1e-12)


def test_a_radius_that_shrinks_to_nothing_is_no_convergence():
    found = _found(_cone)
    assert int(found.n_iterations) < 200
    assert not bool(found.converged)


def test_what_rounding_hides_is_converged():
    assert bool(_found(_noisy).converged)


@pytest.mark.parametrize(("rounding", "converged"), [(0.1, True), (0.4, False)])
def test_a_minimum_lost_in_rounding_is_not_found(rounding, converged):
    """The gradient is uncertain by an eighth of that per pixel, the curvature two: 0.006 and 0.025 pixel."""
    found = _found(lambda p: _bowl(p)._replace(rounding=jnp.array(rounding)))
    assert bool(found.converged) == converged


def test_what_rounding_makes_worse_is_accepted():
    """The gradient leads to the minimum where values are the noise of a large sum."""

    def noisy(p):
        return _bowl(p)._replace(value=jnp.sum(jnp.abs(p)) * 1e-3, rounding=jnp.array(1e-3))

    found = _found(noisy)
    assert bool(found.converged)
    assert jnp.allclose(found.params, jnp.array([0.3, -0.2]), atol=1e-4)


def test_too_few_steps_are_no_convergence():
    assert not bool(_found(_bowl, max_iterations=1).converged)
