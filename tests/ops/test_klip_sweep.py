"""A sweep over the number of modes against one reduction for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import Klip
from coronjax.ops import klip, klip_sweep


@pytest.fixture(autouse=True)
def double() -> None:
    with jax.enable_x64(True):
        yield


def frames(n: int, rng: np.random.Generator) -> jax.Array:
    return jnp.asarray(rng.normal(size=(n, 9, 11)) * np.linspace(3, 1, n)[:, None, None])


@pytest.mark.parametrize("zoned", [False, True])
def test_as_one_by_one(zoned: bool) -> None:
    rng = np.random.default_rng(3)
    science, references, truncates = frames(3, rng), frames(8, rng), (0, 1, 4, 8, 20)
    zones = jnp.stack([jnp.arange(9)[:, None] < 4, jnp.arange(9)[:, None] >= 5]) & jnp.ones((9, 11), bool)
    chosen = {"zones": zones if zoned else None, "valid_science": jnp.array([True, False, True])}
    single = jnp.stack([klip(science, references, options=Klip(k), error=False, **chosen).residual for k in truncates])
    every = klip_sweep(science, references, jnp.array(truncates), combine=False, **chosen)
    mean = klip_sweep(science, references, jnp.array(truncates), **chosen)
    np.testing.assert_allclose(every, single, atol=1e-12)
    np.testing.assert_allclose(mean, single[:, jnp.array([0, 2])].mean(axis=1), atol=1e-12)


def test_all_modes_leave_nothing_of_a_reference() -> None:
    references = frames(6, np.random.default_rng(4))
    left = klip_sweep(references[:2], references, jnp.arange(7), combine=False)
    scatter = jnp.std(left, axis=(1, 2, 3))
    assert jnp.all(jnp.diff(scatter) <= 1e-12)
    assert scatter[-1] < 1e-12
