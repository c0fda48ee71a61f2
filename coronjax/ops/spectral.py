"""Functions of a symmetric matrix that keep some of its eigenvectors, with derivatives that stay finite."""

from __future__ import annotations

from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._graded import all_pairs, graded_pairs, rank_tolerance
from ._leading import leading_pairs
from ._refined import refined

Function = Literal["inverse", "projector"]

DENSE = 2000  # of a matrix that is larger, the leading eigenpairs are found faster alone


class Spectrum(eqx.Module):
    """A symmetric matrix and its eigen-decomposition, largest eigenvalue first.

    Derivatives run through `matrix` alone; the decomposition is what they are made of.
    """

    matrix: Float[Array, "k k"]
    values: Float[Array, " k"]  # descending
    vectors: Float[Array, "k k"]  # in columns, in the order of values; only the leading ones where not all were asked
    tolerance: Float[Array, ""]  # up to which eigenvalues cannot be told from zero


def decompose(matrix: Float[Array, "k k"], *, leading: int | None = None, graded: bool = False) -> Spectrum:
    """Decompose a symmetric positive semi-definite matrix once, for all functions of it.

    Args:
        matrix: symmetric, finite.
        leading: only so many of the leading eigenpairs are needed. Taken up where the matrix is larger than 2000 and
            this is less than an eighth of it; then nothing can be differentiated by the matrix.
        graded: the first row is nearly that of an eigenvector, and may be far larger than the others: those are then
            decomposed to a precision of their own, and the faint ones of them once more. Static.

    Returns:
        `Spectrum`.

    Example:
        >>> decompose(jnp.diag(jnp.array([1.0, 3.0]))).values.tolist()
        [3.0, 1.0]
    """
    fixed, count = jax.lax.stop_gradient(matrix), n_pairs(len(matrix), leading)
    if count < len(matrix):
        values, vectors = leading_pairs(fixed, count)
        return Spectrum(matrix, values, vectors, rank_tolerance(values))
    if not graded or len(matrix) == 1:
        return Spectrum(matrix, *all_pairs(fixed))
    values, vectors, tolerance = graded_pairs(fixed)
    return Spectrum(matrix, *refined(fixed, values, vectors, tolerance), tolerance)


def n_pairs(size: int, leading: int | None) -> int:
    """How many eigenpairs `decompose` finds of a matrix of a size."""
    return leading if leading is not None and size > DENSE and 8 * leading < size else size


def spectral_times(
    spectrum: Spectrum,
    kept: Bool[Array, " k"],
    right: Float[Array, "k t"],
    *,
    function: Function,
    tolerance: Float[Array, ""] | float,
) -> Float[Array, "k t"]:
    r"""Apply a function of a symmetric matrix, restricted to some of its eigenvectors, to the columns of another.

    $$ F(G)\,b = \sum_{i \in \mathrm{kept}} f(\lambda_i)\, v_i v_i^T b, \qquad
       f(\lambda) = 1/\lambda \text{ (inverse)} \text{ or } 1 \text{ (projector)} $$

    The derivative is that of Daletskii and Krein, $dF = V (\Phi \circ V^T dG\, V) V^T$, with the divided differences

    $$ \Phi_{ij} = \begin{cases}
         -1/(\lambda_i \lambda_j) \text{ (inverse)},\; 0 \text{ (projector)} & i, j \text{ kept} \\
         f(\lambda_i) / (\lambda_i - \lambda_j) & i \text{ kept}, j \text{ dropped} \\
         0 & i, j \text{ dropped} \end{cases} $$

    Only gaps between kept and dropped eigenvalues are divided by: repeated ones within either set do no harm. A gap
    below `tolerance` contributes nothing, since the derivative does not exist there. The rule is of first order: it
    must not be differentiated again.

    Args:
        spectrum: the decomposed matrix.
        kept: which eigenvectors take part. For the inverse their eigenvalues must be positive.
        right: what the function is applied to.
        function: "inverse" or "projector". Static.
        tolerance: gaps up to this are taken for zero, see `rank_tolerance`.

    Returns:
        F(G) b.

    Example:
        >>> spectrum = decompose(jnp.diag(jnp.array([4.0, 2.0])))
        >>> spectral_times(spectrum, jnp.array([True, False]), jnp.eye(2), function="inverse", tolerance=0.0).tolist()
        [[0.25, 0.0], [0.0, 0.0]]

    Source: Higham, Functions of Matrices (2008), theorem 3.11.
    """
    if spectrum.vectors.shape[1] < len(spectrum.matrix):
        return _leading_times(function, spectrum.matrix, right, spectrum.values, spectrum.vectors, kept)
    tolerance = jax.lax.stop_gradient(jnp.asarray(tolerance, spectrum.values.dtype))
    return _spectral_times(function, spectrum.matrix, right, spectrum.values, spectrum.vectors, kept, tolerance)


