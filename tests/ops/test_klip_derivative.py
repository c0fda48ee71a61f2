"""KLIP: derivatives, and references that repeat or are empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.ops.frames import run_klip, scene


def _outputs(science, references, truncate):
    found = run_klip(science, references, truncate)
    return found.residual, found.error, found.gap, found.eigenvalues


DEGENERATE = {
    "repeated": lambda frames: frames[jnp.array([0, 1, 2, 3, 4, 0, 1])],
    "zero": lambda frames: frames.at[2].set(0.0).at[4].set(0.0),
    "constant": lambda frames: frames.at[2].set(5.0),
    "all zero": jnp.zeros_like,
    "all the same": lambda frames: jnp.broadcast_to(frames[:1], frames.shape),
}


@pytest.mark.parametrize("truncate", [0, 1, 3, 5, 9])
def test_derivative(truncate):
    science, references = scene(5, 2, (6, 7), noise=1.0)
    check_grads(lambda s, r: _outputs(s, r, truncate), (science, references), 1, ("fwd", "rev"), 1e-5, 1e-5, 1e-5)


def test_derivative_with_one_reference():
    science, references = scene(1, 2, (6, 7))
    check_grads(lambda s, r: _outputs(s, r, 1), (science, references), 1, ("fwd", "rev"), 1e-5, 1e-5, 1e-5)


@pytest.mark.parametrize("name", ["repeated", "zero"])
def test_derivative_beside_degenerate_references(name):
    """Below the rank the kept modes vary smoothly, wherever the frames go."""
    science, references = scene(5, 2, (6, 7), noise=1.0)
    references = DEGENERATE[name](references)
    check_grads(lambda s, r: run_klip(s, r, 2).residual, (science, references), 1, ("fwd", "rev"), 1e-5, 1e-5, 1e-5)


def test_derivative_with_all_modes_of_repeated_references():
    science, references = scene(5, 2, (6, 7), noise=1.0)
    check_grads(
        lambda s, r: run_klip(s, DEGENERATE["repeated"](r), 9).residual,
        (science, references),
        1,
        ("fwd", "rev"),
        1e-5,
        1e-5,
        1e-5,
    )


@pytest.mark.parametrize("truncate", [1, 2, 9])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_references_do_no_harm(name, truncate):
    science, references = scene(5, 2, (6, 7))
    references = DEGENERATE[name](references)
    found = run_klip(science, references, truncate)
    assert np.isfinite(found.residual).all()
    assert np.isfinite(found.error).all()
    gradients = jax.grad(lambda s, r: sum(jnp.sum(jnp.sin(a)) for a in _outputs(s, r, truncate)), (0, 1))(
        science, references
    )
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    tangent = jax.jvp(lambda r: _outputs(science, r, truncate), (references,), (jnp.cos(references),))[1]
    assert all(np.isfinite(leaf).all() for leaf in tangent)


@pytest.mark.parametrize("truncate", [2, 9])
def test_repeated_and_zero_references_add_nothing_to_a_full_basis(truncate):
    science, references = scene(5, 2, (6, 7))
    more = jnp.concatenate([references, references[:2], jnp.zeros((2, 6, 7))])
    found, expected = run_klip(science, more, 20), run_klip(science, references, 20)
    np.testing.assert_allclose(found.residual, expected.residual, atol=1e-9)
    assert found.n_modes.tolist() == [5]
    zeros = jnp.concatenate([references, jnp.zeros((2, 6, 7))])
    np.testing.assert_allclose(
        run_klip(science, zeros, truncate).residual, run_klip(science, references, truncate).residual, atol=1e-10
    )
