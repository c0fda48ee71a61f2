"""Physics of the coronagraphs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.errors import OptionsError
from coronjax.simulate import MODES, find_mode, make_coronagraph, make_pupil, mask_amplitude, psf
from coronjax.simulate.pupil import segment_centres

CENTRE, SHAPE = (40.3, 39.6), (80, 80)
FLAT = np.zeros((192, 192))
# How much fainter the brightest pixel of a perfect star is behind the mask, and where a companion is well clear of it.
SUPPRESSION = {"nircam": 1e-3, "nircam_bar": 3e-4, "miri_4qpm": 5e-3, "miri_lyot": 5e-3}
CLEAR = {"nircam": (1.4, 0.9), "nircam_bar": (0.3, 1.6), "miri_4qpm": (2.0, 1.9), "miri_lyot": (2.6, 2.4)}


def test_pupil_has_eighteen_segments_and_real_area():
    pupil = make_pupil()
    assert len(segment_centres()) == 18
    assert 25 < pupil.aperture.sum() * 0.035**2 < 27
    assert pupil.aperture[96, 96] == 0  # behind the secondary mirror
    weights = pupil.aperture / pupil.aperture.sum()
    np.testing.assert_allclose((pupil.basis**2 * weights).sum((1, 2)), 1, rtol=1e-9)
    np.testing.assert_allclose((pupil.basis * weights).sum((1, 2)), 0, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_star_behind_mask_is_suppressed_and_companion_is_not(mode):
    coronagraph = make_coronagraph(mode)
    behind = psf(coronagraph, FLAT, (0.0, 0.0), CENTRE, SHAPE)
    bare = psf(coronagraph, FLAT, (0.0, 0.0), CENTRE, SHAPE, masked=False)
    clear = psf(coronagraph, FLAT, CLEAR[mode], CENTRE, SHAPE)
    assert behind.max() < SUPPRESSION[mode] * bare.max()
    assert clear.max() > 0.7 * bare.max()
    np.testing.assert_allclose(bare.sum(), coronagraph.throughput, rtol=0.25)  # the rest falls beside the image
    assert bare.sum() < coronagraph.throughput


def test_flux_of_an_unmasked_star_is_the_throughput_of_the_stop():
    coronagraph = make_coronagraph("nircam")
    image = psf(coronagraph, FLAT, (0.0, 0.0), (199.5, 199.5), (400, 400), masked=False)
    np.testing.assert_allclose(image.sum(), coronagraph.throughput, rtol=5e-3)


def vertex(three):
    """Where the parabola through three neighbours has its top, from the middle one."""
    return 0.5 * (three[0] - three[2]) / (three[0] - 2 * three[1] + three[2])


@pytest.mark.parametrize("mode", MODES)
def test_image_moves_with_the_source_and_the_mask_stays(mode):
    """Away from the mask the image only moves; its position is the source's, to a small part of a pixel."""
    coronagraph, scale = make_coronagraph(mode), MODES[mode].pixel_scale
    source = CLEAR[mode]
    image = psf(coronagraph, FLAT, source, CENTRE, SHAPE, masked=False)
    expected = CENTRE[0] + source[0] / scale, CENTRE[1] + source[1] / scale
    y0, x0 = np.unravel_index(image.argmax(), image.shape)
    turn = psf(coronagraph, FLAT, (-source[0], -source[1]), (79 - CENTRE[0], 79 - CENTRE[1]), SHAPE, masked=False)
    np.testing.assert_allclose(turn[::-1, ::-1], image, rtol=1e-9, atol=1e-12)  # a real pupil's image is its own mirror
    assert x0 + vertex(image[y0, x0 - 1 : x0 + 2]) == pytest.approx(expected[0], abs=0.1)
    assert y0 + vertex(image[y0 - 1 : y0 + 2, x0]) == pytest.approx(expected[1], abs=0.1)
    moved = psf(coronagraph, FLAT, (0.02, 0.0), CENTRE, SHAPE)
    still = psf(coronagraph, FLAT, (0.0, 0.0), CENTRE, SHAPE)
    assert abs(moved - still).max() > 0.02 * still.max()  # the residual changes shape


def test_light_leaks_as_the_star_leaves_the_quadrants():
    coronagraph = make_coronagraph("miri_4qpm")
    sums = [psf(coronagraph, FLAT, (d, d), CENTRE, SHAPE).sum() for d in (0.0, 0.02, 0.1, 0.5)]
    assert sums == sorted(sums)


def test_masks_transmit_what_they_should():
    zero = np.zeros(1)
    for name, (mode, filter) in {name: find_mode(name) for name in MODES}.items():
        assert mask_amplitude(mode, filter, zero, zero)[0] == pytest.approx(0, abs=1e-12), name
        half = mask_amplitude(mode, filter, zero, zero + filter.mask_size) ** 2
        if mode.mask in ("round", "bar"):
            assert half[0] == pytest.approx(0.5, abs=1e-4)
    mode, filter = find_mode("nircam")
    far = mask_amplitude(mode, filter, np.array([5.0, 9.0]), np.zeros(2))
    assert (far > 0.99).all()


