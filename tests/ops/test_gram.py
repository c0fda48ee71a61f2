"""Products of many references, each pair of which is taken once, against numpy's of all pairs."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax.ops import _zones, gram

from .frames import gram as compiled


@pytest.mark.parametrize(
    ("n_references", "halvings"), [(200, 0), (201, 1), (803, 3), pytest.param(3300, 4, marks=pytest.mark.slow)]
)
def test_many_references(n_references, halvings):
    rng = np.random.default_rng(n_references)
    references = 3 + rng.normal(size=(n_references, 9, 11))
    science = references[:2] + rng.normal(size=(2, 9, 11))
    given = [jnp.asarray(array) for array in (references, science)]
    found = compiled(*given)
    rows, aims = ((a - a.mean((1, 2), keepdims=True)).reshape(len(a), -1) for a in (references, science))
    np.testing.assert_allclose(found.products[0], rows @ rows.T, atol=1e-10)
    np.testing.assert_allclose(found.cross[0], rows @ aims.T, atol=1e-10)
    products, depth = _zones._each_pair_once(given[0].reshape(n_references, -1)), 0
    while isinstance(products, _zones._Halves):
        products, depth = products.second, depth + 1
    assert depth == halvings


@pytest.mark.slow
def test_halves_count_for_zones_and_valid_references():
    rng = np.random.default_rng(0)
    references = rng.normal(size=(301, 8, 9))
    zones = np.zeros((2, 8, 9), bool)
    zones[0, :3], zones[1, 5:] = True, True
    valid = rng.random(301) < 0.8
    given = [jnp.asarray(array) for array in (references, references[:1], zones, valid)]
    found = gram(*given[:2], zones=given[2], valid_references=given[3])
    for products, zone in zip(found.products, zones, strict=True):
        rows = references[:, zone] - references[:, zone].mean(1, keepdims=True)
        rows[~valid] = 0
        np.testing.assert_allclose(products, rows @ rows.T, atol=1e-11)


def test_halves_in_float32():
    """To some roundings of a product of the frames' lengths, where a sum of 2000 terms might lose 2000."""
    frames = np.random.default_rng(1).normal(size=(301, 40, 50)).astype(np.float32)
    found = compiled(jnp.asarray(frames), jnp.asarray(frames[:1])).products[0]
    rows = frames.reshape(301, -1).astype(float)
    rows -= rows.mean(1, keepdims=True)
    assert found.dtype == jnp.float32
    assert np.abs(found - rows @ rows.T).max() < 8 * np.finfo(np.float32).eps * (rows**2).sum(1).max()


@pytest.mark.slow
def test_derivatives_of_halves(monkeypatch):
    monkeypatch.setattr(_zones, "_WHOLE", 2)
    frames = jnp.asarray(np.random.default_rng(2).normal(size=(9, 5, 6)))
    check_grads(lambda r, s: gram(r, s).products, (frames, frames[:1]), 1, ("fwd", "rev"), 1e-6, 1e-6, 1e-4)
