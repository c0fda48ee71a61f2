"""KLIP: against the published formula in plain numpy, its invariances, masks and derivatives."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from coronjax.ops.gram import init_gram, merge, update
from coronjax.options import Klip
from tests.ops.frames import by_the_book, gram, klip, klip_weights, modes, residual_error, run_klip, scene, subtract


@pytest.mark.parametrize("truncate", [0, 1, 3, 5, 8, 50])
def test_published_formula(truncate):
    science, references = scene()
    residual, error = by_the_book(science, references, truncate)
    found = run_klip(science, references, truncate)
    np.testing.assert_allclose(found.residual, residual, rtol=0, atol=1e-10 * residual.std())
    np.testing.assert_allclose(found.error, error, rtol=0, atol=1e-10)
    assert found.n_modes.tolist() == [min(truncate, 8)]


def test_gap_is_between_kept_and_dropped():
    science, references = scene()
    found = run_klip(science, references, 3)
    values = found.eigenvalues[0]
    assert found.gap[0] == pytest.approx((values[2] - values[3]) / values[2])
    assert run_klip(science, references, 0).gap[0] == 1
    assert run_klip(science, references, 8).gap[0] == 1


@pytest.mark.parametrize("truncate", [3, 8])
def test_steps_make_the_whole(truncate):
    science, references = scene()
    zones = jnp.zeros((2, 15, 17), bool).at[0, :7].set(True).at[1, 7:14].set(True)
    for masks in ({}, {"zones": zones[:1]}, {"zones": zones}):
        found = run_klip(science, references, truncate, **masks)
        products = gram(references, science, **masks)
        weights = klip_weights(products, truncate=truncate)
        residual = subtract(science, references, weights.weights, **masks)
        np.testing.assert_allclose(found.residual, residual, atol=1e-9)
        error = residual_error(references, products, truncate=truncate, **masks)
        np.testing.assert_allclose(found.error, error, atol=1e-12)
        np.testing.assert_allclose(found.eigenvalues, weights.eigenvalues, rtol=1e-9)


def test_zones_are_worked_on_alone():
    science, references = scene()
    zones = jnp.zeros((2, 15, 17), bool).at[0, :7].set(True).at[1, 7:14].set(True)
    found = run_klip(science, references, 4, zones=zones)
    for rows in (slice(0, 7), slice(7, 14)):
        alone = run_klip(science[:, rows], references[:, rows], 4)
        np.testing.assert_allclose(found.residual[:, rows], alone.residual, atol=1e-10)
        np.testing.assert_allclose(found.error[rows], alone.error, atol=1e-10)
    assert np.isnan(found.residual[:, 14]).all()
    assert np.isnan(found.error[14]).all()


def test_pixels_outside_the_zone_do_not_matter():
    science, references = scene()
    zones = jnp.ones((1, 15, 17), bool).at[0, 4, 5].set(False).at[0, :, 0].set(False)
    spoiled = [jnp.where(zones[0], frames, jnp.nan) for frames in (science, references)]

    def total(science, references):
        found = run_klip(science, references, 3, zones=zones)
        return jnp.nansum(found.residual**2) + jnp.nansum(found.error)

    expected, found = (run_klip(*frames, 3, zones=zones) for frames in ((science, references), spoiled))
    np.testing.assert_array_equal(found.residual, expected.residual)
    gradients = jax.grad(total, (0, 1))(*spoiled)
    for gradient, clean in zip(gradients, jax.grad(total, (0, 1))(science, references), strict=True):
        np.testing.assert_array_equal(gradient, clean)
        assert (gradient[:, ~np.asarray(zones[0])] == 0).all()


@pytest.mark.slow
def test_padding_changes_nothing():
    science, references = scene()
    pad = jnp.full((2, 15, 17), jnp.nan)
    padded = jnp.concatenate([science, pad]), jnp.concatenate([references[:4], pad, references[4:]])
    masks = {"valid_science": jnp.arange(5) < 3, "valid_references": (jnp.arange(10) < 4) | (jnp.arange(10) >= 6)}

    def total(science, references, **masks):
        found = run_klip(science, references, 4, **masks)
        return jnp.nansum(found.residual**2) + jnp.sum(found.error)

    expected, found = run_klip(science, references, 4), run_klip(*padded, 4, **masks)
    np.testing.assert_allclose(found.residual[:3], expected.residual, atol=1e-10)
    np.testing.assert_allclose(found.error, expected.error, atol=1e-10)
    assert np.isnan(found.residual[3:]).all()
    gradients, clean = jax.grad(total, (0, 1))(*padded, **masks), jax.grad(total, (0, 1))(science, references)
    np.testing.assert_allclose(gradients[0][:3], clean[0], atol=1e-8)
    np.testing.assert_allclose(jnp.delete(gradients[1], jnp.array([4, 5]), axis=0), clean[1], atol=1e-8)
    assert (gradients[0][3:] == 0).all()
    assert (gradients[1][4:6] == 0).all()


def test_weights_of_unusable_references_are_zero():
    science, references = scene()
    eligible = jnp.ones((3, 8), bool).at[0, 2].set(False).at[1, :4].set(False)
    valid = jnp.ones(8, bool).at[7].set(False)
    products = gram(references.at[7].set(jnp.nan).at[6].set(2.0), science, valid_references=valid)
    found = klip_weights(products, truncate=3, eligible=eligible)
    assert found.weights.shape == (1, 3, 8)
    assert found.n_modes.tolist() == [[3, 2, 3]]
    unused = np.asarray(~eligible).copy()
    unused[:, 6:] = True
    assert (np.asarray(found.weights[0])[unused] == 0).all()
    assert (np.asarray(found.weights[0])[~unused] != 0).all()


def test_pixels_that_do_not_decide_are_subtracted_all_the_same():
    science, references = scene()
    fit = jnp.ones((15, 17), bool).at[4, 5].set(False).at[:, 0].set(False)
    found = run_klip(science, references, 3, fit=fit)
    cleaned = [jnp.where(fit, frames, 0.0) for frames in (science, references)]
    weights = run_klip(*cleaned, 3, zones=fit[None]).weights[0]
    np.testing.assert_allclose(found.weights[0], weights, atol=1e-10)
    inside = [frames - frames[:, fit].mean(axis=1)[:, None, None] for frames in (science, references)]
    np.testing.assert_allclose(found.residual, inside[0] - jnp.tensordot(weights, inside[1], 1), atol=1e-9)
    struck = run_klip(science.at[0, 4, 5].add(1e6), references.at[3, 7, 0].add(1e6), 3, fit=fit)
    np.testing.assert_array_equal(struck.weights, found.weights)
    assert struck.residual[0, 4, 5] - found.residual[0, 4, 5] == pytest.approx(1e6)


def test_fit_inside_zones():
    science, references = scene()
    zones = jnp.zeros((2, 15, 17), bool).at[0, :7].set(True).at[1, 7:].set(True)
    everywhere = run_klip(science, references, 3, zones=zones)
    found = run_klip(science, references, 3, zones=zones, fit=jnp.ones((15, 17), bool))
    np.testing.assert_allclose(found.residual, everywhere.residual, atol=1e-10)
    assert found.weights.shape == (2, 3, 8)
    nowhere = run_klip(science, references, 3, fit=jnp.zeros((15, 17), bool))
    np.testing.assert_array_equal(nowhere.residual, science)


def test_eligible_references_only():
    science, references = scene()
    eligible = jnp.ones((3, 8), bool).at[0, 2].set(False).at[1, :4].set(False)
    found = run_klip(science, references, 3, eligible=eligible)
    for frame in range(3):
        alone = run_klip(science[frame : frame + 1], references[np.asarray(eligible[frame])], 3)
        np.testing.assert_allclose(found.residual[frame], alone.residual[0], atol=1e-10)
    gradient = jax.grad(lambda r: jnp.sum(run_klip(science, r, 3, eligible=eligible).residual[1] ** 2))(references)
    assert (gradient[:4] == 0).all()
    assert np.isfinite(gradient).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), truncate=st.integers(0, 9))
def test_order_and_flux(seed, scale, truncate):
    science, references = scene(seed=seed)
    expected = run_klip(science, references, truncate)
    order = np.random.default_rng(seed).permutation(8)
    shuffled = run_klip(science * scale, references[order] * scale, truncate)
    np.testing.assert_allclose(shuffled.residual / scale, expected.residual, atol=1e-8)
    np.testing.assert_allclose(shuffled.error / scale, expected.error, atol=1e-8)


@pytest.mark.parametrize("cuts", [[], pytest.param([0, 5, 5, 12], marks=pytest.mark.slow)])
def test_blocks_of_pixels_add_up(cuts):
    science, references = scene()
    bounds = [0, *cuts, 15]
    blocks = [slice(a, b) for a, b in pairwise(bounds)]
    zones = jnp.ones((1, 15, 17), bool).at[0, 3:8, 2].set(False)
    whole = gram(references, science, zones=zones)
    so_far = init_gram(1, 8, 3)
    for rows in blocks:
        so_far = update(so_far, references[:, rows], science[:, rows], zones=zones[:, rows])
    backwards = init_gram(1, 8, 3)
    for rows in blocks[::-1]:
        backwards = merge(gram(references[:, rows], science[:, rows], zones=zones[:, rows]), backwards)
    for found in (so_far, backwards):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-11)
    weights = klip_weights(so_far, truncate=3).weights
    parts = [
        subtract(science[:, rows], references[:, rows], weights, zones=zones[:, rows], whole=so_far) for rows in blocks
    ]
    together = subtract(science, references, weights, zones=zones)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), together, atol=1e-11)


def test_subtraction_is_linear_in_the_science_frames():
    science, references = scene()
    weights = klip_weights(gram(references, science), truncate=3).weights
    other = jnp.ones_like(science).at[:, 3, 4].set(7.0)
    both = subtract(2 * science + other, references, 2 * weights)
    np.testing.assert_allclose(
        both, 2 * subtract(science, references, weights) + subtract(other, references, 0 * weights), atol=1e-11
    )


def test_companion_passes_less_its_projection_on_the_modes():
    science, references = scene()
    companion = jnp.zeros((15, 17)).at[5, 6].set(4.0)
    images = modes(references, gram(references, science), truncate=4)[0].reshape(8, -1)
    centred = (companion - companion.mean()).reshape(-1)
    expected = centred - images.T @ (images @ centred)
    passed = run_klip(science + companion, references, 4).residual - run_klip(science, references, 4).residual
    np.testing.assert_allclose(passed.reshape(3, -1), jnp.tile(expected, (3, 1)), atol=1e-9)
    assert 0.5 < passed[0, 5, 6] / 4 < 1


def test_a_star_made_of_the_references_leaves_nothing():
    _, references = scene()
    mix = jnp.tensordot(jnp.arange(16.0).reshape(2, 8), references, 1) + 3
    assert np.abs(run_klip(mix, references, 8).residual).max() < 1e-9 * np.std(mix)


def test_modes_are_orthonormal_with_a_fixed_sign():
    science, references = scene()
    products = gram(references, science)
    images = modes(references, products, truncate=5)[0]
    flat = images.reshape(8, -1)
    np.testing.assert_allclose(flat @ flat.T, jnp.diag(jnp.arange(8) < 5), atol=1e-10)
    assert (flat[:5].max(axis=1) == jnp.abs(flat[:5]).max(axis=1)).all()
    shuffled = modes(references[::-1], gram(references[::-1], science), truncate=5)[0]
    np.testing.assert_allclose(shuffled, images, atol=1e-8)
    check_grads(lambda r: modes(r, gram(r, science), truncate=3), (references,), 1, ("fwd", "rev"), 1e-5, 1e-5, 1e-4)


def test_number_of_modes_is_traced_and_decomposed_once():
    science, references = scene()
    traces = []

    @jax.jit
    def run(options):
        traces.append(None)
        return klip(science, references, options=options).residual

    for truncate in (1, 4, 50):
        run(Klip(truncate=truncate))
    assert len(traces) == 1

    products = gram(references, science)
    sweep = jax.vmap(lambda truncate: klip_weights(products, truncate=truncate).weights)
    text = str(jax.make_jaxpr(sweep)(jnp.arange(6)))
    assert text.count("= eigh[") == 1
    assert "f64[6,1,8,8]" not in text  # neither decomposition nor its input carries the axis of the sweep
    for truncate, weights in enumerate(sweep(jnp.arange(6))):
        np.testing.assert_allclose(weights, klip_weights(products, truncate=truncate).weights, atol=1e-12)


def test_single_precision():
    """The star is hundreds of times brighter than the noise; single precision costs a few per cent of the noise."""
    science, references = scene(30, 4, (60, 60), noise=0.02)
    exact = np.asarray(run_klip(science, references, 20).residual)
    found = run_klip(science.astype(jnp.float32), references.astype(jnp.float32), 20)
    assert found.residual.dtype == found.error.dtype == jnp.float32
    assert np.std(np.asarray(found.residual) - exact) < 0.05 * exact.std()
    assert np.std(found.residual) < 1.002 * exact.std()
