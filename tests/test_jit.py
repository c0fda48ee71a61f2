"""Changing a number never compiles again."""

import jax
import pytest

from .properties import sample
from .registry import ROWS

with_numbers = [row for row in ROWS if row.numbers]


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
