"""The leading eigenpairs of large Gram matrices against LAPACK's decomposition of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import Klip
from coronjax.ops import _leading, klip, spectral
from coronjax.ops._leading import leading_pairs


@pytest.fixture(autouse=True)
def double() -> None:
    with jax.enable_x64(True):
        yield


def references(n: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """A bright common star, wavefront modes of falling strength, noise."""
    star = 1e3 * np.exp(-np.linspace(0, 6, side * side))
    modes = rng.normal(size=(60, side * side)) / np.arange(1, 61)[:, None]
    images = star * rng.normal(1, 0.01, (n, 1)) + rng.normal(size=(n, 60)) @ modes
    return (images + 0.1 * rng.normal(size=images.shape)).reshape(n, side, side)


def test_pairs_of_a_graded_gram_matrix() -> None:
    frames = references(500, 20, np.random.default_rng(1)).reshape(500, -1)
    gram = frames @ frames.T
    values, vectors = leading_pairs(jnp.asarray(gram), 30)
    expected, basis = (array[..., ::-1] for array in np.linalg.eigh(gram))
    np.testing.assert_allclose(values, expected[:30], rtol=1e-8)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(30), atol=1e-12)
    kept = basis[:, :29]  # the last one asked for has a neighbour as close as it likes
    outside = vectors[:, :29] - kept @ (kept.T @ vectors[:, :29])
    assert np.abs(outside).max() < 1e-7


@pytest.mark.parametrize("signals", [0, 15])
def test_pairs_in_the_noise(signals: int) -> None:
    """Eigenvalues without a gap between those wanted and the others, alone and under far larger ones."""
    rng = np.random.default_rng(3)
    bright = rng.normal(size=(600, signals)) @ rng.normal(size=(signals, 900)) * 1e3
    frames = bright + rng.normal(size=(600, 900))
    gram = frames @ frames.T
    values, vectors = leading_pairs(jnp.asarray(gram), 40)
    rounding = 20 * np.finfo(float).eps * float(values[0])
    np.testing.assert_allclose(values, np.linalg.eigvalsh(gram)[::-1][:40], rtol=1e-12, atol=rounding)
    left = np.linalg.norm(gram @ vectors - vectors * np.asarray(values), axis=0)
    assert left.max() < rounding


@pytest.mark.slow
def test_repeated_and_vanishing_eigenvalues() -> None:
    gram = np.zeros((300, 300))
    gram[:40, :40] = 4 * np.eye(40)
    values, vectors = leading_pairs(jnp.asarray(gram), 20)
    np.testing.assert_allclose(values, 4, rtol=1e-12)
    assert bool(jnp.all(jnp.isfinite(vectors)))
    assert np.abs(np.asarray(leading_pairs(jnp.zeros((300, 300)), 5)[0])).max() == 0
    grams = jnp.stack([jnp.asarray(gram), jnp.full_like(gram, jnp.nan)])
    both = jax.vmap(lambda one: leading_pairs(one, 20)[0])(grams)
    np.testing.assert_allclose(both[0], 4, rtol=1e-12)
    assert bool(jnp.all(jnp.isnan(both[1])))


@pytest.mark.slow
def test_pairs_that_are_not_found_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two turns find the star and some modes, not those in the noise."""
    stack = jnp.asarray(references(402, 24, np.random.default_rng(2)))
    monkeypatch.setattr(spectral, "DENSE", 100)
    monkeypatch.setattr(_leading, "TURNS", 2)
    found = klip(stack[:2], stack[2:], options=Klip(truncate=40, max_modes=40), error=False)
    kept = int(found.n_modes[0])
    assert 0 < kept < 40
    eigenvalues = found.eigenvalues[0]
    assert bool(jnp.all(jnp.isfinite(eigenvalues[:kept])) & jnp.all(jnp.isnan(eigenvalues[kept:])))
    assert jnp.isnan(found.gap[0])
    whole = klip(stack[:2], stack[2:], options=Klip(truncate=kept), error=False)
    np.testing.assert_allclose(found.residual, whole.residual, atol=1e-6 * float(jnp.std(whole.residual)))


def test_error_where_pairs_are_not_found_from_the_pixels_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the modes that were found leave, not nothing."""
    rng = np.random.default_rng(5)
    stack = jnp.asarray(references(452, 18, rng))
    fit = jnp.asarray(rng.random((18, 18)) < 0.9)
    monkeypatch.setattr(spectral, "DENSE", 100)
    monkeypatch.setattr(_leading, "TURNS", 2)
    found = klip(stack[:2], stack[2:], options=Klip(truncate=30, max_modes=30), fit=fit)
    kept = int(found.n_modes[0])
    assert 0 < kept < 30
    whole = klip(stack[:2], stack[2:], options=Klip(truncate=kept), fit=fit)
    np.testing.assert_allclose(found.error, whole.error, rtol=1e-3)


@pytest.mark.slow
def test_klip_with_leading_modes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    stack = jnp.asarray(references(402, 24, rng))
    science, library = stack[:2], stack[2:]
    whole = klip(science, library, options=Klip(truncate=12))
    monkeypatch.setattr(spectral, "DENSE", 100)
    leading = klip(science, library, options=Klip(truncate=12, max_modes=20))
    scatter = float(jnp.std(whole.residual))
    assert leading.eigenvalues.shape == (1, 21)
    assert int(leading.n_modes[0]) == 12
    np.testing.assert_allclose(leading.residual, whole.residual, atol=1e-7 * scatter)
    np.testing.assert_allclose(leading.error, whole.error, rtol=1e-7)
    np.testing.assert_allclose(leading.gap, whole.gap, rtol=1e-6)
    assert int(klip(science, library, options=Klip(truncate=50, max_modes=20)).n_modes[0]) == 20

    def left(science: jax.Array, library: jax.Array) -> jax.Array:
        return jnp.sum(klip(science, library, options=Klip(truncate=12, max_modes=20), error=False).residual ** 2)

    slope = jax.grad(left)(science, library)
    nudge = jnp.asarray(rng.normal(size=science.shape))
    steps = (left(science + 1e-3 * nudge, library) - left(science - 1e-3 * nudge, library)) / 2e-3
    np.testing.assert_allclose(jnp.vdot(slope, nudge), steps, rtol=1e-6)
    with pytest.raises(NotImplementedError, match="max_modes"):
        jax.grad(left, argnums=1)(science, library)
