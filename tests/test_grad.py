"""First derivatives, forward and reverse, against finite differences along random directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .properties import assert_trees_close, direction, every_differentiable_op, floating, of_differentiable, sample

STEP = 1e-6


def _dot(one, two):
    return sum(float(jnp.vdot(a, b)) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))


@every_differentiable_op
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_directional_derivatives(row, seed):
    rng = np.random.default_rng(seed)
    arguments = sample(row, seed)
    function, point = of_differentiable(row, arguments)
    tangent = direction(row, arguments, rng)
    moved = [tuple(p + sign * STEP * t for p, t in zip(point, tangent, strict=True)) for sign in (1, -1)]

    def values_of(*values):
        return floating(function(*values))

    @jax.jit
    def every_way(point, tangent, cotangent):
        """Values as without derivatives, which may have a rule of their own; forward; reverse. One program for all."""
        reverse = jax.vjp(values_of, *point)[1](cotangent)
        return values_of(*point), jax.jvp(values_of, point, tangent), reverse

    cotangent = [jnp.asarray(rng.normal(size=f.shape)) for f in jax.eval_shape(values_of, *point)]
    high, low = (every_way(values, tangent, cotangent)[0] for values in moved)
    finite = [(a - b) / (2 * STEP) for a, b in zip(high, low, strict=True)]
    plain, (primal, forward), reverse = every_way(point, tangent, cotangent)
    assert_trees_close(primal, plain)
    scale = np.sqrt(sum(float(jnp.sum(jnp.square(f))) for f in finite)) or 1.0
    error = np.sqrt(sum(float(jnp.sum(jnp.square(a - b))) for a, b in zip(forward, finite, strict=True)))
    assert error <= row.tolerance * scale
    np.testing.assert_allclose(_dot(reverse, tangent), _dot(cotangent, forward), rtol=1e-7, atol=1e-9 * scale)
