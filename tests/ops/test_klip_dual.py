"""KLIP of fewer pixels than references, from the pixels' side, against the references' side."""

from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax.ops import spectral
from coronjax.ops.klip import KlipResult, klip
from coronjax.options import Klip

klip_module = import_module("coronjax.ops.klip")  # in the package the name is the function's


@pytest.fixture(autouse=True)
def double() -> None:
    with jax.enable_x64(True):
        yield


def frames(n: int, shape: tuple[int, int], seed: int = 0) -> jax.Array:
    """A star, wavefront modes of falling strength, noise."""
    rng = np.random.default_rng(seed)
    modes = rng.normal(size=(10, *shape)) / np.arange(1, 11)[:, None, None]
    star = 20 * np.exp(-np.linspace(0, 3, shape[0] * shape[1])).reshape(shape)
    images = star * rng.normal(1, 0.1, (n, 1, 1)) + np.tensordot(rng.normal(size=(n, 10)), modes, 1)
    return jnp.asarray(images + 0.1 * rng.normal(size=images.shape))


def both(monkeypatch: pytest.MonkeyPatch, *given: jax.Array, truncate: int = 5, **chosen: object) -> list[KlipResult]:
    """From the pixels' side and from the references'."""
    options = Klip(truncate=truncate, max_modes=chosen.pop("max_modes", None))
    results = []
    for side in (True, False):
        monkeypatch.setattr(klip_module, "fewer_pixels", lambda *_, side=side: side)
        results.append(jax.jit(lambda *given: klip(*given, options=options, **chosen))(*given))
    return results


def the_same(found: KlipResult, expected: KlipResult) -> None:
    largest = float(expected.eigenvalues.max())
    np.testing.assert_allclose(found.residual, expected.residual, atol=1e-10)
    np.testing.assert_allclose(found.error, expected.error, atol=1e-9)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, atol=1e-12 * largest)
    np.testing.assert_allclose(found.gap, expected.gap, atol=1e-10)
    np.testing.assert_array_equal(found.n_modes, expected.n_modes)


@pytest.mark.parametrize("truncate", [0, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 40))])
@pytest.mark.parametrize("masks", ["none", "valid", "fit", "zones", "zones and fit"])
def test_either_side(masks: str, truncate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    science, references = frames(3, (4, 5), 1), frames(40, (4, 5))
    chosen = {}
    if masks == "valid":
        references = references.at[3].set(jnp.nan).at[7].set(2.0)
        science = science.at[1].set(jnp.nan)
        chosen = {"valid_references": jnp.arange(40) != 3, "valid_science": jnp.arange(3) != 1}
    if "zones" in masks:
        chosen["zones"] = jnp.stack([jnp.arange(20) < 9, jnp.arange(20) > 11]).reshape(2, 4, 5)
    if "fit" in masks:
        chosen["fit"] = (jnp.arange(20) % 7 > 0).reshape(4, 5)
    the_same(*both(monkeypatch, science, references, truncate=truncate, **chosen))


def test_is_taken_where_pixels_are_few() -> None:
    science, references = frames(2, (4, 5), 1), frames(40, (4, 5))

    def text(references: jax.Array) -> str:
        return str(jax.make_jaxpr(lambda r: klip(science, r, options=Klip(truncate=3)).residual)(references))

    assert "[20,20]" in text(references)
    assert "[40,40]" not in text(references)
    assert "[24,24]" in text(references[:24])


@pytest.mark.parametrize("truncate", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 40))])
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives(masked: bool, truncate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    science, references = frames(2, (3, 4), 1), frames(20, (3, 4))
    chosen = {"fit": (jnp.arange(12) % 5 > 0).reshape(3, 4)} if masked else {}
    rng = np.random.default_rng(2)
    along = tuple(jnp.asarray(rng.normal(size=array.shape)) for array in (science, references))

    def outputs(science: jax.Array, references: jax.Array) -> tuple:
        found = klip(science, references, options=Klip(truncate=truncate), **chosen)
        return found.residual, found.weights, found.gap, found.eigenvalues[:, :8], found.error

    slopes = []
    for side in (True, False):
        monkeypatch.setattr(klip_module, "fewer_pixels", lambda *_, side=side: side)
        compiled = jax.jit(lambda *given: outputs(*given))  # anew for each side
        slopes.append(jax.jvp(compiled, (science, references), along)[1])
        if side:
            check_grads(compiled, (science, references), 1, ("fwd", "rev"), 1e-5, 1e-5, 1e-5)
    for found, expected in zip(*slopes, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("change", ["repeated", "zero", "all zero"])
def test_degenerate_references(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    science, references = frames(2, (3, 4), 1), frames(20, (3, 4))
    if change == "repeated":
        references = references[jnp.arange(20) % 5]
    elif change == "zero":
        references = references.at[4:].set(0.0)
    else:
        references = 0 * references
    slopes = []
    for truncate in (3, 20):
        the_same(*both(monkeypatch, science, references, truncate=truncate))
        for side in (True, False):
            monkeypatch.setattr(klip_module, "fewer_pixels", lambda *_, side=side: side)

            def total(science: jax.Array, references: jax.Array, truncate: int = truncate) -> jax.Array:
                found = klip(science, references, options=Klip(truncate=truncate))
                return jnp.sum(jnp.sin(found.residual)) + jnp.sum(found.weights**2)

            slopes.append(jax.jit(jax.grad(total, (0, 1)))(science, references))
        for found, expected in zip(*slopes[-2:], strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-8)


def test_leading_modes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "DENSE", 50)
    science, references = frames(2, (9, 10), 1), frames(200, (9, 10))
    found, expected = both(monkeypatch, science, references, truncate=5, max_modes=6)
    assert found.eigenvalues.shape == expected.eigenvalues.shape == (1, 7)
    np.testing.assert_allclose(found.residual, expected.residual, atol=1e-8)
    np.testing.assert_allclose(found.error, expected.error, atol=1e-8)
