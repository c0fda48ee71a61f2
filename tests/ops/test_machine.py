"""What suits an accelerator: more at once, and the same numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import ops
from coronjax.ops import _machine
from coronjax.ops._devices import by_planes
from coronjax.options import Klip


@pytest.mark.parametrize("device", ["cpu", jax.devices("cpu")[0]])
def test_the_device_is_the_one_jax_would_choose(device):
    with jax.default_device(device):
        assert not _machine.accelerated()
        assert _machine.suited(1, 2) == 1


def test_a_processor_beside_an_accelerator_is_still_one(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert _machine.suited(1, 2) == 2
    with jax.default_device("cpu"):
        assert _machine.suited(1, 2) == 1


def klip(science, references):
    return ops.klip(science, references, options=Klip(truncate=3)).residual


def zones(science, references):
    """Four quarters of the image."""
    side = jnp.arange(science.shape[-1]) >= science.shape[-1] // 2
    quarters = jnp.stack([a[:, None] & b for a in (side, ~side) for b in (side, ~side)])
    return ops.klip(science, references, options=Klip(truncate=3), zones=quarters).residual


def slope(science, references):
    return jax.grad(lambda references: jnp.sum(klip(science, references) ** 2))(references)


def planes(science, references):
    def one(plane, shared):
        return jnp.sin(plane) * jnp.sum(shared)

    return by_planes(one, references, science[0], batch_size=2)


def turns(program):
    """Of all loops."""
    return sum(int(length) for length in re.findall(r"length=(\d+)", str(program)))


@pytest.mark.parametrize("work", [klip, zones, slope, planes])
def test_work_is_done_at_once_and_gives_the_same(work, monkeypatch):
    rng = np.random.default_rng(0)
    references = jnp.asarray(rng.normal(size=(5, 100, 100)) * np.geomspace(9, 1, 5)[:, None, None])
    science = references[:2] + rng.normal(size=(2, 100, 100))

    def traced():
        return jax.jit(lambda *given: work(*given)).trace(science, references)

    here = traced()
    monkeypatch.setattr(_machine, "accelerated", lambda: True)
    elsewhere = traced()
    assert turns(elsewhere.jaxpr) < turns(here.jaxpr)
    here, elsewhere = (program.lower().compile()(science, references) for program in (here, elsewhere))
    np.testing.assert_allclose(here, elsewhere, rtol=1e-9, atol=1e-9 * float(jnp.std(here)))
