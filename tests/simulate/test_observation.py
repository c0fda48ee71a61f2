"""Observations in memory: noise, flags, truth."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.cube import DQ
from coronjax.errors import OptionsError
from coronjax.simulate import MODES, Companion, companion_image, companion_position, find_mode, observe
from coronjax.simulate.detector import expose, make_detector
from coronjax.simulate.scene import plan, rms, wavefronts

SMALL = {"shape": (72, 80), "n_references": 2, "nints_science": 3, "nints_references": 2}


@pytest.fixture(scope="module")
def nircam():
    return observe("nircam", **SMALL)


def flagged(dq, bit):
    return (dq & np.uint32(bit)) != 0


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode):
    seen = observe(mode, shape=(64, 72), n_science=1, n_references=1, nints_science=2, nints_references=2)
    cube, truth = seen.science, seen.truth
    assert cube.sci.shape == cube.dq.shape == (1, 2, 64, 72)
    assert cube.sci.dtype == np.float32
    assert cube.dq.dtype == np.uint32
    bad = flagged(cube.dq, DQ.DO_NOT_USE)
    for array in (cube.sci, cube.err, cube.var_poisson, cube.var_rnoise, cube.var_flat):
        np.testing.assert_array_equal(np.isnan(array), bad)
    for bit in (DQ.HOT, DQ.DEAD, DQ.WARM, DQ.NON_SCIENCE, DQ.SATURATED, DQ.JUMP_DET):
        assert flagged(cube.dq, bit).any(), bit.name
    variances = cube.var_poisson + cube.var_rnoise + cube.var_flat
    np.testing.assert_allclose(cube.err[~bad] ** 2, variances[~bad], rtol=1e-5)
    assert ((seen.psf_mask >= 0) & (seen.psf_mask <= 1)).all()
    assert (seen.psf_mask[flagged(cube.dq[0, 0], DQ.NON_SCIENCE)] == 0).all()
    assert all(e.suppression < 0.03 * MODES[mode].stop for e in truth.exposures)
    for companion in truth.exposures[0].companions:
        assert 0 < companion.through_mask < 1.05


def test_noise_has_the_variance_that_the_files_state():
    mode, filter = find_mode("nircam")
    rng, shape = np.random.default_rng(5), (64, 64)
    detector = make_detector(rng, mode, shape, (31.5, 31.5))
    rate = np.full(shape, 40.0)
    rate[20, 20] = 400.0  # what saturates
    taken = expose(rng, detector, mode, filter, rate, 40)
    stated = taken.var_poisson + taken.var_rnoise  # the error of the flat is the same in every integration
    hit = np.zeros(taken.sci.shape, bool)
    for ray in taken.cosmic_rays:
        hit[ray.integration, ray.y, ray.x : ray.x + 2] = True
    good = ~hit.any(0) & ~np.isnan(taken.sci).any(0) & (rate < 100)
    ratio = taken.sci[:, good].astype(float).var(axis=0, ddof=1) / stated[0, good]
    assert ratio.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / 39 / good.sum()))
    level = taken.sci[:, good].astype(float).mean(0) / (41.5 * filter.photmjsr)
    assert level.std() == pytest.approx(0.002, rel=0.5)
    assert level.mean() == pytest.approx(1.0, abs=1e-3)


def test_cosmic_rays_are_where_the_truth_says(nircam):
    for k, exposure in enumerate(nircam.truth.science):
        data = nircam.science.sci[k].astype(float)
        reached = [(ray.y, ray.x + dx) for ray in exposure.cosmic_rays for dx in (0, 1)]
        for ray in exposure.cosmic_rays:
            if reached.count((ray.y, ray.x)) > 1:
                continue
            others = [i for i in range(len(data)) if i != ray.integration]
            jump = data[ray.integration, ray.y, ray.x] - np.median(data[others, ray.y, ray.x])
            assert jump == pytest.approx(ray.amplitude, abs=8 * ray.amplitude / ray.significance)
            assert not flagged(nircam.science.dq[k, ray.integration, ray.y, ray.x], DQ.DO_NOT_USE)


def test_pointing_moves_the_star_and_not_the_mask(nircam):
    stars = np.array([e.star for e in nircam.truth.exposures])
    shifts = np.array([e.shift for e in nircam.truth.exposures])
    np.testing.assert_allclose(stars - shifts, np.tile(nircam.truth.mask_centre, (len(stars), 1)))
    assert (np.ptp(stars, axis=0) > 0.02).all()
    assert abs(shifts).max() < 1


def test_references_walk_a_small_grid():
    mode = MODES["nircam"]
    pointings = plan(mode, 1, 2, 9, 10.0)
    psf = [p for p in pointings if p.kind == "psf"]
    offsets = np.array([p.source for p in psf]) - np.array([p.step for p in psf])
    assert len({p.step for p in psf}) == 9
    assert offsets.std(axis=0).max() < 3 * mode.pointing  # one acquisition, nine dithers
    rolls = [p.roll for p in pointings if p.kind == "science"]
    assert rolls[1] - rolls[0] == pytest.approx(10.0)


def test_wavefront_drifts_by_nanometres():
    from coronjax.simulate import make_pupil

    mode, pupil = MODES["nircam"], make_pupil()
    fronts = wavefronts(mode, pupil, 3, 12)
    steps = [rms(b - a, pupil) for a, b in itertools.pairwise(fronts)]
    assert rms(fronts[0], pupil) == pytest.approx(mode.wavefront, rel=0.5)
    assert np.mean(steps) == pytest.approx(mode.drift, rel=0.3)


def test_same_seed_same_numbers_other_seed_others(nircam):
    again, other = observe("nircam", **SMALL), observe("nircam", seed=2, **SMALL)
    for a, b in zip(jax.tree.leaves(nircam.science), jax.tree.leaves(again.science), strict=True):
        np.testing.assert_array_equal(a, b)
    assert nircam.truth == again.truth
    assert nircam.truth.exposures[0].star != other.truth.exposures[0].star
    assert not np.array_equal(nircam.science.sci, other.science.sci, equal_nan=True)


def test_more_references_leave_the_others_alone(nircam):
    more = observe("nircam", **{**SMALL, "n_references": 3})
    np.testing.assert_array_equal(more.science.sci, nircam.science.sci)
    np.testing.assert_array_equal(more.references.sci[:2], nircam.references.sci)


def test_companion_image_is_what_was_put_in():
    """Two observations of one seed, with and without a companion, differ by its image within the noise."""
    companion = Companion(1.3, 80.0, 3e-4)
    settings = {"shape": (64, 64), "n_science": 1, "n_references": 1, "nints_science": 6, "nints_references": 1}
    with_it, without = (observe("nircam", companions=c, **settings) for c in ([companion], []))
    position = companion_position(with_it.truth, 0, companion.separation, companion.position_angle)
    placed = with_it.truth.exposures[0].companions[0]
    assert position == (placed.x, placed.y)
    model = companion.contrast * companion_image(with_it.truth, 0, position)
    assert model.max() == pytest.approx(placed.peak)
    difference = np.median((with_it.science.sci - without.science.sci)[0], axis=0)
    core = (model > 0.2 * model.max()) & np.isfinite(difference)
    assert (difference[core] * model[core]).sum() / (model[core] ** 2).sum() == pytest.approx(1.0, abs=0.05)
    template = jax.jit(lambda p: companion_image(with_it.truth, 0, p))(jnp.array(position))
    np.testing.assert_allclose(companion.contrast * template, model, rtol=1e-6, atol=1e-9)


def test_mask_dims_a_companion_close_to_the_star(nircam):
    near, far = nircam.truth.exposures[0].companions[:2]
    assert near.through_mask < 0.7 < far.through_mask


def test_pixel_maps_put_the_star_in_the_middle_and_north_up(nircam):
    for k, exposure in enumerate(nircam.truth.science):
        for companion, placed in zip(nircam.truth.companions, exposure.companions, strict=True):
            x, y = round(placed.x), round(placed.y)
            frac = np.array([placed.x - x, placed.y - y])
            here = nircam.pixel_maps[k, y, x]
            slope = np.stack([nircam.pixel_maps[k, y, x + 1] - here, nircam.pixel_maps[k, y + 1, x] - here], axis=1)
            offset = here + slope @ frac - [40, 36]
            angle = np.deg2rad(companion.position_angle)
            expected = companion.separation / nircam.truth.pixel_scale * np.array([-np.sin(angle), np.cos(angle)])
            np.testing.assert_allclose(offset, expected, atol=1e-3)


def test_truth_is_frozen_and_becomes_json(nircam):
    with pytest.raises(dataclasses.FrozenInstanceError):
        nircam.truth.seed = 3
    tree = json.loads(nircam.truth.to_json(("a.fits",)))
    assert tree["exposures"][0]["file"] == "a.fits"
    assert tree["companions"][0]["contrast"] == nircam.truth.companions[0].contrast


@pytest.mark.parametrize(
    "settings",
    [{"companions": [(9.0, 0.0, 1e-3)]}, {"n_references": 0}, {"shape": (16, 16)}, {"seed": -1}],
    ids=str,
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(OptionsError):
        observe("nircam", **{**SMALL, **settings})