def eigenvalues(spectrum: Spectrum) -> Float[Array, " k"]:
    """The eigenvalues, descending, with their derivative: v dG v for each eigenvector v.

    Args:
        spectrum: the decomposed matrix.

    Returns:
        Eigenvalues. For repeated ones the derivative is that of one choice of their eigenvectors.

    Example:
        >>> eigenvalues(decompose(jnp.eye(2))).tolist()
        [1.0, 1.0]
    """
    return _eigenvalues(spectrum.matrix, spectrum.values, spectrum.vectors)


def eigenvectors(spectrum: Spectrum, tolerance: Float[Array, ""] | float) -> Float[Array, "k k"]:
    r"""The eigenvectors in columns, with their derivative.

    $$ dV = V (E \circ V^T dG\, V), \qquad E_{ij} = 1 / (\lambda_j - \lambda_i) $$

    Args:
        spectrum: the decomposed matrix.
        tolerance: gaps up to this are taken for zero; such pairs of eigenvectors do not mix.

    Returns:
        Eigenvectors. What depends on a set of them as a whole should use `spectral_times`, which does not divide by
        the gaps within it.

    Example:
        >>> eigenvectors(decompose(jnp.eye(2)), 0.0).shape
        (2, 2)
    """
    return _eigenvectors(spectrum.matrix, spectrum.values, spectrum.vectors, tolerance)


def _in_basis(matrix: Array, vectors: Array) -> Array:
    """V^T M V for the symmetric part of M, the only one the decomposition sees."""
    rotated = jnp.matmul(vectors.T, jnp.matmul(matrix, vectors, precision="highest"), precision="highest")
    return (rotated + rotated.T) / 2


def _values_of(function: Function, values: Array, kept: Array) -> Array:
    if function == "projector":
        return jnp.where(kept, jnp.ones_like(values), 0)
    return jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)


def _divided_differences(function: Function, values: Array, kept: Array, tolerance: Array) -> Array:
    f = _values_of(function, values, kept)
    gap = values[:, None] - values[None, :]
    mixed = (kept[:, None] != kept[None, :]) & (jnp.abs(gap) > tolerance)
    between = jnp.where(mixed, (f[:, None] - f[None, :]) / jnp.where(mixed, gap, 1), 0)
    within = -f[:, None] * f[None, :] if function == "inverse" else jnp.zeros_like(between)
    return jnp.where(kept[:, None] & kept[None, :], within, between)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spectral_times(
    function: Function, matrix: Array, right: Array, values: Array, vectors: Array, kept: Array, tolerance: Array
) -> Array:
    del matrix, tolerance  # enter the derivative only
    f = _values_of(function, values, kept)
    rotated = jnp.matmul(vectors.T, right, precision="highest")
    return jnp.matmul(vectors, f[:, None] * rotated, precision="highest")


@_spectral_times.defjvp
def _spectral_times_jvp(function: Function, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    matrix, right, values, vectors, kept, tolerance = primals
    d_matrix, d_right = tangents[:2]
    result = _spectral_times(function, *primals)
    core = _divided_differences(function, values, kept, tolerance) * _in_basis(d_matrix, vectors)
    turned = jnp.matmul(core, jnp.matmul(vectors.T, right, precision="highest"), precision="highest")
    by_right = _spectral_times(function, matrix, d_right, values, vectors, kept, tolerance)
    return result, jnp.matmul(vectors, turned, precision="highest") + by_right


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _leading_times(
    function: Function, matrix: Array, right: Array, values: Array, vectors: Array, kept: Array
) -> Array:
    return _spectral_times(function, matrix, right, values, vectors, kept, jnp.zeros_like(values[0]))


@partial(_leading_times.defjvp, symbolic_zeros=True)
def _leading_times_jvp(function: Function, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    if not isinstance(tangents[0], jax.custom_derivatives.SymbolicZero):
        raise NotImplementedError(
            "the leading eigenpairs alone do not give the derivative by the references: leave max_modes None"
        )
    result = _leading_times(function, *primals)
    if isinstance(tangents[1], jax.custom_derivatives.SymbolicZero):
        return result, jnp.zeros_like(result)
    return result, _leading_times(function, primals[0], tangents[1], *primals[2:])


@jax.custom_jvp
def _eigenvalues(matrix: Array, values: Array, vectors: Array) -> Array:
    del matrix, vectors
    return values


@_eigenvalues.defjvp
def _eigenvalues_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    _, values, vectors = primals
    return values, jnp.diagonal(_in_basis(tangents[0], vectors))


@jax.custom_jvp
def _eigenvectors(matrix: Array, values: Array, vectors: Array, tolerance: Array) -> Array:
    del matrix, values, tolerance
    return vectors


@_eigenvectors.defjvp
def _eigenvectors_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    _, values, vectors, tolerance = primals
    gap = values[None, :] - values[:, None]
    apart = jnp.abs(gap) > tolerance
    mixing = jnp.where(apart, 1 / jnp.where(apart, gap, 1), 0) * _in_basis(tangents[0], vectors)
    return vectors, jnp.matmul(vectors, mixing, precision="highest")
