"""The flux of a companion: right on average, and as uncertain as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax.analysis import Flux, combine_fluxes, companion_flux

SHAPE = (40, 41)
POSITION = jnp.array([20.3, 18.8])
FWHM = 3.0
Y, X = np.indices(SHAPE)
TEMPLATE = jnp.exp(-4 * jnp.log(2.0) * ((X - 20.3) ** 2 + (Y - 18.8) ** 2) / FWHM**2)
DETECTOR = jnp.asarray(0.5 + np.random.default_rng(1).random((3, *SHAPE)))
REFERENCES = jnp.asarray(0.3 + 0.1 * np.sin(X / 3.0))
SPECKLES = jnp.asarray(2.0 + X / 20.0)


@jax.jit
def measure(residuals: jax.Array, references: jax.Array = REFERENCES, speckles: jax.Array = SPECKLES) -> Flux:
    return companion_flux(
        residuals, TEMPLATE, POSITION, detector=DETECTOR, references=references, speckles=speckles, fwhm=FWHM
    )


def noise(rng: np.random.Generator) -> np.ndarray:
    """What the error model says: detector noise of each integration, and two kinds that all share."""
    frequency = np.hypot(np.fft.fftfreq(2 * SHAPE[0])[:, None], np.fft.fftfreq(2 * SHAPE[1])[None])
    power = np.exp(-2 * np.pi**2 * FWHM**2 / (8 * np.log(2)) * frequency**2)
    white = np.fft.fft2(rng.normal(size=frequency.shape))
    field = np.fft.ifft2(white * np.sqrt(power / power.mean())).real[: SHAPE[0], : SHAPE[1]]
    shared = np.sqrt(SPECKLES) * field + np.sqrt(REFERENCES) * rng.normal(size=SHAPE)
    return shared + np.sqrt(DETECTOR) * rng.normal(size=DETECTOR.shape)


def test_pulls_have_unit_scatter() -> None:
    rng = np.random.default_rng(2)
    residuals = jnp.stack([jnp.asarray(noise(rng)) for _ in range(500)]) + 9 * TEMPLATE + 4.0
    found = jax.vmap(measure)(residuals)
    pulls = (found.value - 9) / found.error
    assert float(pulls.std()) == pytest.approx(1.0, abs=0.1)
    assert abs(float(pulls.mean())) < 0.15


@pytest.mark.slow
def test_only_the_detector_averages_down() -> None:
    one, many = (
        companion_flux(
            jnp.zeros((n, *SHAPE)),
            TEMPLATE,
            POSITION,
            detector=jnp.ones((n, *SHAPE)),
            references=1e-3 * jnp.ones(SHAPE),
            speckles=jnp.zeros(SHAPE),
            fwhm=FWHM,
        )
        for n in (1, 100)
    )
    assert float(many.detector) == pytest.approx(0.1 * float(one.detector))
    assert float(many.references) == pytest.approx(float(one.references))
    assert float(many.speckles) == 0
    assert float(many.error) == pytest.approx(float(jnp.hypot(many.detector, many.references)))


def test_a_level_has_no_effect_and_flux_is_linear() -> None:
    residuals = jnp.asarray(noise(np.random.default_rng(3)))
    found = measure(residuals)
    other = measure(residuals + 100.0 + 5 * TEMPLATE)
    assert float(other.value) == pytest.approx(float(found.value) + 5)
    assert float(other.error) == float(found.error)


def test_missing_pixels() -> None:
    residuals = (7 * TEMPLATE + jnp.zeros((3, *SHAPE))).at[0, 19, 20].set(jnp.nan).at[:, 18, 21].set(jnp.nan)
    found = measure(residuals)
    assert float(found.value) == pytest.approx(7)
    assert float(found.error) > float(measure(7 * TEMPLATE + jnp.zeros((3, *SHAPE))).error)
    gradient = jax.grad(lambda r: measure(r).value)(residuals)
    assert bool(jnp.isfinite(gradient).all())
    nothing = measure(jnp.full((3, *SHAPE), jnp.nan))
    assert float(nothing.value) == 0
    assert float(nothing.error) == np.inf


def test_derivatives() -> None:
    residuals = jnp.asarray(noise(np.random.default_rng(4)))

    @jax.jit
    def both(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = measure(*arrays)
        return found.value, found.error

    check_grads(both, (residuals, REFERENCES, SPECKLES), 1, ("fwd", "rev"), 1e-4, 1e-4, 1e-5)


def test_exposures_combine_as_independent() -> None:
    rng = np.random.default_rng(5)
    errors = jnp.array([1.0, 2.0, jnp.inf])
    values = jnp.asarray(rng.normal(size=(4000, 3)) * np.array([1.0, 2.0, 1.0]) + 10)
    parts = 0.6 * errors, 0.8 * errors, 0 * jnp.ones(3)
    found = jax.vmap(lambda value: combine_fluxes(Flux(value, errors, *parts)))(values)
    assert float(found.error[0]) == pytest.approx(1 / np.sqrt(1.25))
    assert float(found.value.std()) == pytest.approx(float(found.error[0]), rel=0.05)
    assert float(jnp.hypot(found.detector[0], found.references[0])) == pytest.approx(float(found.error[0]))
    assert float(combine_fluxes(jax.tree.map(lambda a: a[2:], Flux(values[0], errors, *parts))).error) == np.inf
