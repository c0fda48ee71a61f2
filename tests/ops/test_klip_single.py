"""KLIP in float32: as good as in float64 as far as the frames themselves can say, with the star far above the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.harness import speckles
from coronjax.ops._graded import all_pairs, graded_pairs
from coronjax.ops._refined import refined
from coronjax.options import Klip
from tests.ops.frames import klip, klip_sweep, run_klip, scene


def _single(*frames):
    return [frame.astype(jnp.float32) for frame in frames]


def _bright(n_references=30, n_science=4, size=60, speckles=0.02):
    """A halo a thousand times the noise, of which some hundredths change from frame to frame."""
    rng = np.random.default_rng(3)
    places = np.mgrid[:size, :size] - (size - 1) / 2
    halo = 1000 * np.exp(-np.hypot(*places) / 6)
    waves = np.cos(np.tensordot(rng.uniform(-1, 1, (12, 2)), places, 1) + rng.uniform(0, 6, (12, 1, 1)))
    n = n_references + n_science
    pattern = np.tensordot(speckles * rng.normal(size=(n, 12)), waves, 1)
    frames = (rng.uniform(0.8, 1.2, (n, 1, 1)) + pattern) * halo + rng.normal(size=(n, size, size))
    frames = jnp.asarray(frames.astype(np.float32).astype(float))
    return frames[:n_science], frames[n_science:]


@pytest.mark.parametrize("truncate", [1, 5, 13, 20, 30])
def test_a_ten_thousandth_of_the_residual(truncate):
    science, references = _bright()
    exact = run_klip(science, references, truncate)
    found = run_klip(*_single(science, references), truncate)
    assert found.residual.dtype == found.error.dtype == jnp.float32
    scatter = np.asarray(exact.residual).std()
    assert np.std(np.asarray(found.residual) - exact.residual) < 1e-4 * scatter
    np.testing.assert_allclose(found.error, exact.error, atol=5e-4 * scatter)


def test_weights_are_those_of_the_references_as_given():
    science, references = _bright()
    exact, found = run_klip(science, references, 13), run_klip(*_single(science, references), 13)
    largest = np.abs(exact.weights).max()
    np.testing.assert_allclose(found.weights, exact.weights, atol=1e-4 * largest)
    np.testing.assert_allclose(found.eigenvalues[0], exact.eigenvalues[0], rtol=1e-4)


@pytest.mark.parametrize("truncate", [pytest.param(10, marks=pytest.mark.slow), 50])
def test_among_noise_modes_of_nearly_equal_eigenvalues(truncate):
    """The data of the benchmark: forty speckles of 5 % of the star, so that the fiftieth mode is one of noise."""
    images = jnp.asarray(speckles(np.random.default_rng(1), 104, (120, 120)).astype(float))
    science, references = images[:4], images[4:]
    exact, found = run_klip(science, references, truncate), run_klip(*_single(science, references), truncate)
    assert np.std(np.asarray(found.residual) - exact.residual) < 5e-4 * np.asarray(exact.residual).std()
    assert np.std(np.asarray(found.error) - exact.error) < 1e-3 * np.asarray(exact.error).mean()


@pytest.mark.parametrize("combine", [True, False])
def test_every_number_of_modes(combine):
    images = jnp.asarray(speckles(np.random.default_rng(1), 64, (80, 80)).astype(float))
    science, references = images[:4], images[4:]
    numbers = jnp.array([0, 60, 1, 45, 20])
    exact = np.asarray(klip_sweep(science, references, numbers, combine=combine))
    found = np.asarray(klip_sweep(*_single(science, references), numbers, combine=combine))
    for one, other in zip(found, exact, strict=True):
        assert np.std(one - other) < 5e-4 * other.std()


@pytest.mark.parametrize("spare", [0, 7])
def test_padding_and_constant_references_have_no_weight(spare):
    science, references = _bright()
    valid = np.arange(len(references)) != spare
    references = references.at[spare].set(jnp.nan).at[3].set(5.0)
    options = Klip(truncate=10)
    found = klip(*_single(science, references), options=options, valid_references=jnp.asarray(valid))
    exact = klip(science, references, options=options, valid_references=jnp.asarray(valid))
    assert not np.any(np.asarray(found.weights)[..., [spare, 3]])
    assert np.std(np.asarray(found.residual) - exact.residual) < 1e-3 * np.asarray(exact.residual).std()


@pytest.mark.slow
def test_zones_and_fit():
    science, references = _bright()
    left = np.arange(60) < 30
    zones = jnp.asarray(np.stack([np.broadcast_to(left, (60, 60)), np.broadcast_to(~left, (60, 60))]))
    fit = jnp.asarray(np.arange(60) % 5 > 0)[:, None] & jnp.ones((60, 60), bool)
    options = Klip(truncate=8)
    exact = klip(science, references, options=options, zones=zones, fit=fit)
    found = klip(*_single(science, references), options=options, zones=zones, fit=fit)
    assert np.std(np.asarray(found.residual) - exact.residual) < 1e-3 * np.asarray(exact.residual).std()


def test_frames_without_anything():
    science, references = _single(*_bright())
    residual = run_klip(science, 0 * references, 3).residual
    np.testing.assert_allclose(residual, science - science.mean((1, 2), keepdims=True), atol=2e-3)
    gradient = jax.grad(lambda r: jnp.sum(run_klip(science, r, 3).residual))(0 * references)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_derivative_is_that_of_double_precision():
    science, references = scene(8, 2, (20, 20))
    rng = np.random.default_rng(0)
    toward = jnp.asarray(rng.normal(size=references.shape)), jnp.asarray(rng.normal(size=science.shape))

    def slope(science, references, by_references, by_science):
        def residual(s, r):
            return run_klip(s, r, 3).residual

        return jax.jvp(residual, (science, references), (by_science, by_references))[1]

    exact = slope(science, references, *toward)
    found = slope(*_single(science, references), *_single(*toward))
    np.testing.assert_allclose(found, exact, atol=2e-3 * np.asarray(exact).std())
    back = jax.grad(lambda r: jnp.vdot(run_klip(science, r, 3).residual, toward[1]))(references)
    single = jax.grad(lambda r: jnp.vdot(run_klip(*_single(science), r, 3).residual, *_single(toward[1])))
    np.testing.assert_allclose(single(*_single(references)), back, atol=5e-3 * np.asarray(back).std())


def _with_leader(leader, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.normal(size=(12, 40))
    rows = np.concatenate([np.sqrt(leader) * rng.normal(size=(1, 40)), small])
    return rows @ rows.T


def test_small_eigenvalues_beside_a_large_one():
    matrix = _with_leader(1e7).astype(np.float32)
    exact = np.linalg.eigvalsh(matrix.astype(float))[::-1]
    values, vectors, tolerance = graded_pairs(jnp.asarray(matrix))
    np.testing.assert_allclose(values, exact, rtol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(13), atol=5e-6)
    assert tolerance < 1e-4 < all_pairs(jnp.asarray(matrix))[2]


@pytest.mark.parametrize("leader", [0.0, 1e-3, 1.0])
def test_no_large_eigenvalue(leader):
    matrix = _with_leader(leader)
    values, vectors, _ = graded_pairs(jnp.asarray(matrix))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-10)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-10)


def _projector(vectors, kept):
    leading = np.asarray(vectors, float)[:, :kept]
    return leading @ leading.T


def _noisy(rank, seed=1):
    """Strong modes down to a ten thousandth of the first, then a crowd of equal ones but for some per cent."""
    rng = np.random.default_rng(seed)
    strengths = np.concatenate([np.logspace(0, -4, 20), 1e-4 * rng.uniform(0.93, 1.07, 20)])
    strengths[rank:] = 0
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    matrix = ((basis * strengths) @ basis.T).astype(np.float32)
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rank", [40, pytest.param(30, marks=pytest.mark.slow)])
def test_refined_pairs_span_what_those_of_double_precision_do(rank, compiled):
    matrix = _noisy(rank)
    exact = np.linalg.eigh(matrix.astype(float))[1][:, ::-1]
    plain = all_pairs(jnp.asarray(matrix))
    values, vectors = (jax.jit(refined) if compiled else refined)(jnp.asarray(matrix), *plain)
    assert values.dtype == vectors.dtype == jnp.float32
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(40), atol=1e-6)
    for kept in (5, 12, 20, 27, 30):
        better = np.linalg.norm(_projector(vectors, kept) - _projector(exact, kept))
        assert better < max(1e-6, 0.05 * np.linalg.norm(_projector(plain[1], kept) - _projector(exact, kept)))


@pytest.mark.parametrize("matrix", [np.zeros((5, 5)), np.eye(5), np.diag([1.0, 0, 0, 0, 0])])
def test_refined_pairs_of_plain_matrices(matrix):
    given = jnp.asarray(matrix, jnp.float32)
    values, vectors = refined(given, *all_pairs(given))
    np.testing.assert_allclose(values, np.sort(np.diag(matrix))[::-1], atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-6)


@pytest.mark.parametrize("size", [20, 63])
@pytest.mark.parametrize("rank", [3, 10])
def test_refined_pairs_stay_orthogonal_where_most_are_null(size, rank):
    """Rounding in the null space is as large off the diagonal as on it."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        frames = rng.normal(size=(size, rank)) @ (np.geomspace(1, 1e-2, rank)[:, None] * rng.normal(size=(rank, 500)))
        matrix = jnp.asarray((frames @ frames.T).astype(np.float32))
        values, vectors = jax.jit(refined)(matrix, *all_pairs(matrix))
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(size), atol=5e-6)
        np.testing.assert_allclose(values[:rank], np.linalg.eigvalsh(matrix.astype(float))[::-1][:rank], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["repeated", "small zones"])
def test_references_without_full_rank(case):
    """Three of each reference; or zones of fewer pixels than there are references."""
    science, references = _bright(20, size=40)
    references = jnp.concatenate([references, 1.5 * references, references])
    zones = None
    if case == "small zones":
        zones = jnp.zeros((2, 40, 40), bool).at[0, 10:14, 10:16].set(True).at[1, 20:26, 20:26].set(True)
    exact, found = (
        klip(*frames, options=Klip(truncate=12), zones=zones)
        for frames in ((science, references), _single(science, references))
    )
    inside = np.isfinite(exact.residual)
    scatter = np.asarray(exact.residual)[inside].std()
    assert np.std((np.asarray(found.residual, float) - exact.residual)[inside]) < 1e-3 * scatter
