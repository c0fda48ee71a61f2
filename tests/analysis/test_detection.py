"""Signal-to-noise ratio and position of sources with known truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from coronjax import analysis

signal_to_noise = jax.jit(analysis.signal_to_noise)
refine_position = jax.jit(analysis.refine_position)

STAR = jnp.array([40.3, 39.6])
FWHM = 3.5


def gaussian(centre: jax.Array, fwhm: float = FWHM, shape: tuple[int, int] = (80, 81)) -> jax.Array:
    y, x = jnp.indices(shape)
    return jnp.exp(-4 * jnp.log(2.0) * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / fwhm**2)


def at(radius: float, angle: float) -> jax.Array:
    return STAR + radius * jnp.array([jnp.cos(angle), jnp.sin(angle)])


@pytest.mark.parametrize("radius", [5.0, 25.0])
def test_noise_alone_follows_students_t(radius: float) -> None:
    """The mean and the spread of S/N over many images of white noise are those of Student's t."""
    position = at(radius, 0.7)
    images = jax.random.normal(jax.random.key(1), (300, 80, 81))
    found = jax.vmap(lambda image: signal_to_noise(image, position, STAR, fwhm=FWHM))(images)
    n = int(found.n_apertures[0])
    assert n == int(np.pi / np.arcsin(FWHM / (2 * radius))) - 1
    freedom = n - 1
    assert abs(float(found.snr.mean())) < 0.25
    assert float(jnp.mean(jnp.abs(found.snr) < 1)) == pytest.approx(_within_one(freedom), abs=0.09)


def _within_one(freedom: int) -> float:
    """Probability that Student's t lies within one, by numerical integration."""
    t = np.linspace(-1, 1, 2001)
    tails = np.linspace(-2000, 2000, 4_000_001)
    density = (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    whole = (1 + tails**2 / freedom) ** (-(freedom + 1) / 2)
    return float(np.trapezoid(density, t) / np.trapezoid(whole, tails))


def test_white_noise_gives_the_noise_of_an_aperture() -> None:
    """Pixels of unit noise add up to sqrt(area) in an aperture, and half of a Gaussian's light lies within its fwhm."""
    position = at(17.0, 2.0)
    images = jax.random.normal(jax.random.key(2), (100, 80, 81))
    found = jax.vmap(lambda image: signal_to_noise(image, position, STAR, fwhm=FWHM))(images)
    assert float(jnp.sqrt((found.noise**2).mean())) == pytest.approx(np.sqrt(np.pi) * FWHM / 2, rel=0.12)
    alone = signal_to_noise(gaussian(position), position, STAR, fwhm=FWHM)
    assert float(alone.flux) == pytest.approx(np.pi * FWHM**2 / (8 * np.log(2)), rel=0.06)


def test_wings_beside_the_source_can_be_left_out() -> None:
    position = at(17.0, 0.4)
    image = 100 * gaussian(position) + jax.random.normal(jax.random.key(7), (80, 81))
    all_count = signal_to_noise(image, position, STAR, fwhm=FWHM)
    without = signal_to_noise(image, position, STAR, fwhm=FWHM, exclude=1)
    assert int(without.n_apertures) == int(all_count.n_apertures) - 2
    assert float(without.snr) > 2 * float(all_count.snr)
    assert float(signal_to_noise(image, position, STAR, fwhm=FWHM, exclude=40).snr) == 0


def test_level_and_unit_do_not_matter() -> None:
    position = at(17.0, -1.0)
    image = 30 * gaussian(position) + jax.random.normal(jax.random.key(3), (80, 81))
    snr = signal_to_noise(image, position, STAR, fwhm=FWHM).snr
    other = signal_to_noise(1e-3 * image + 7.0, position, STAR, fwhm=FWHM).snr
    assert float(other) == pytest.approx(float(snr), rel=1e-9)
    assert float(snr) > 10


@pytest.mark.parametrize("radius", [6.0, 21.0])
def test_missing_pixels_cost_little_and_poison_nothing(radius: float) -> None:
    position = at(radius, 1.1)
    image = 60 * gaussian(position) + jax.random.normal(jax.random.key(4), (80, 81))
    spoilt = jnp.where(jax.random.uniform(jax.random.key(5), image.shape) < 0.05, jnp.nan, image)

    def snr(image: jax.Array) -> jax.Array:
        return signal_to_noise(image, position, STAR, fwhm=FWHM).snr

    assert float(snr(spoilt)) == pytest.approx(float(snr(image)), rel=0.5)
    gradient = jax.grad(snr)(spoilt)
    assert bool(jnp.isfinite(gradient).all())
    assert bool((gradient[jnp.isnan(spoilt)] == 0).all())
    check_grads(snr, (image,), 1, modes=["fwd", "rev"], rtol=1e-4)


def test_apertures_off_the_image_do_not_count() -> None:
    position = jnp.array([40.0, 74.0])
    star = jnp.array([40.0, 60.0])  # the circle leaves the image at the top
    image = jax.random.normal(jax.random.key(6), (80, 81))
    whole = signal_to_noise(image, jnp.array([40.0, 54.0]), jnp.array([40.0, 40.0]), fwhm=FWHM)
    cut = signal_to_noise(image.at[70:].set(jnp.nan), position, star, fwhm=FWHM)
    assert int(cut.n_apertures) < int(whole.n_apertures)
    assert float(cut.snr) == 0  # and the source's own is missing


@pytest.mark.parametrize(
    ("image", "position"),
    [
        (jnp.zeros((30, 30)), jnp.array([20.0, 15.0])),
        (jnp.full((30, 30), jnp.nan), jnp.array([20.0, 15.0])),
        (jnp.ones((30, 30)).at[15, 15].set(9), jnp.array([15.0, 15.0])),  # on the star
        (jnp.ones((30, 30)), jnp.array([16.0, 15.0])),  # room for one or two apertures
        (jnp.ones((30, 30)), jnp.array([300.0, 15.0])),  # far outside
    ],
)
def test_nothing_to_compare_with_gives_zero(image: jax.Array, position: jax.Array) -> None:
    star = jnp.array([15.0, 15.0])
    value, gradient = jax.value_and_grad(lambda i: signal_to_noise(i, position, star, fwhm=4.0).snr)(image)
    assert abs(float(value)) < 1e-6
    assert bool(jnp.isfinite(gradient).all())


def test_numbers_do_not_compile_again() -> None:
    traces = 0

    @jax.jit
    def measure(image: jax.Array, position: jax.Array, fwhm: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return (
            signal_to_noise(image, position, STAR, fwhm=fwhm).snr
            + refine_position(image, position, fwhm=fwhm).amplitude
        )

    for radius, fwhm in ((8.0, 3.0), (20.0, 4.5)):
        measure(gaussian(at(radius, 0.2)), at(radius, 0.2), fwhm)
    assert traces == 1


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.9, -0.4), (-1.3, 1.2)])
def test_a_gaussian_is_found_exactly(offset: tuple[float, float]) -> None:
    truth = jnp.array([33.27, 21.84])
    image = 4.0 * gaussian(truth) + 1.5
    found = refine_position(image, truth + jnp.array(offset), fwhm=FWHM)
    assert bool(found.converged)
    np.testing.assert_allclose(found.position, truth, atol=1e-6)
    assert float(found.amplitude) == pytest.approx(4.0, rel=1e-6)
    assert float(found.background) == pytest.approx(1.5, rel=1e-6)


