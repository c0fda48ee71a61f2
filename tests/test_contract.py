"""Every public op stands in the registry, mutates nothing, returns a pytree of arrays, compiled or not the same."""

import jax
import pytest

import coronjax.ops

from .properties import assert_trees_close, called, every_op, sample
from .registry import ROWS


def test_every_op_has_a_row():
    functions = {n for n in coronjax.ops.__all__ if callable(getattr(coronjax.ops, n)) and n[0].islower()}
    assert functions - coronjax.ops.HOST_FUNCTIONS <= {row.name for row in ROWS}


@every_op
def test_names_a_public_op(row):
    assert callable(getattr(coronjax.ops, row.name))


@pytest.mark.slow  # operation by operation
@every_op
def test_without_compilation(row):
    arguments = sample(row)
    result = called(row.call, arguments)
    assert_trees_close(called(jax.jit(row.call), arguments), result)
