"""What the property tests share: rows as parameters, floating leaves, an op of what it can be differentiated in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .registry import ROWS, Row

every_op = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
_WITH_SLOPES = [row for row in ROWS if row.differentiable]
every_differentiable_op = pytest.mark.parametrize("row", _WITH_SLOPES, ids=[row.name for row in _WITH_SLOPES])


def sample(row: Row, seed: int = 0):
    return row.sample(np.random.default_rng(seed))


def floating(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)]


def assert_trees_close(one, two, rtol=1e-9, atol=1e-9):
    left, right = jax.tree.leaves(one), jax.tree.leaves(two)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


def called(call, arguments):
    """What a call returns, arrays all of it; the arguments stay as they were."""
    before = jax.tree.map(np.array, arguments)
    result = call(*arguments)
    jax.tree.map(np.testing.assert_array_equal, arguments, before)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result))
    return result


def programs_made(compiled, *calls):
    """How many programs a function that `jax.jit` made compiles anew in these calls of it."""
    before = compiled._cache_size()
    for call in calls:
        call()
    return compiled._cache_size() - before


def differentiable(row: Row, arguments):
    return tuple(jnp.asarray(arguments[i]) for i in row.differentiable)


def of_differentiable(row: Row, arguments, cut=None):
    """The floats of what an op returns, cut, as a function of its differentiable arguments alone."""

    def function(*values):
        full = list(arguments)
        for position, value in zip(row.differentiable, values, strict=True):
            full[position] = value
        result = row.output(row.call(*full))
        leaves = jax.tree.leaves(result if cut is None else cut(result))
        assert len(leaves) == len(floating(leaves))  # that is what a row calls its output: nothing goes uncompared
        return leaves

    return function
