"""What a simulation can have beyond the usual: known expectations, unsteady light, odd pixels, wrong headers, glow."""

import itertools
import json

import jax
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from coronjax.cube import DQ
from coronjax.errors import OptionsError
from coronjax.simulate import MODES, astrometry_of, find_mode, make_pupil, observe, simulate
from coronjax.simulate.detector import FLAT_ERROR
from coronjax.simulate.scene import rms, wander
from coronjax.simulate.world import make_gwcs

TINY = {"shape": (64, 70), "n_science": 1, "n_references": 1, "nints_science": 4, "nints_references": 2}


def bad(cube):
    return (cube.dq & np.uint32(DQ.DO_NOT_USE)) != 0


def untouched(cube, exposures):
    """Good pixels that no hit and no jump reaches, [exp int y x]."""
    good = ~bad(cube)
    for k, exposure in enumerate(exposures):
        for ray in exposure.cosmic_rays:
            good[k, ray.integration, ray.y, ray.x : ray.x + 2] = False
        for pixel in exposure.telegraph:
            good[k, :, pixel.y, pixel.x] = False
    return good


@pytest.fixture(scope="module")
def usual():
    return observe("nircam", **TINY)


@pytest.mark.parametrize("mode", ["nircam", "miri_4qpm"])
def test_data_scatter_about_the_expectation_as_their_errors_say(mode):
    seen, (_, filter) = observe(mode, **TINY), find_mode(mode)
    # earlier stages subtract a background behind an imperfect flat, which ERR does not know
    subtracted = filter.background * filter.photmjsr * (1 - MODES[mode].background_left)
    pairs = (seen.science, seen.expected_science, seen.truth.science), (
        seen.references, seen.expected_references, seen.truth.references)  # fmt: skip
    for cube, expected, exposures in pairs:
        good = untouched(cube, exposures)
        pull = ((cube.sci - expected[:, None]) / np.hypot(cube.err, FLAT_ERROR * subtracted))[good]
        assert pull.mean() == pytest.approx(0, abs=0.05)
        assert pull.std() == pytest.approx(1, abs=0.05)


def test_expectation_contains_the_companions(usual):
    alone = observe("nircam", companions=[], **TINY)
    assert not alone.expected_companions.any()
    difference = usual.expected_science - alone.expected_science
    np.testing.assert_allclose(difference, usual.expected_companions, atol=1e-6 * usual.expected_science.max())
    peaks = [companion.peak for companion in usual.truth.science[0].companions]
    assert usual.expected_companions.max() == pytest.approx(max(peaks), rel=0.1)


