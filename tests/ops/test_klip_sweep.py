"""A sweep over the number of modes against one reduction for each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax import Klip, ops
from coronjax.ops import _cubes
from tests.ops.frames import klip, klip_sweep


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


@pytest.mark.parametrize("dtype", [float, "float32"])
@pytest.mark.parametrize("masked", [False, True])
def test_any_order_of_numbers_and_blocks(dtype: str, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cubes, "_PIXELS", 40)  # the last block overlaps the one before
    rng = np.random.default_rng(5)
    science, references = frames(3, rng).astype(dtype), frames(8, rng).astype(dtype)
    chosen = {}
    if masked:
        fit = jnp.asarray(rng.random((9, 11)) < 0.8)
        valid = jnp.arange(8) != 2
        # Constant where it decides, not elsewhere: it must have no weight.
        references = references.at[2].set(jnp.nan).at[5].set(jnp.where(fit, 4.0, 7.0))
        chosen = {"fit": fit, "valid_references": valid}
    truncates = (5, 0, 20, 3, 3, 7)
    single = jnp.stack([klip(science, references, options=Klip(k), error=False, **chosen).residual for k in truncates])
    every = jax.jit(partial(ops.klip_sweep, combine=False))(science, references, jnp.array(truncates), **chosen)
    assert every.dtype == science.dtype
    np.testing.assert_allclose(every, single, atol=1e-12 if dtype is float else 1e-4)


@pytest.mark.slow
def test_derivatives_of_cubes() -> None:
    rng = np.random.default_rng(6)
    science, references = frames(3, rng), frames(6, rng)
    truncates = jnp.array([4, 1, 2])

    def every(science: jax.Array, references: jax.Array) -> jax.Array:
        return klip_sweep(science, references, truncates, combine=False)

    check_grads(every, (science, references), 1, ("fwd", "rev"), 1e-5, 1e-5, 1e-5)
    more = jnp.stack([science, 2 * science])
    np.testing.assert_allclose(jax.vmap(every, (0, None))(more, references)[1], every(more[1], references), atol=1e-12)


def test_numbers_of_modes_are_whole():
    frames = jnp.ones((3, 4, 4))
    for combine in (True, False):
        with pytest.raises(ValueError, match="whole numbers, not float"):
            klip_sweep(frames, frames, jnp.array([1.0]), combine=combine)


@pytest.mark.parametrize("zoned", [False, True])
def test_written_over_an_earlier_result(zoned: bool) -> None:
    rng = np.random.default_rng(8)
    science, references, truncates = frames(3, rng), frames(8, rng), jnp.array([4, 0, 8, 2])
    zones = jnp.stack([jnp.arange(9)[:, None] < 4, jnp.arange(9)[:, None] >= 5]) & jnp.ones((9, 11), bool)
    chosen = {"combine": False, "zones": zones if zoned else None, "valid_science": jnp.array([True, False, True])}
    sweep = jax.jit(partial(ops.klip_sweep, **chosen), donate_argnames="into")
    fresh = klip_sweep(science, references, truncates, **chosen)
    place = jnp.full_like(fresh, jnp.nan)
    address = place.unsafe_buffer_pointer()
    found = sweep(science, references, truncates, into=place)
    np.testing.assert_array_equal(found, fresh)
    assert place.is_deleted()
    assert found.unsafe_buffer_pointer() == address


def test_a_place_for_the_cubes_has_their_form() -> None:
    rng = np.random.default_rng(8)
    science, references, truncates = frames(3, rng), frames(8, rng), jnp.array([1, 2])
    with pytest.raises(ValueError, match="into is float64"):
        klip_sweep(science, references, truncates, combine=False, into=jnp.zeros((2, 3, 9, 10)))
    with pytest.raises(ValueError, match="combine=False"):
        klip_sweep(science, references, truncates, combine=True, into=jnp.zeros((2, 9, 11)))
