"""Functions of a symmetric matrix: values against numpy, derivatives against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax.ops.spectral import decompose, eigenvalues, eigenvectors, rank_tolerance, spectral_times

SPECTRA = {
    "generic": [9.0, 5.0, 2.0, 1.0, 0.3],
    "repeated among the kept": [5.0, 5.0, 5.0, 1.0, 0.3],
    "repeated among the dropped": [9.0, 5.0, 4.0, 1.0, 1.0],
    "nearly repeated": [9.0, 9.0 + 1e-13, 4.0, 1.0, 1.0 + 1e-13],
    "zeros among the dropped": [9.0, 5.0, 2.0, 0.0, 0.0],
}


def _matrix(values, seed=0):
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return jnp.asarray((basis * np.asarray(values)) @ basis.T)


def _apply(matrix, right, n_kept, function):
    spectrum = decompose(matrix)
    kept = jnp.arange(len(matrix)) < n_kept
    return spectral_times(spectrum, kept, right, function=function, tolerance=rank_tolerance(spectrum.values))


@pytest.mark.parametrize("function", ["inverse", "projector"])
@pytest.mark.parametrize("n_kept", [0, 1, 3, 5])
def test_values(function, n_kept):
    matrix, right = _matrix(SPECTRA["generic"]), np.random.default_rng(1).normal(size=(5, 2))
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = values[::-1][:n_kept], vectors[:, ::-1][:, :n_kept]
    scale = 1 / values if function == "inverse" else np.ones(n_kept)
    expected = (vectors * scale) @ vectors.T @ right
    np.testing.assert_allclose(_apply(matrix, right, n_kept, function), expected, atol=1e-13)


@pytest.mark.parametrize("function", ["inverse", "projector"])
@pytest.mark.parametrize("name", SPECTRA)
def test_derivative(name, function):
    right = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)))
    check_grads(
        lambda m, r: _apply(m, r, 3, function), (_matrix(SPECTRA[name]), right), 1, ("fwd", "rev"), 1e-6, 1e-6, 1e-5
    )


@pytest.mark.parametrize("function", ["inverse", "projector"])
def test_derivative_with_all_kept(function):
    right = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)))
    check_grads(
        lambda m: _apply(m, right, 5, function), (_matrix(SPECTRA["generic"]),), 1, ("fwd", "rev"), 1e-5, 1e-5, 1e-5
    )


@pytest.mark.parametrize("function", ["inverse", "projector"])
@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
def test_derivative_stays_finite_where_it_does_not_exist(function, values):
    def total(matrix):
        spectrum = decompose(matrix)
        tolerance = rank_tolerance(spectrum.values)
        kept = (jnp.arange(3) < 2) & (spectrum.values > tolerance)
        return jnp.sum(spectral_times(spectrum, kept, jnp.ones((3, 1)), function=function, tolerance=tolerance) ** 2)

    for matrix in (_matrix(values), jnp.diag(jnp.asarray(values))):
        assert np.isfinite(jax.grad(total)(matrix)).all()
        assert np.isfinite(jax.jacfwd(total)(matrix)).all()


def test_eigenvalues_and_eigenvectors():
    matrix = _matrix(SPECTRA["generic"])
    check_grads(lambda m: eigenvalues(decompose(m)), (matrix,), 1, ("fwd", "rev"), 1e-7, 1e-7, 1e-5)
    check_grads(lambda m: eigenvectors(decompose(m), 0.0) ** 2, (matrix,), 1, ("fwd", "rev"), 1e-6, 1e-6, 1e-5)
    assert np.isfinite(jax.jacrev(lambda m: eigenvectors(decompose(m), 1e-14))(jnp.eye(3))).all()


def test_under_vmap_jit_and_scan():
    matrices = jnp.stack([_matrix(SPECTRA["generic"], seed) for seed in range(3)])
    right = jnp.ones((5, 2))
    gradient = jax.grad(lambda m: jnp.sum(_apply(m, right, 2, "inverse") ** 2))
    one_by_one = jnp.stack([gradient(m) for m in matrices])
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(matrices), one_by_one, atol=1e-12)
    scanned = jax.lax.scan(lambda carry, m: (carry, gradient(m)), None, matrices)[1]
    np.testing.assert_allclose(scanned, one_by_one, atol=1e-12)
