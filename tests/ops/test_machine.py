"""What suits an accelerator: more at once, and the same numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import ops
from coronjax.ops import _batches, _blocks, _machine
from coronjax.ops._devices import by_planes, by_planes_in_turn
from coronjax.options import Klip


@pytest.mark.parametrize("device", ["cpu", jax.devices("cpu")[0]])
def test_the_default_device_decides(device, monkeypatch):
    assert _machine.suited(1, 2) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert _machine.suited(1, 2) == 2
    with jax.default_device(device):  # a processor beside an accelerator
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

    return by_planes(one, references, science[0], few=2)


def gradient_of_planes(science, references):
    return jax.grad(lambda references: jnp.sum(planes(science, references) ** 2))(references)


def turns(program):
    """Of all loops."""
    return sum(int(length) for length in re.findall(r"length=(\d+)", str(program)))


@pytest.mark.parametrize("work", [klip, zones, slope, planes, gradient_of_planes])
def test_work_is_done_at_once_and_gives_the_same(work, monkeypatch):
    rng = np.random.default_rng(0)
    references = jnp.asarray(rng.normal(size=(5, 100, 100)) * np.geomspace(9, 1, 5)[:, None, None])
    science = references[:2] + rng.normal(size=(2, 100, 100))

    def traced():
        return jax.jit(lambda *given: work(*given)).trace(science, references)

    here = traced()
    monkeypatch.setattr(_machine, "accelerated", lambda: True)
    monkeypatch.setattr(_batches, "_VALUES", 3 * 100 * 100)  # five planes in two batches, of which one is filled up
    elsewhere = traced()
    assert turns(elsewhere.jaxpr) < turns(here.jaxpr)
    here, elsewhere = (program.lower().compile()(science, references) for program in (here, elsewhere))
    np.testing.assert_allclose(here, elsewhere, rtol=1e-9, atol=1e-9 * float(jnp.std(here)))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_number_of_planes_that_is_asked_for_is_kept_to(batch_size, monkeypatch):
    monkeypatch.setattr(_machine, "accelerated", lambda: True)
    program = jax.make_jaxpr(lambda a: by_planes(lambda p, _: p + 1, a, batch_size=batch_size))(jnp.ones((4, 3)))
    assert turns(program) == 4 // batch_size


def test_sums_in_float32_keep_their_short_blocks(monkeypatch):
    """Longer ones would lose the faint modes."""
    given = [jnp.ones((n, 100, 100), jnp.float32) for n in (5, 2)]
    here = jax.make_jaxpr(lambda *stacks: ops.gram(*stacks))(*given)
    monkeypatch.setattr(_machine, "accelerated", lambda: True)
    elsewhere = jax.make_jaxpr(lambda *stacks: ops.gram(*stacks))(*given)
    assert turns(here) == turns(elsewhere) > 1


@pytest.mark.parametrize(("n_frames", "pixels"), [(16, 131072), (2048, 65536), (100_000, 8192)])
def test_a_block_of_many_frames_has_fewer_pixels(n_frames, pixels, monkeypatch):
    monkeypatch.setattr(_machine, "accelerated", lambda: True)
    assert _blocks._suited(8192, (n_frames, 10**6)) == pixels


def test_of_planes_that_do_not_count_nothing_is_worked_out():
    """Two at once: of the first pair one counts, of the second none."""
    calls = []

    def doubled(plane, _):
        jax.debug.callback(lambda: calls.append(1))
        return 2 * plane

    stack, wanted = jnp.arange(1.0, 6.0), jnp.array([True, False, False, False, True])

    def total(stack, otherwise=jnp.zeros_like, size=2):
        found = by_planes(doubled, stack, wanted=wanted, otherwise=otherwise, batch_size=size)
        return jnp.sum(found), found

    found = total(stack)[1]
    jax.effects_barrier()
    assert len(calls) == 2  # of three
    np.testing.assert_array_equal(found, [2, 0, 0, 0, 10])
    for size in (1, 2, 5):
        np.testing.assert_array_equal(total(stack, lambda plane: -plane, size)[1], [2, -2, -3, -4, 10])
        np.testing.assert_array_equal(jax.grad(total, has_aux=True)(stack, jnp.zeros_like, size)[0], [2, 0, 0, 0, 2])


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (1, 2)])
def test_no_planes_and_no_pixels(shape, batch_size):
    stack = jnp.zeros(shape)
    choice = {"wanted": jnp.ones(shape[0], bool), "otherwise": jnp.zeros_like}
    for given in ({}, choice):
        assert by_planes(lambda plane, _: plane, stack, **given, batch_size=batch_size).shape == shape


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("lengths", [(4, 2), (3, 5), (1, 1, 4), (2, 0, 3)])
def test_stacks_in_turn_are_what_each_is_alone(lengths, accelerated, monkeypatch):
    """An accelerator joins them; in one of several no plane, or an odd number of them, or NaN."""
    monkeypatch.setattr(_machine, "accelerated", lambda: accelerated)
    rng = np.random.default_rng(sum(lengths))
    stacks = [jnp.asarray(rng.normal(size=(n, 2, 3))) for n in lengths]
    wanted = [jnp.asarray(rng.random(n) < 0.7) for n in lengths]
    stacks[0] = stacks[0].at[0, 0, 0].set(jnp.nan)

    def total(stacks):
        found = by_planes_in_turn(
            lambda plane, factor: factor * plane**2, stacks, 3.0, wanted=wanted, otherwise=jnp.negative, few=2
        )
        return sum(jnp.nansum(stack) for stack in found), found

    gradients, found = jax.jit(jax.grad(total, has_aux=True))(stacks)
    for stack, counts, made, gradient in zip(stacks, wanted, found, gradients, strict=True):
        counts = counts[:, None, None]
        np.testing.assert_allclose(made, np.where(counts, 3 * stack**2, -stack), rtol=1e-12)
        known = ~np.isnan(stack)
        np.testing.assert_allclose(gradient[known], np.where(counts, 6 * stack, -1)[known], rtol=1e-12)
