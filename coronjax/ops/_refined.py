"""Eigenpairs made better than the solver's, in the precision of the matrix."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._exact import two_sum
from ._zones import times


def refined(
    matrix: Float[Array, "k k"], values: Float[Array, " k"], vectors: Float[Array, "k k"], floor: Float[Array, ""]
) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
    r"""Eigenpairs from approximate ones, the small eigenvalues' as good as the large ones'.

    The solver's errors are some roundings of the largest eigenvalue, by which faint modes, of nearly equal eigenvalues,
    mix. What it left, computed as if in twice the precision,

    $$ W = G V - V \Lambda, \qquad V^{-1} G V \approx \Lambda + V^T W, $$

    turns well separated vectors by $(V^T W)_{ij} / (\lambda_j - \lambda_i)$. The faint ones, below the geometric mean
    of the largest and the smallest eigenvalue, are found again from their own part of $\Lambda + V^T W$.

    Args:
        matrix: symmetric, finite.
        values: its eigenvalues, descending, nearly.
        vectors: its eigenvectors, in columns, nearly.
        floor: up to which eigenvalues cannot be told from zero, four machine epsilons of the largest the solver saw.

    Returns:
        Values, descending, and vectors.

    Source: Ogita & Aishima (2018), Japan J. Indust. Appl. Math. 35, 1007, for the first step.
    """
    off = times(vectors.T, _left(matrix, values, vectors))
    largest = floor / (4 * jnp.finfo(matrix.dtype).eps)
    faint = values < jnp.sqrt(largest * jnp.maximum(values[-1], floor))
    gap = values[None, :] - values[:, None]
    apart = ~(faint[:, None] & faint[None, :]) & (jnp.abs(gap) > 8 * jnp.abs(off))
    vectors = vectors + times(vectors, jnp.where(apart, off / jnp.where(apart, gap, 1), 0))
    better = values + jnp.diagonal(off)
    found, turns = _faint_pairs(better, off, faint)
    values = jnp.where(faint, found, better)
    vectors = times(vectors, turns)
    vectors = vectors + times(vectors, jnp.eye(len(values), dtype=values.dtype) - times(vectors.T, vectors)) / 2
    order = jnp.argsort(-values)
    return values[order], vectors[:, order]


def _faint_pairs(values: Array, off: Array, faint: Array) -> tuple[Array, Array]:
    """Eigenpairs of the faint part, at the places of its coordinates; elsewhere the coordinates themselves."""
    identity = jnp.eye(len(values), dtype=bool)
    part = jnp.where(faint[:, None] & faint[None, :], jnp.where(identity, values, (off + off.T) / 2), 0)
    # No eigenvalue of the faint part lies below what its rows sum to (Gershgorin): the others are put far below.
    below = -jnp.maximum(jnp.max(jnp.sum(jnp.abs(part), axis=1)), jnp.finfo(values.dtype).tiny)
    part = jnp.where(identity & ~faint, 2 * below, part)
    found, turns = jnp.linalg.eigh(part)
    # The others come last, the faint ones follow upon them.
    place = jnp.clip(jnp.cumsum(faint) - 1, 0)
    found, turns = found[::-1][place], turns[:, ::-1][:, place]
    return found, jnp.where(faint[None, :], turns, identity.astype(values.dtype))


def _left(matrix: Array, values: Array, vectors: Array) -> Array:
    """G V - V Lambda, as if in nearly twice the precision.

    Each factor is a sum of two coarse ones, whose products are exact, and a small remainder.

    Source: Ozaki, Ogita, Oishi & Rump (2012), Numerical Algorithms 59, 95.
    """
    bits = (jnp.finfo(matrix.dtype).nmant + 1 - math.ceil(math.log2(len(values)))) // 2
    first, second, rest = _slices(matrix, 1, bits)
    tops, middles, ends = _slices(vectors, 0, bits)
    a, b, c = (piece[None, :] for piece in _slices(values[:, None], 1, bits))
    small = jnp.concatenate([first, second, rest], axis=1)
    total = jnp.zeros_like(vectors)
    error = times(small, jnp.concatenate([ends, middles + ends, vectors]))
    error = error - (tops * c[..., 0] + middles * (b + c)[..., 0] + ends * values)
    exact = [times(first, tops), -tops * a[..., 0], times(first, middles), times(second, tops)]
    for piece in (*exact, -tops * b[..., 0], -middles * a[..., 0]):
        total, lost = two_sum(total, piece)
        error = error + lost
    return total + error


def _slices(array: Array, axis: int, bits: int) -> tuple[Array, Array, Array]:
    """The array as a sum of two with so many bits, counted from the largest value along an axis, and what is left."""
    top = jnp.max(jnp.abs(array), axis=axis, keepdims=True)
    # Without a mantissa it is a power of two, so that only the rounding rounds.
    unit = jax.lax.reduce_precision(top, jnp.finfo(array.dtype).nexp, 0) * 2.0 ** (1 - bits)
    first = _rounded(array, unit)
    second = _rounded(array - first, unit * 2.0**-bits)
    return first, second, array - first - second


def _rounded(array: Array, unit: Array) -> Array:
    there = unit > 0
    return jnp.where(there, jnp.round(array / jnp.where(there, unit, 1)) * unit, 0)