def test_operators_agree_with_a_brute_force_coronagraph():
    """The Lyot plane of every mask against a large padded FFT with the same mask, where the stop is open."""
    from coronjax.simulate.optics import behind_mask

    cells, padded = 192, 1024
    for name in ("nircam", "miri_4qpm", "miri_lyot"):
        mode, filter = find_mode(name)
        field = make_pupil().aperture.astype(complex)
        # half a step off the axes, so that no sample falls on a boundary of the quadrants
        angle = (np.arange(padded) - padded / 2 + 0.5) / (padded * 0.035) * filter.wavelength * 206264.806
        ramp = np.exp(-1j * np.pi * np.arange(padded) / padded * (1 - padded))
        full = np.zeros((padded, padded), complex)
        full[:cells, :cells] = field
        turn = ramp[:, None] * ramp[None, :]
        mask = mask_amplitude(mode, filter, angle[None, :], angle[:, None])
        expected = (np.fft.ifft2(np.fft.fft2(full * turn) * mask) / turn)[:cells, :cells]
        found = behind_mask(mode, filter, field, filter.wavelength)
        error = np.median(np.abs(found - expected)[make_coronagraph(name).stop > 0])
        assert error < 0.02, name


def test_jax_gives_what_numpy_gives_and_derivatives():
    coronagraph, shape, centre = make_coronagraph("nircam"), (48, 48), (23.6, 23.9)

    def image(source):
        return psf(coronagraph, FLAT, source, centre, shape)

    at = jnp.array([0.7, 0.4])
    np.testing.assert_allclose(jax.jit(image)(at), image((0.7, 0.4)), rtol=1e-9, atol=1e-15)
    derivative = jax.jvp(image, (at,), (jnp.array([1.0, 0.0]),))[1]
    step = 1e-4
    numeric = (image((0.7 + step, 0.4)) - image((0.7 - step, 0.4))) / (2 * step)
    np.testing.assert_allclose(derivative, numeric, atol=1e-5 * abs(numeric).max())


def shifted(image, by):
    """By a Fourier shift along both axes."""
    turns = [np.exp(-2j * np.pi * np.fft.fftfreq(n) * by) for n in image.shape]
    return np.fft.ifft2(np.fft.fft2(image) * turns[0][:, None] * turns[1][None, :]).real


@pytest.mark.parametrize(
    ("filter", "least", "most"), [("F250M", 0.2, 0.5), ("F300M", 0.05, 0.2), ("F335M", 0.0, 1e-3), ("F444W", 0.0, 1e-4)]
)
def test_short_filters_are_undersampled(filter, least, most):
    """A Fourier shift by half a pixel does not give what the optics give half a pixel further."""
    coronagraph, shape = make_coronagraph("nircam", filter), (64, 64)
    here, there = (psf(coronagraph, FLAT, (0.01, 0.01), (31.5 + d, 31.5 + d), shape) for d in (0.0, 0.5))
    error = abs(shifted(here, 0.5) - there)[8:-8, 8:-8].max() / here.max()
    assert least <= error <= most


@pytest.mark.parametrize(("filter", "beyond"), [("F250M", True), ("F300M", True), ("F335M", False)])
def test_power_beyond_the_nyquist_frequency(filter, beyond):
    """Sampled three times finer, the image of the star has power that the detector's pixels cannot hold."""
    coronagraph = make_coronagraph("nircam", filter)
    fine = replace(coronagraph, mode=replace(coronagraph.mode, pixel_scale=coronagraph.mode.pixel_scale / 3))
    window = np.hanning(144)
    image = psf(fine, FLAT, (0.01, 0.01), (71.5, 71.5), (144, 144)) * window * window[:, None]
    power, frequency = abs(np.fft.fft2(image)) ** 2, abs(np.fft.fftfreq(144, 1 / 3))
    share = power[np.maximum(frequency[:, None], frequency[None, :]) > 0.5].sum() / power.sum()
    assert (share > 1e-4) == beyond


def test_wavelengths_cover_the_band():
    coronagraph = make_coronagraph("nircam", "F444W")
    assert np.average(coronagraph.wavelengths, weights=coronagraph.weights) == pytest.approx(4.421e-6)
    assert np.ptp(coronagraph.wavelengths) < 0.23 * 4.421e-6


@pytest.mark.parametrize(("mode", "filter"), [("nirspec", None), ("nircam", "F150W")])
def test_unknown_mode_or_filter(mode, filter):
    with pytest.raises(OptionsError, match=r"known are|which are"):
        make_coronagraph(mode, filter)
