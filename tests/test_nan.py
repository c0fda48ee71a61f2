"""NaN, flagged and degenerate input: results and gradients stay finite; padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .properties import assert_trees_close, floating, of_differentiable, sample
from .registry import ROWS

HARMS = [(row, kind) for row in ROWS for kind in ("spoil", "degenerate") if getattr(row, kind)]
PADDED = [row for row in ROWS if row.pad]


def _with_gradients(row, arguments, cut=lambda result: result):
    """What the op returns, cut, the same with derivatives and without; and the gradients of its finite values."""
    function, point = of_differentiable(row, arguments)

    def total(*values):
        result = cut(function(*values))
        return sum(jnp.sum(jnp.where(jnp.isfinite(leaf), leaf, 0)) for leaf in floating(result)), result

    numbers = tuple(range(len(point)))
    # One program: what the two ways have in common is compiled once.
    both = jax.jit(lambda *p: (total(*p)[1], jax.value_and_grad(total, argnums=numbers, has_aux=True)(*p)))
    plain, ((_, result), gradients) = both(*point)
    assert_trees_close(result, plain)
    return plain, gradients


@pytest.mark.parametrize(("row", "kind"), HARMS, ids=[f"{row.name}-{kind}" for row, kind in HARMS])
def test_finite_under_harm(row, kind):
    arguments = getattr(row, kind)(sample(row))
    result, gradients = _with_gradients(row, arguments)
    for leaf in (*floating(result), *gradients):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("row", PADDED, ids=[row.name for row in PADDED])
def test_padding_changes_nothing(row):
    arguments = sample(row)
    plain, gradients = _with_gradients(row, arguments)
    padded, others = _with_gradients(row, row.pad(arguments), row.unpad)
    assert_trees_close(padded, plain)
    for a, b in zip(gradients, others, strict=True):
        b = np.asarray(b)[tuple(slice(0, n) for n in a.shape)]
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
        assert np.isfinite(b).all()