def test_the_wrong_width_has_no_bias() -> None:
    truth = jnp.array([33.27, 21.84])
    found = refine_position(gaussian(truth, fwhm=5.0), jnp.array([33.0, 22.0]), fwhm=FWHM)
    np.testing.assert_allclose(found.position, truth, atol=1e-3)


@pytest.mark.slow
def test_the_scatter_is_what_the_noise_demands() -> None:
    """For a Gaussian of peak a in white noise s the bound on each axis is s sqrt(2 / pi) / a, about."""
    truth, peak = jnp.array([33.27, 21.84]), 20.0
    images = peak * gaussian(truth, shape=(41, 48)) + jax.random.normal(jax.random.key(8), (200, 41, 48))
    found = jax.jit(jax.vmap(lambda image: refine_position(image, jnp.array([33.0, 22.0]), fwhm=FWHM)))(images)
    assert bool(found.converged.all())
    scatter = np.asarray(found.position).std(0)
    bound = np.sqrt(2 / np.pi) / peak
    assert (scatter > 0.8 * bound).all()
    assert (scatter < 1.6 * bound).all()
    np.testing.assert_allclose(np.asarray(found.position).mean(0), truth, atol=5 * scatter.max() / np.sqrt(200))


def test_position_gradient() -> None:
    truth = jnp.array([12.3, 11.6])
    image = gaussian(truth, shape=(24, 24)) + 0.01 * jax.random.normal(jax.random.key(9), (24, 24))
    check_grads(lambda i: refine_position(i, truth, fwhm=FWHM).position, (image,), 1, modes=["fwd", "rev"], rtol=1e-3)
    spoilt = image.at[11, 13].set(jnp.nan)
    gradient = jax.grad(lambda i: refine_position(i, truth, fwhm=FWHM).position.sum())(spoilt)
    assert bool(jnp.isfinite(gradient).all())
    assert float(jnp.abs(refine_position(spoilt, truth, fwhm=FWHM).position - truth).max()) < 0.05


@pytest.mark.parametrize(
    "image", [jnp.zeros((20, 20)), jnp.full((20, 20), jnp.nan), -gaussian(jnp.array([10.0, 10.0]))]
)
def test_without_a_source_the_guess_comes_back(image: jax.Array) -> None:
    guess = jnp.array([10.2, 9.7])
    found = refine_position(image, guess, fwhm=FWHM)
    assert not bool(found.converged)
    np.testing.assert_array_equal(found.position, guess)
    gradient = jax.grad(lambda i: refine_position(i, guess, fwhm=FWHM).position.sum())(image)
    assert bool(jnp.isfinite(gradient).all())


def test_cubes_are_refused() -> None:
    with pytest.raises(ValueError, match="not \\[y, x\\]"):
        signal_to_noise(jnp.zeros((2, 5, 5)), STAR, STAR, fwhm=2.0)
    with pytest.raises(ValueError, match="not \\[y, x\\]"):
        refine_position(jnp.zeros((2, 5, 5)), STAR, fwhm=2.0)
