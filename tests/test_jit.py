"""Changing a number never compiles again."""

from functools import partial

import jax
import pytest

from .properties import programs_made, sample
from .registry import ROWS

with_numbers = [row for row in ROWS if row.numbers]


def calls(compiled, row):
    """Of an op, with both values of its numbers."""
    for choice in (0, 1):
        numbers = {name: values[choice] for name, values in row.numbers.items()}
        yield partial(compiled, *sample(row, seed=choice), **numbers)


@pytest.mark.parametrize("row", with_numbers, ids=[row.name for row in with_numbers])
def test_numbers_are_traced_once(row):
    compiled = jax.jit(partial(row.call))  # a function of its own, of which no test has made a program
    assert programs_made(compiled, *calls(compiled, row)) == 1


def test_a_number_that_compiles_again_is_seen():
    row = next(row for row in ROWS if row.name == "modes")
    compiled = jax.jit(partial(row.call), static_argnames="truncate")
    assert programs_made(compiled, *calls(compiled, row)) == 2
