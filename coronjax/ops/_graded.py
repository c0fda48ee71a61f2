"""All eigenpairs of a symmetric matrix, and how small an eigenvalue may be before it cannot be told from zero."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STEPS = 30  # of the iteration for the leading eigenvector, which gains the ratio of the first two eigenvalues in each

_dot = partial(jnp.matmul, precision="highest")
Pairs = tuple[Float[Array, " k"], Float[Array, "k k"], Float[Array, ""]]  # values, vectors in columns, tolerance


def rank_tolerance(values: Float[Array, " k"]) -> Float[Array, ""]:
    """Below this an eigenvalue cannot be told from zero: four machine epsilons of the largest one.

    The eigenvalues of the null space of a computed Gram matrix stay below one, whatever its size; a bound that grows
    with the size, as is usual, would give up modes that still carry the star in float32.

    Args:
        values: eigenvalues, descending.

    Returns:
        The tolerance, in the unit of the eigenvalues.

    Example:
        >>> float(rank_tolerance(jnp.zeros(3)))
        0.0
    """
    return 4 * jnp.finfo(values.dtype).eps * jnp.maximum(values[0], 0)


def all_pairs(matrix: Float[Array, "k k"]) -> Pairs:
    """Eigenvalues, descending, their eigenvectors in columns, and the tolerance."""
    values, vectors = jnp.linalg.eigh(matrix)
    return values[::-1], vectors[:, ::-1], rank_tolerance(values[::-1])


def graded_pairs(matrix: Float[Array, "k k"]) -> Pairs:
    r"""As `all_pairs`, for a matrix whose first coordinate is nearly an eigenvector, of an eigenvalue far above others.

    $$ G = \begin{pmatrix} \gamma & c^T \\ c & C \end{pmatrix}, \qquad y = \frac{c + C y}{\gamma + c^T y} $$

    makes $(1, y)$ that eigenvector. What is orthogonal to it is decomposed by itself, its matrix made of $C$ and terms
    as small: its eigenvalues are wrong by a rounding error of their own largest one, not of the first. Where the
    iteration does not settle, there is no such eigenvector and all are found together.
    """
    first, column, block = matrix[0, 0], matrix[1:, 0], matrix[1:, 1:]

    def step(_: int, y: Array) -> Array:
        return (column + _dot(block, y)) / (first + _dot(column, y))

    y = jax.lax.fori_loop(0, STEPS, step, jnp.zeros_like(column))
    off, size = jnp.linalg.norm(step(0, y) - y), jnp.linalg.norm(y)
    settled = (off <= 8 * jnp.finfo(matrix.dtype).eps * size) & (size < 1)  # false where NaN
    return jax.lax.cond(settled, lambda: _apart(first, column, block, y), lambda: all_pairs(matrix))


def _apart(first: Array, column: Array, block: Array, y: Array) -> Pairs:
    """The eigenpairs where (1, y) is one of them."""
    length = jnp.sqrt(1 + jnp.sum(y**2))
    head = y / length
    rest = jnp.eye(len(y), dtype=y.dtype) - jnp.outer(y, y) / (length * (length + 1))  # with -head: orthonormal rows
    mixed = jnp.outer(head, _dot(column, rest))
    inside = _dot(_dot(rest, block), rest) - mixed - mixed.T + first * jnp.outer(head, head)
    values, vectors, tolerance = all_pairs((inside + inside.T) / 2)
    values = jnp.concatenate([(first + _dot(column, y))[None], values])
    leading = jnp.concatenate([jnp.ones(1, y.dtype), y]) / length
    others = jnp.concatenate([-_dot(head, vectors)[None], _dot(rest, vectors)])
    vectors = jnp.concatenate([leading[:, None], others], axis=1)
    order = jnp.argsort(-values)
    return values[order], vectors[:, order], tolerance