def test_noise_has_a_seed_of_its_own(usual):
    other, same = (observe("nircam", noise_seed=n, **TINY) for n in (7, 1))
    for a, b in zip(jax.tree.leaves(usual.science), jax.tree.leaves(same.science), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(usual.expected_science, other.expected_science)
    assert usual.truth.science[0].star == other.truth.science[0].star
    assert usual.truth.science[0].cosmic_rays != other.truth.science[0].cosmic_rays
    good = untouched(usual.science, usual.truth.science) & untouched(other.science, other.truth.science)
    np.testing.assert_array_equal(usual.science.var_rnoise[good], other.science.var_rnoise[good])
    pull = (usual.science.sci - other.science.sci)[good] / np.hypot(usual.science.err, other.science.err)[good]
    assert pull.std() == pytest.approx(1, abs=0.05)


def test_star_and_wavefront_wander_by_what_is_asked():
    pupil, mode = make_pupil(), MODES["nircam"]
    offsets, fronts = wander(mode, pupil, 1, 0, 40, 0.002, 5e-9)
    assert offsets.std(axis=0) == pytest.approx(0.002, rel=0.3)
    assert np.mean([rms(a - b, pupil) for a, b in itertools.pairwise(fronts)]) == pytest.approx(5e-9, rel=0.1)
    np.testing.assert_array_equal(wander(mode, pupil, 1, 0, 3, 0.002, 5e-9)[0], offsets[:3])


def test_integrations_differ_by_more_than_noise_where_the_star_is(usual):
    restless = observe("nircam", jitter_between=4.0, drift_between=10.0, **TINY)
    truth = restless.truth.science[0]
    assert truth.shift == usual.truth.science[0].shift
    assert len(set(truth.shifts)) == 4
    assert set(usual.truth.science[0].shifts) == {truth.shift}

    def scatter(seen):
        """Of the differences between integrations over their errors, where there is most light."""
        good = untouched(seen.science, seen.truth.science)[0].all(0)
        bright = good & (usual.expected_science[0] > np.quantile(usual.expected_science[0], 0.97))
        sci, err = seen.science.sci[0][:, bright], seen.science.err[0][:, bright]
        return ((sci[1:] - sci[:-1]) / np.hypot(err[1:], err[:-1])).std()

    assert scatter(usual) == pytest.approx(1.0, abs=0.15)
    assert scatter(restless) > 2


def test_telegraph_pixels_jump_between_two_levels():
    seen = observe("nircam", telegraph=0.01, **(TINY | {"nints_science": 8}))
    pixels = seen.truth.science[0].telegraph
    sci, err, dq = (getattr(seen.science, name)[0] for name in ("sci", "err", "dq"))
    assert len(pixels) == pytest.approx(0.01 * 64 * 70, rel=0.4)
    good = ~bad(seen.science)[0].any(0)
    for ray in seen.truth.science[0].cosmic_rays:
        good[ray.y, ray.x : ray.x + 2] = False
    for pixel in pixels:
        high = np.array(pixel.high)
        assert not (dq[:, pixel.y, pixel.x] & np.uint32(DQ.TELEGRAPH)).any()
        if high.any() and not high.all() and good[pixel.y, pixel.x]:
            jump = sci[high, pixel.y, pixel.x].mean() - sci[~high, pixel.y, pixel.x].mean()
            noise = err[0, pixel.y, pixel.x] * np.sqrt(1 / high.sum() + 1 / (~high).sum())
            assert jump == pytest.approx(pixel.amplitude, abs=5 * noise)
    again = seen.truth.references[0].telegraph
    assert [(p.y, p.x) for p in again] == [(p.y, p.x) for p in pixels]  # the detector's


def test_some_hits_are_negative(usual):
    seen = observe("nircam", negative=0.4, **TINY)
    hits, before = seen.truth.science[0].cosmic_rays, usual.truth.science[0].cosmic_rays
    assert [(r.y, r.x, abs(r.amplitude)) for r in hits] == [(r.y, r.x, r.amplitude) for r in before]
    negative = [r for r in hits if r.amplitude < 0]
    assert 0.1 < len(negative) / len(hits) < 0.7
    single = [r for r in negative if sum((o.y, o.x) in ((r.y, r.x), (r.y, r.x - 1)) for o in hits) == 1]
    for ray in single:
        change = seen.science.sci[0, ray.integration, ray.y, ray.x] - seen.expected_science[0, ray.y, ray.x]
        assert change / seen.science.err[0, ray.integration, ray.y, ray.x] == pytest.approx(ray.significance, abs=8)


def test_files_misplace_the_star_and_the_truth_keeps_it(usual, tmp_path):
    made = simulate("nircam", tmp_path, crpix_error=8.0, **TINY)
    errors = [exposure.crpix_error for exposure in made.truth.exposures]
    assert len(set(errors)) == 2
    for k, exposure in enumerate(made.truth.exposures):
        assert 0 < np.hypot(*exposure.crpix_error) <= 8
        header = fits.getheader(made.members[k], "SCI")
        there = np.add(exposure.star, exposure.crpix_error)
        np.testing.assert_allclose((header["CRPIX1"] - 1, header["CRPIX2"] - 1), there)
        keywords, in_gwcs = WCS(header, naxis=2), make_gwcs(astrometry_of(made.truth, k, in_file=True), TINY["shape"])
        np.testing.assert_allclose(keywords.all_pix2world(*there, 0), exposure.sky, atol=1e-10)
        np.testing.assert_allclose(in_gwcs(*there), exposure.sky, atol=1e-10)
        np.testing.assert_allclose(astrometry_of(made.truth, k).to_sky(*exposure.star), exposure.sky, atol=1e-10)
    assert made.truth.exposures[0].star == usual.truth.exposures[0].star
    np.testing.assert_array_equal(fits.getdata(made.members[0], "SCI"), usual.science.sci[0])
    assert all(exposure.crpix_error == (0.0, 0.0) for exposure in usual.truth.exposures)


def test_stored_gwcs_has_the_error_too(tmp_path):
    from coronjax.io.exposure import read_exposure
    from coronjax.io.wcs import exposure_wcs

    made = simulate("miri_lyot", tmp_path, crpix_error=8.0, **TINY)
    exposure = made.truth.exposures[0]
    wcs, notes = exposure_wcs(read_exposure(made.members[0]))
    assert not notes
    found = wcs(*np.add(exposure.star, exposure.crpix_error))
    np.testing.assert_allclose(found, exposure.sky, atol=1e-10)


@pytest.mark.parametrize("mode", ["miri_4qpm", "miri_lyot"])
def test_glow_goes_with_the_median_of_the_backgrounds(mode):
    """All exposures share the glow; without it and the background left in, star and companions remain."""
    seen, dark = (observe(mode, n_backgrounds=2, glow=g, **TINY) for g in (0.5, 0.0))
    _, filter = find_mode(mode)
    glow = seen.expected_science[0] - dark.expected_science[0]
    assert glow.max() == pytest.approx(0.5 * filter.background * filter.photmjsr, rel=1e-5)
    np.testing.assert_allclose(seen.expected_references[0] - dark.expected_references[0], glow, atol=1e-5)
    assert seen.backgrounds.sci.shape == (2, 4, *TINY["shape"])
    good = untouched(seen.science, seen.truth.science)[0] & ~bad(seen.backgrounds).any((0, 1))
    level = np.median(np.where(bad(seen.backgrounds), 0, seen.backgrounds.sci), axis=(0, 1))
    star = dark.expected_science[0] - filter.background * filter.photmjsr * MODES[mode].background_left
    pull = ((seen.science.sci[0] - level - star) / seen.science.err[0])[good]
    assert ((seen.science.sci[0] - star) / seen.science.err[0])[good].std() > 10
    assert 1.0 < pull.std() < 1.35  # the median of eight adds 0.19 of the variance, its hits and flat errors little
    assert not ((seen.backgrounds.dq & np.uint32(DQ.SATURATED)) != 0).any()


def test_glow_of_four_quadrants_lies_on_their_boundaries():
    seen, dark = (observe("miri_4qpm", glow=g, **TINY) for g in (1.0, 0.0))
    glow = (seen.expected_science - dark.expected_science)[0]
    x, y = (round(c) for c in seen.truth.mask_centre)
    corners = glow[y + 20, x + 20], glow[y - 20, x - 20], glow[y + 20, x - 20]
    assert glow[y, x + 20] > 5 * max(corners)
    assert glow[y + 20, x] > 3 * max(corners)


def test_backgrounds_are_members_of_the_association(tmp_path):
    made = simulate("miri_4qpm", tmp_path, n_backgrounds=2, glow=0.3, **TINY)
    members = json.loads(made.asn.read_text())["products"][0]["members"]
    assert [member["exptype"] for member in members] == ["science", "psf", "background", "background"]
    assert len({member["expname"] for member in members}) == 4
    assert [e.kind for e in made.truth.exposures[2:]] == ["background"] * 2 == [e.kind for e in made.truth.backgrounds]
    for path in made.members[2:]:
        header = fits.getheader(path)
        assert (header["TARGPROP"], header["EXP_TYPE"]) == ("TARGET-BACKGROUND", "MIR_4QPM")
        assert header["BKGDTARG"]
        assert not header["IS_PSF"]
        assert fits.getheader(path, "SCI")["NAXIS3"] == 4
    assert made.truth.backgrounds[0].sky != made.truth.backgrounds[1].sky


def test_exposures_of_different_lengths(tmp_path):
    settings = TINY | {"n_science": 2, "nints_science": (3, 1), "nints_references": 1}
    seen = observe("nircam", **settings)
    assert seen.science.valid.tolist() == [[True, True, True], [True, False, False]]
    assert np.isnan(seen.science.sci[1, 1:]).all()
    assert (seen.science.dq[1, 1:] == np.uint32(DQ.DO_NOT_USE)).all()
    assert seen.references.sci.shape[:2] == (1, 1)
    made = simulate("nircam", tmp_path, **settings)
    lengths = [(fits.getval(p, "NINTS"), fits.getheader(p, "SCI")["NAXIS3"]) for p in made.members]
    assert lengths == [(3, 3), (1, 1), (1, 1)]
    np.testing.assert_array_equal(fits.getdata(made.members[1], "SCI"), seen.science.sci[1, :1])


@pytest.mark.parametrize(
    "settings",
    [{"glow": 1.0}, {"telegraph": 2.0}, {"negative": -0.1}, {"jitter_between": -1.0}, {"noise_seed": -1},
     {"n_backgrounds": -1}, {"nints_science": (1, 2)}, {"crpix_error": np.nan}],
    ids=str,
)  # fmt: skip
def test_numbers_that_make_no_sense(settings):
    with pytest.raises(OptionsError):
        observe("nircam", **{**TINY, **settings})
