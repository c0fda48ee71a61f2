"""The leading eigenpairs of a large symmetric matrix, where all of them would take too long."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

DEGREE = 24  # of the filter, at most
TURNS = 100  # of filtering and solving, at most: four to ten are usual
SPARE = 16  # vectors beyond those wanted, at least: they bound what is filtered out
SETTLED = 8  # machine epsilons of the largest eigenvalue, of the residual of a pair that has converged; or
SETTLED_OF_ROOT = 0.5  # so many times the root of the size, the rounding of a product


class _Block(NamedTuple):
    """The best pairs in a space, values descending."""

    vectors: Float[Array, "k m"]
    images: Float[Array, "k m"]  # of the vectors
    values: Float[Array, " m"]
    settled: Bool[Array, " m"]  # this one, and all before it


def leading_pairs(matrix: Float[Array, "k k"], count: int) -> tuple[Float[Array, " m"], Float[Array, "k m"]]:
    r"""The `count` largest eigenvalues, descending, and their eigenvectors in columns.

    Subspace iteration with a polynomial that is small on the eigenvalues not wanted, those up to the last one in the
    block, $b$, and grows fast above:

    $$ X \leftarrow T_m(2 G / b - 1)\, X, $$

    with the Chebyshev polynomial of degree $m$, as high as leaves the faint vectors of the block some digits beside the
    bright ones. Then the pairs in the space of the block are found, until each fulfils
    $|G v - \lambda v| \le \epsilon \lambda_1 \max(8, \sqrt k / 2)$. Those that do are left alone and kept out of the
    others, so that fainter ones can be filtered as strongly. The time is that of some tens of products of the matrix
    with a block: quadratic in its size.

    Args:
        matrix: symmetric positive semi-definite, finite.
        count: how many; at most an eighth of the size is worth while.

    Returns:
        Values and vectors; the values of pairs that have not converged are NaN, so that none of those is kept.

    Source: Zhou, Saad, Tiago & Chelikowsky 2006, Journal of Computational Physics 219, 172.
    """
    size = len(matrix)
    width = min(size, count + max(SPARE, count // 2))
    start = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (size, width), matrix.dtype))[0]

    def unsettled(state: tuple[_Block, Array]) -> Array:
        block, turn = state
        return ~block.settled[count - 1] & (turn < TURNS) & (block.values[0] > 0)  # false where NaN

    def improve(state: tuple[_Block, Array]) -> tuple[_Block, Array]:
        return _solve(matrix, jnp.linalg.qr(_filtered(matrix, state[0]))[0]), state[1] + 1

    found, _ = jax.lax.while_loop(unsettled, improve, (_solve(matrix, start), jnp.zeros((), jnp.int32)))
    return jnp.where(found.settled, found.values, jnp.nan)[:count], found.vectors[:, :count]


def _solve(matrix: Array, basis: Array) -> _Block:
    """The pairs of the matrix in the space of orthonormal columns (Rayleigh, Ritz)."""
    images = _product(matrix, basis)
    small = _product(basis.T, images)
    values, turns = jnp.linalg.eigh((small + small.T) / 2)
    values, turns = values[::-1], turns[:, ::-1]
    vectors, images = _product(basis, turns), _product(images, turns)
    off = jnp.linalg.norm(images - vectors * values, axis=0)
    rounding = max(SETTLED, SETTLED_OF_ROOT * len(matrix) ** 0.5) * jnp.finfo(matrix.dtype).eps
    return _Block(vectors, images, values, jnp.cumprod(off <= rounding * values[0]).astype(bool))


def _filtered(matrix: Array, block: _Block) -> Array:
    """The columns of a block, those not settled filtered, of length one and free of the settled ones."""
    eps = jnp.finfo(matrix.dtype).eps
    # A little below the last one, which may have many equals: they have to grow over what lies farther down.
    bound = jnp.maximum(0.98 * block.values[-1], eps * block.values[0])
    kept, free = jnp.where(block.settled, block.vectors, 0), jnp.where(block.settled, 0, block.vectors)

    def mapped(vectors: Array, images: Array) -> Array:
        new = 2 / bound * images - vectors
        return new - _product(kept, _product(kept.T, new))

    def step(_: Int[Array, ""], pair: tuple[Array, Array]) -> tuple[Array, Array]:
        before, now = pair
        return now, 2 * mapped(now, _product(matrix, now)) - before

    largest = jnp.max(jnp.where(block.settled, 0, block.values))
    first = mapped(free, jnp.where(block.settled, 0, block.images))
    _, last = jax.lax.fori_loop(1, _degree(largest / bound), step, (free, first))
    length = jnp.linalg.norm(last, axis=0)
    return jnp.where(block.settled, block.vectors, last / jnp.where(length > 0, length, 1))


def _degree(ratio: Array) -> Int[Array, ""]:
    """The degree at which the largest value has grown as far over those filtered out as leaves the others digits."""
    growth = jnp.finfo(ratio.dtype).eps ** -0.625
    highest = jnp.arccosh(2 * growth) / jnp.arccosh(jnp.maximum(2 * ratio - 1, 1 + 1e-3))
    return jnp.clip(highest, 1, DEGREE).astype(jnp.int32)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
