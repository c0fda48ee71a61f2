"""Every public op stands in the registry, mutates nothing and returns a pytree of arrays."""

import jax
import numpy as np

import coronjax.ops

from .properties import every_op, sample
from .registry import ROWS


def test_every_op_has_a_row():
    functions = {n for n in coronjax.ops.__all__ if callable(getattr(coronjax.ops, n)) and n[0].islower()}
    assert functions - coronjax.ops.HOST_FUNCTIONS <= {row.name for row in ROWS}


@every_op
def test_names_a_public_op(row):
    assert callable(getattr(coronjax.ops, row.name))


@every_op
def test_arguments_are_left_alone(row):
    arguments = sample(row)
    before = jax.tree.map(np.array, arguments)
    row.call(*arguments)
    jax.tree.map(np.testing.assert_array_equal, arguments, before)


@every_op
def test_result_is_a_pytree_of_arrays(row):
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(row.call(*sample(row))))
