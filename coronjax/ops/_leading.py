"""The leading eigenpairs of a large symmetric matrix, where all of them would take too long."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

DEPTH = 6  # products with the matrix between two restarts
RESTARTS = 40
SPARE = 16  # vectors beyond those wanted, at least: they carry what lies just below
SETTLED = 8  # machine epsilons of the largest eigenvalue, of the residual of a pair that has converged


def leading_pairs(matrix: Float[Array, "k k"], count: int) -> tuple[Float[Array, " m"], Float[Array, "k m"]]:
    r"""The `count` largest eigenvalues, descending, and their eigenvectors in columns.

    Block Lanczos with full orthogonalisation: the matrix is projected on the Krylov space of a block $X$,

    $$ \mathcal K = \mathrm{span}(X, GX, \ldots, G^q X), \qquad G \approx Q\, (Q^T G Q)\, Q^T, $$

    and what it finds is the next block, until every wanted pair fulfils $|G v - \lambda v| \le 8 \epsilon \lambda_1$.
    The time is that of some tens of products of the matrix with a block: quadratic in its size.

    Args:
        matrix: symmetric positive semi-definite, finite.
        count: how many; at most an eighth of the size is worth while.

    Returns:
        Values and vectors. Where it has not converged, the best there was.

    Source: Golub & Underwood 1977, in Mathematical Software III, 361; Saad 2011, Numerical Methods for Large
    Eigenvalue Problems, chapter 6.
    """
    size = len(matrix)
    width = min(size, count + max(SPARE, count // 2))
    start = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (size, width), matrix.dtype))[0]

    def restart(state: tuple) -> tuple:
        block, _, _, turn = state
        values, vectors, images = _project(matrix, block)
        off = jnp.linalg.norm(images - vectors * values, axis=0)
        limit = SETTLED * jnp.finfo(matrix.dtype).eps * values[0]
        return vectors, values, jnp.max(off[:count]) > limit, turn + 1

    def unsettled(state: tuple) -> Array:
        return state[2] & (state[3] < RESTARTS)

    first = (start, jnp.zeros(width, matrix.dtype), jnp.array(True), 0)
    vectors, values, _, _ = jax.lax.while_loop(unsettled, restart, first)
    return values[:count], vectors[:, :count]


def _project(matrix: Array, block: Array) -> tuple[Array, Array, Array]:
    """Best values and vectors in the Krylov space of a block, as many as it has columns, and the vectors' images."""
    basis, images = [block], [_product(matrix, block)]
    for _ in range(DEPTH - 1):
        if (len(basis) + 1) * block.shape[1] > len(matrix):
            break
        together, new = jnp.concatenate(basis, axis=1), images[-1]
        for _ in range(2):  # once leaves rounding, twice is enough
            new = new - _product(together, _product(together.T, new))
        # What is in the space already leaves a column of rounding; made orthogonal once more it does no harm.
        new = jnp.linalg.qr(new)[0]
        new = jnp.linalg.qr(new - _product(together, _product(together.T, new)))[0]
        basis.append(new)
        images.append(_product(matrix, new))
    together, mapped = jnp.concatenate(basis, axis=1), jnp.concatenate(images, axis=1)
    small = _product(together.T, mapped)
    values, turns = jnp.linalg.eigh((small + small.T) / 2)
    turns = turns[:, ::-1][:, : block.shape[1]]
    return values[::-1][: block.shape[1]], _product(together, turns), _product(mapped, turns)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
