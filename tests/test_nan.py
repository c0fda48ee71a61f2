"""NaN, flagged and degenerate input: results and gradients stay finite; padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .properties import assert_trees_close, floating, of_differentiable, sample
from .registry import ROWS

HARMS = [(row, kind) for row in ROWS for kind in ("spoil", "degenerate") if getattr(row, kind)]
PADDED = [row for row in ROWS if row.pad]


def _gradients(row, arguments, cut=lambda result: result):
    function, point = of_differentiable(row, arguments)

    def total(*values):
        return sum(jnp.sum(jnp.where(jnp.isfinite(leaf), leaf, 0)) for leaf in floating(cut(function(*values))))

    return jax.jit(jax.grad(total, argnums=tuple(range(len(point)))))(*point)


@pytest.mark.parametrize(("row", "kind"), HARMS, ids=[f"{row.name}-{kind}" for row, kind in HARMS])
def test_finite_under_harm(row, kind):
    arguments = getattr(row, kind)(sample(row))
    for leaf in floating(row.output(jax.jit(row.call)(*arguments))):
        assert np.isfinite(leaf).all()
    for gradient in _gradients(row, arguments):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("row", PADDED, ids=[row.name for row in PADDED])
def test_padding_changes_nothing(row):
    arguments = sample(row)
    padded = row.pad(arguments)
    call = jax.jit(row.call)
    assert_trees_close(row.unpad(row.output(call(*padded))), row.output(call(*arguments)))
    plain, other = _gradients(row, arguments), _gradients(row, padded, row.unpad)
    for a, b in zip(plain, other, strict=True):
        b = np.asarray(b)[tuple(slice(0, n) for n in a.shape)]
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
        assert np.isfinite(b).all()
