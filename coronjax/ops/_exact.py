"""Sums whose rounding errors are known."""

from __future__ import annotations

from jaxtyping import Array


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The sum and its rounding error.

    Source: Knuth, The Art of Computer Programming, volume 2, section 4.2.2.
    """
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)
