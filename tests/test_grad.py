"""First derivatives, forward and reverse: those of finite differences; finite under NaN, flags and degenerate input."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .properties import assert_trees_close, differentiable, every_differentiable_op, of_differentiable, sample
from .registry import ROWS

STEP = 1e-6
HARMS = [(row, kind) for row in ROWS for kind in ("spoil", "degenerate") if getattr(row, kind)]
PADDED = [row for row in ROWS if row.pad]


class Derivatives(NamedTuple):
    """What an op gives of its differentiable arguments, and how it changes with them."""

    plain: Any  # floats of its result
    primal: Any  # the same beside a derivative, which may come from a rule of its own
    cotangent: Any  # a wave over the finite ones
    forward: Any
    reverse: Any


@cache
def program(row, cut):
    """`Derivatives` of an op, from its arguments, a tangent and the frequency of the wave; one for all the tests."""

    @jax.jit
    def derivatives(arguments, tangent, frequency):
        function = of_differentiable(row, arguments, cut)
        point = differentiable(row, arguments)
        primal, forward = jax.jvp(function, point, tangent)
        starts = np.cumsum([1] + [leaf.size for leaf in primal])  # no two floats swing alike
        wave = [
            jnp.cos(frequency * (start + jnp.arange(leaf.size))).reshape(leaf.shape)
            for start, leaf in zip(starts, primal, strict=False)
        ]
        cotangent = [jnp.where(jnp.isfinite(leaf), w, 0) for leaf, w in zip(primal, wave, strict=True)]
        return Derivatives(function(*point), primal, cotangent, forward, jax.vjp(function, *point)[1](cotangent))

    return derivatives


def _direction(row, arguments, rng):
    """A random direction in the differentiable arguments, zero where they are not finite."""
    scale = {i: np.nanstd(np.asarray(arguments[i])) or 1.0 for i in row.differentiable}
    noise = {i: scale[i] * rng.normal(size=np.shape(arguments[i])) for i in row.differentiable}
    return tuple(jnp.where(jnp.isfinite(arguments[i]), noise[i], 0.0) for i in row.differentiable)


def _dot(one, two):
    return sum(float(jnp.vdot(a, b)) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))


def _moved(row, arguments, tangent, step):
    moved = list(arguments)
    for i, t in zip(row.differentiable, tangent, strict=True):
        moved[i] = arguments[i] + step * t
    return tuple(moved)


@every_differentiable_op
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_directional_derivatives(row, seed):
    arguments = sample(row, seed)
    tangent = _direction(row, arguments, np.random.default_rng(seed))
    low, found, high = (
        program(row, None)(_moved(row, arguments, tangent, step), tangent, 0.7 + seed) for step in (-STEP, 0.0, STEP)
    )
    finite = [(a - b) / (2 * STEP) for a, b in zip(high.plain, low.plain, strict=True)]
    assert_trees_close(found.primal, found.plain)
    scale = np.sqrt(sum(float(jnp.sum(jnp.square(f))) for f in finite)) or 1.0
    error = np.sqrt(sum(float(jnp.sum(jnp.square(a - b))) for a, b in zip(found.forward, finite, strict=True)))
    assert error <= row.tolerance * scale
    along, back = _dot(found.cotangent, found.forward), _dot(found.reverse, tangent)
    np.testing.assert_allclose(back, along, rtol=1e-7, atol=1e-9 * scale)


def _of_sum(row, arguments, cut=None):
    """The derivatives of the sum of all finite floats, along ones; the primal is the plain result."""
    ones = tuple(jnp.isfinite(a).astype(a.dtype) for a in differentiable(row, arguments))
    found = program(row, cut)(arguments, ones, 0.0)
    assert_trees_close(found.primal, found.plain)
    return found


@pytest.mark.parametrize(("row", "kind"), HARMS, ids=[f"{row.name}-{kind}" for row, kind in HARMS])
def test_finite_under_harm(row, kind):
    found = _of_sum(row, getattr(row, kind)(sample(row)))
    for leaf in jax.tree.leaves((found.plain, found.forward, found.reverse)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("row", PADDED, ids=[row.name for row in PADDED])
def test_padding_changes_nothing(row):
    arguments = sample(row)
    bare, padded = _of_sum(row, arguments), _of_sum(row, row.pad(arguments), row.unpad)
    assert_trees_close(padded.plain, bare.plain)
    for a, b in zip(bare.reverse, padded.reverse, strict=True):
        b = np.asarray(b)[tuple(slice(0, n) for n in a.shape)]
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
        assert np.isfinite(b).all()
