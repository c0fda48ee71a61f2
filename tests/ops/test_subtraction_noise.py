"""The pixels that decide the star's model, and the noise that the references bring in."""

import jax.numpy as jnp
import numpy as np

from coronjax.ops import fit_pixels, references_variance
from tests.ops.frames import run_klip, scene


def test_a_pixel_is_left_out_when_any_integration_or_many_references_lack_it():
    science = jnp.ones((3, 1, 4), bool).at[1, 0, 0].set(False)
    references = jnp.ones((40, 1, 4), bool).at[:3, 0, 1].set(False).at[:2, 0, 2].set(False)
    assert fit_pixels(science, references).tolist() == [[False, False, True, True]]
    assert fit_pixels(science, references, share=1.0).tolist() == [[False, False, False, True]]
    assert fit_pixels(science, references, share=0.9).tolist() == [[False, True, True, True]]


def test_padding_decides_nothing():
    science = jnp.ones((2, 1, 3), bool).at[1].set(False)
    references = jnp.ones((4, 1, 3), bool).at[2:].set(False).at[0, 0, 1].set(False)
    valid = {"valid_science": jnp.array([True, False]), "valid_references": jnp.array([True, True, False, False])}
    assert fit_pixels(science, references, **valid).tolist() == [[True, False, True]]


def test_noise_of_the_references_by_its_scatter():
    """At fixed weights new noise in the references scatters the residual by as much as its variance says."""
    rng = np.random.default_rng(1)
    science, references = scene()
    weights = run_klip(science, references, 8).weights[0]
    sigma = 0.1 + rng.random(references.shape)
    noise = rng.normal(size=(400, *sigma.shape)) * sigma
    scattered = np.einsum("tk,nkyx->ntyx", np.asarray(weights), noise).mean(axis=1)
    expected = references_variance(weights, jnp.asarray(sigma**2))
    np.testing.assert_allclose(np.mean(scattered.var(axis=0) / expected), 1.0, atol=0.02)


def test_planes_without_variance_or_validity_add_nothing():
    weights = jnp.array([[2.0, 3.0, jnp.nan], [4.0, 3.0, 5.0]])
    variances = jnp.ones((3, 1, 2)).at[1, 0, 0].set(jnp.nan).at[2].set(jnp.nan)
    valid = {"valid_science": jnp.array([False, True]), "valid_references": jnp.array([True, True, False])}
    np.testing.assert_allclose(references_variance(weights, variances, **valid), [[16.0, 25.0]])
