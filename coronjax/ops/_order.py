"""The lesser and the greater of two numbers in one instruction each, where neither is NaN.

`jnp.minimum` and `jnp.maximum` must pass on a NaN and tell -0 from 0, which takes a processor four instructions more
for every vector: three times the time of a median, a fifth of that of the overlaps of pixels.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array


def in_order(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Two numbers, the lesser first."""
    return lesser(a, b), greater(a, b)


def lesser(a: ArrayLike, b: ArrayLike) -> Array:
    """The lesser of two numbers; the second where either is NaN, and of equal ones."""
    return jnp.where(jnp.less(a, b), a, b)


def greater(a: ArrayLike, b: ArrayLike) -> Array:
    """The greater of two numbers; the second where either is NaN, and of equal ones."""
    return jnp.where(jnp.greater(a, b), a, b)


def between(value: ArrayLike, low: float, high: float) -> Array:
    """A number cut off at two bounds."""
    return lesser(greater(value, low), high)
