"""KLIP of more pixels than are worked on at once, against a singular value decomposition of them all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.ops.klip import klip
from coronjax.options import Klip


def by_hand(science, references, modes, fit):
    """Residual and error by a singular value decomposition of the pixels that decide."""
    deciding = references[:, fit] - references[:, fit].mean(1, keepdims=True)
    left, values, _ = np.linalg.svd(deciding, full_matrices=False)
    mixing = left[:, :modes] / values[:modes]
    aims = science[:, fit] - science[:, fit].mean(1, keepdims=True)
    weights = aims @ deciding.T @ mixing @ mixing.T
    centred = references - references[:, fit].mean(1, keepdims=True)
    scatter = (centred - left[:, :modes] @ (left[:, :modes].T @ centred)).std(0)
    return science - science[:, fit].mean(1, keepdims=True) - weights @ centred, scatter


@pytest.mark.slow
@pytest.mark.parametrize("size", [8191, 8193, pytest.param(20011, marks=pytest.mark.slow)])
def test_as_many_pixels_as_may_be(size):
    """More pixels than are worked on at once, in numbers that no block divides: each counts once."""
    rng = np.random.default_rng(size)
    references = rng.normal(size=(7, size)) * np.geomspace(30, 1, 7)[:, None] + 5
    science = references[:3] + rng.normal(size=(3, size))
    fit = rng.random(size) < 0.9
    residual, scatter = by_hand(science, references, 4, fit)
    shaped = [jnp.asarray(array)[:, None] for array in (science, references)]

    def found(science, references):
        return klip(science, references, options=Klip(truncate=4), fit=jnp.asarray(fit)[None])

    result = jax.jit(found)(*shaped)
    np.testing.assert_allclose(result.residual[:, 0], residual, atol=1e-10)
    np.testing.assert_allclose(result.error[0], scatter, rtol=1e-9)
    # Forward and reverse agree along a direction, and with a difference.
    along = [jnp.asarray(rng.normal(size=array.shape)) for array in shaped]
    weight = jnp.asarray(rng.normal(size=residual.shape))[:, None]

    def total(science, references):
        return jnp.sum(weight * found(science, references).residual)

    slope = jax.jvp(total, shaped, along)[1]
    gradient = jax.grad(total, argnums=(0, 1))(*shaped)
    assert sum(float(jnp.vdot(g, a)) for g, a in zip(gradient, along, strict=True)) == pytest.approx(float(slope))
    step = 1e-5
    there, back = (total(*(a + way * step * d for a, d in zip(shaped, along, strict=True))) for way in (1, -1))
    assert float(there - back) / (2 * step) == pytest.approx(float(slope), rel=1e-5)


def test_one_zone_with_holes_is_the_pixels_it_has():
    """In two blocks, of which the last overlaps the first."""
    rng = np.random.default_rng(5)
    inside = rng.random(8193) < 0.8
    science, references = (jnp.asarray(rng.normal(size=(n, 1, 8193))) for n in (2, 5))
    weight = jnp.asarray(rng.normal(size=(2, 1, 8193)))

    def total(weight, zones):
        def of(science, references):
            residual = klip(science, references, options=Klip(truncate=3), zones=zones).residual
            return jnp.sum(weight * jnp.where(jnp.isnan(residual), 0, residual)), residual

        return jax.jit(jax.value_and_grad(of, argnums=(0, 1), has_aux=True))

    (_, residual), gradients = total(weight, jnp.asarray(inside)[None, None])(science, references)
    (_, dense), others = total(weight[..., inside], None)(science[..., inside], references[..., inside])
    assert np.isnan(residual[..., ~inside]).all()
    np.testing.assert_allclose(residual[..., inside], dense, atol=1e-12)
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient[..., inside], other, atol=1e-12)
        assert (np.asarray(gradient)[..., ~inside] == 0).all()
