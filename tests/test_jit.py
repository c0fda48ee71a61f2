"""Compiled and uncompiled agree, and changing a number never compiles again."""

import jax
import pytest

from .properties import assert_trees_close, every_op, sample
from .registry import ROWS

with_numbers = [row for row in ROWS if row.numbers]


@every_op
def test_compiled_equals_eager(row):
    arguments = sample(row)
    assert_trees_close(jax.jit(row.call)(*arguments), row.call(*arguments))


@pytest.mark.parametrize("row", with_numbers, ids=[row.name for row in with_numbers])
def test_numbers_are_traced_once(row):
    traces = []

    def counted(*arguments, **numbers):
        traces.append(numbers)
        return row.call(*arguments, **numbers)

    compiled = jax.jit(counted)
    for choice in (0, 1):
        compiled(*sample(row, seed=choice), **{name: values[choice] for name, values in row.numbers.items()})
    assert len(traces) == 1
