"""Zones of any shape and size, in blocks far smaller than they are, against the formula for each zone alone."""

from collections.abc import Iterator
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import Klip, ops
from coronjax.ops import _blocks
from tests.ops.frames import by_the_book, gram, klip_sweep, klip_weights, modes, residual_error, run_klip, subtract

SIZES = (97, 0, 41, 3, 60)  # pixels of the zones; the rest of 13 x 19 belong to none
EMPTY, SIZED = 1, [0, 2, 3, 4]
TRUNCATE = 4
TRUNCATES = (0, 2, 4, 7)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_blocks, "_OF_ZONES", 16)
    with jax.enable_x64(True):
        yield


def observation(dtype: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Science frames, references and zones whose pixels lie all over the image."""
    rng = np.random.default_rng(12)
    order = rng.permutation(13 * 19)
    zones = np.zeros((len(SIZES), 13 * 19), bool)
    for zone, end, size in zip(zones, np.cumsum(SIZES), SIZES, strict=True):
        zone[order[end - size : end]] = True
    star = rng.normal(size=(7, 13, 19)) * np.linspace(9, 1, 7)[:, None, None]
    science, references = (rng.normal(size=(n, 7)) @ star.reshape(7, -1) for n in (3, 9))
    science, references = (f.reshape(-1, 13, 19) + rng.normal(size=(len(f), 13, 19)) for f in (science, references))
    return jnp.asarray(science, dtype), jnp.asarray(references, dtype), jnp.asarray(zones.reshape(-1, 13, 19))


def packed(images: jax.Array, zone: np.ndarray) -> jax.Array:
    """The pixels of a zone as an image of one row."""
    return images.reshape(len(images), -1)[:, zone.reshape(-1)][:, None]


def reduced(science: jax.Array, references: jax.Array, **masks: jax.Array) -> ops.KlipResult:
    return run_klip(science, references, TRUNCATE, **masks)


def alone(science: jax.Array, references: jax.Array, zone: np.ndarray, truncate: int = TRUNCATE) -> tuple:
    """Residual and error of a zone by the published formula."""
    rank = min(truncate, zone.sum() - 1)
    residual, error = by_the_book(packed(science, zone), packed(references, zone), rank)
    return residual[:, 0], error[0]


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.slow), "float32"])
def test_each_as_if_alone(dtype: str) -> None:
    science, references, zones = observation(dtype)
    close = {"rtol": 0, "atol": 1e-10 if dtype == "float64" else 2e-4}
    found = reduced(science, references, zones=zones)
    mean, cubes = (klip_sweep(science, references, jnp.array(TRUNCATES), zones=zones, combine=c) for c in (True, False))
    for zone in np.asarray(zones)[SIZED]:
        residual, error = alone(science, references, zone)
        np.testing.assert_allclose(found.residual[:, zone], residual, **close)
        np.testing.assert_allclose(found.error[zone], error, **close)
        for i, truncate in enumerate(TRUNCATES):
            residual = alone(science, references, zone, truncate)[0]
            np.testing.assert_allclose(cubes[i][:, zone], residual, **close)
            np.testing.assert_allclose(mean[i][zone], residual.mean(axis=0), **close)
    assert (found.n_modes[EMPTY], np.abs(found.weights[EMPTY]).max()) == (0, 0)
    none = ~np.asarray(zones).any(axis=0)
    for images in (found.residual, found.error, mean, cubes):
        assert np.isnan(images[..., none]).all()


def test_steps_and_modes() -> None:
    science, references, zones = observation("float64")
    found = reduced(science, references, zones=zones)
    products = gram(references, science, zones=zones)
    assert products.n_pixels.tolist() == list(SIZES)
    weights = klip_weights(products, truncate=TRUNCATE).weights
    np.testing.assert_allclose(subtract(science, references, weights, zones=zones), found.residual, atol=1e-10)
    error = residual_error(references, products, truncate=TRUNCATE, zones=zones)
    np.testing.assert_allclose(error, found.error, atol=1e-10)
    images = modes(references, products, truncate=TRUNCATE, zones=zones)
    for one, zone in zip(images, np.asarray(zones), strict=True):
        assert (one[:, ~zone] == 0).all()
        kept = min(TRUNCATE, max(zone.sum() - 1, 0))
        flat = one.reshape(len(one), -1)
        np.testing.assert_allclose(flat @ flat.T, np.diag(np.arange(9) < kept), atol=1e-9)


def test_fit_pixels_decide_in_their_zone() -> None:
    science, references, zones = observation("float64")
    fit = jnp.asarray(np.random.default_rng(5).random((13, 19)) < 0.8)
    found, decided = reduced(science, references, zones=zones, fit=fit), reduced(science, references, zones=zones & fit)
    np.testing.assert_allclose(found.weights, decided.weights, atol=1e-12)
    np.testing.assert_allclose(found.residual[:, fit], decided.residual[:, fit], atol=1e-10)
    assert np.isfinite(found.residual[:, np.asarray(zones).any(axis=0)]).all()


def test_fewer_pixels_than_references() -> None:
    rng = np.random.default_rng(8)
    science, references = (jnp.asarray(rng.normal(size=(n, 4, 5))) for n in (2, 40))
    zones = jnp.asarray(np.arange(20).reshape(4, 5) % 3 == np.arange(2)[:, None, None])
    found = reduced(science, references, zones=zones)
    for zone in np.asarray(zones):
        residual, error = alone(science, references, zone)
        np.testing.assert_allclose(found.residual[:, zone], residual, atol=1e-10)
        np.testing.assert_allclose(found.error[zone], error, atol=1e-10)
    assert np.isnan(found.error[~np.asarray(zones).any(axis=0)]).all()


def test_pixels_of_no_zone_are_never_looked_at() -> None:
    science, references, zones = observation("float64")
    inside = jnp.any(zones, axis=0)
    found, spoiled = (
        reduced(*(jnp.where(inside, f, outside) for f in (science, references)), zones=zones)
        for outside in (0.0, jnp.nan)
    )
    np.testing.assert_array_equal(spoiled.residual, found.residual)
    np.testing.assert_array_equal(spoiled.error, found.error)
    np.testing.assert_array_equal(spoiled.weights, found.weights)


def test_shared_pixels_belong_to_the_last_zone() -> None:
    science, references, zones = observation("float64")
    shared = zones.at[0].set(zones[0] | zones[2])
    found, expected = (reduced(science, references, zones=z) for z in (shared, zones))
    np.testing.assert_array_equal(found.residual, expected.residual)
    np.testing.assert_array_equal(found.weights, expected.weights)


def loss(science: jax.Array, references: jax.Array, zones: jax.Array | None = None) -> jax.Array:
    masks = {} if zones is None else {"zones": zones}
    found = ops.klip(science, references, options=Klip(TRUNCATE), **masks)
    return jnp.nansum(found.residual**2) + jnp.nansum(found.error)


@pytest.mark.slow
def test_derivatives_are_those_of_the_formula() -> None:
    """Along directions within one zone, forward and reverse, against finite differences."""
    science, references, zones = observation("float64")
    rng, step = np.random.default_rng(6), 1e-6

    @jax.jit
    def both_ways(point: tuple, tangent: tuple) -> tuple:
        slopes = jax.grad(loss, (0, 1))(*point, zones)
        return slopes, jax.jvp(lambda *values: loss(*values, zones), point, tangent)[1]

    for zone in np.asarray(zones)[[0, 2, 4]]:
        point = science, references
        tangent = tuple(jnp.asarray(zone * rng.normal(size=f.shape)) for f in point)
        slopes, forward = both_ways(point, tangent)
        ends = (alone(*(f + s * t for f, t in zip(point, tangent, strict=True)), zone) for s in (step, -step))
        high, low = ((residual**2).sum() + error.sum() for residual, error in ends)
        assert float(forward) == pytest.approx((high - low) / (2 * step), rel=1e-6)
        reverse = sum(float(jnp.vdot(slope, t)) for slope, t in zip(slopes, tangent, strict=True))
        assert reverse == pytest.approx(float(forward), rel=1e-9)
    none = ~np.asarray(zones).any(axis=0)
    assert all((slope[:, none] == 0).all() for slope in slopes)


def test_vmap_equals_loop() -> None:
    """Observations whose zones differ."""
    science, references, zones = observation("float64")
    stacked = tuple(jnp.stack([f, f[:, ::-1, ::-1] + extra]) for f, extra in ((science, 1), (references, 2)))
    stacked = *stacked, jnp.stack([zones, jnp.roll(zones, 1, axis=0)])

    def one(science: jax.Array, references: jax.Array, zones: jax.Array) -> ops.KlipResult:
        return reduced(science, references, zones=zones)

    together = jax.jit(jax.vmap(one))(*stacked)
    for i in range(2):
        expected = one(*(array[i] for array in stacked))
        for name in ("residual", "error", "weights"):
            np.testing.assert_allclose(getattr(together, name)[i], getattr(expected, name), rtol=0, atol=1e-10)
        np.testing.assert_array_equal(together.n_modes[i], expected.n_modes)


def test_order_of_very_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where zone and pixel do not fit one integer, they are sorted otherwise."""
    science, references, zones = observation("float64")
    weights = jnp.asarray(np.random.default_rng(7).normal(size=(len(SIZES), len(science), len(references))))

    def subtracted() -> jax.Array:
        return jax.jit(lambda *given: ops.subtract(*given, zones=zones))(science, references, weights)

    expected, sorts = subtracted(), []
    argsort = jnp.argsort
    monkeypatch.setattr(jnp, "iinfo", lambda _: SimpleNamespace(max=science[0].size))
    monkeypatch.setattr(jnp, "argsort", lambda zone: sorts.append(zone) or argsort(zone))
    np.testing.assert_array_equal(subtracted(), expected)
    assert len(sorts) == 1


def test_constant_zones_are_sorted_by_the_program() -> None:
    """The compiler, which sorts constants itself where it can, needs ten times as long for it as for all else."""
    science, references, zones = observation("float64")
    weights = jnp.ones((len(SIZES), len(science), len(references)))
    compiled = jax.jit(lambda *given: ops.subtract(*given, zones=zones)).lower(science, references, weights).compile()
    assert " sort(" in compiled.as_text()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_derivatives_are_those_of_each_alone(dtype: str) -> None:
    science, references, zones = observation(dtype)
    slopes = jax.jit(jax.grad(loss, (0, 1)))(science, references, zones)
    for zone in np.asarray(zones)[[0, 2, 4]]:
        alone = jax.grad(loss, (0, 1))(packed(science, zone), packed(references, zone))
        for slope, expected in zip(slopes, alone, strict=True):
            scale = float(jnp.abs(expected).max())
            close = scale * (1e-9 if dtype == "float64" else 2e-3)
            np.testing.assert_allclose(slope[:, zone], expected[:, 0], atol=close)
    none = ~np.asarray(zones).any(axis=0)
    assert all((slope[:, none] == 0).all() for slope in slopes)
