"""A cosmic ray in one of two integrations flags that one: against the simulator's truth, and with known values."""

import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.io import fits

from coronjax import ops
from coronjax.cube import DQ, Cube
from coronjax.frames import flag_all
from coronjax.ops import nanmedian
from coronjax.options import Options, OutlierDetection
from coronjax.simulate.modes import MODES, find_mode
from coronjax.simulate.observation import mask_centre
from coronjax.simulate.optics import make_coronagraph, psf
from coronjax.simulate.scene import plan, rms, wavefronts

READ_NOISE = 11.0  # e-
flag_outliers, predict_star = jax.jit(ops.flag_outliers), jax.jit(ops.predict_star)


def make_cube(sci, err):
    sci = np.asarray(sci, np.float32)
    err = np.broadcast_to(np.float32(err), sci.shape)
    dq = np.where(np.isnan(sci), np.uint32(DQ.DO_NOT_USE), np.uint32(0))
    third = err**2 / 3
    return jax.tree.map(jnp.asarray, Cube(sci, err, dq, np.ones(len(sci), bool), third, third, third))


def star_pairs(mode, filter=None, seed=1, size=72, n_references=4, jitter=0.002, drift=5e-9):
    """Exposures of two integrations with noise, e-/s; the first is the target, the others dithered references.

    The star moves by `jitter` arcsec (rms of each axis) and the wavefront by `drift` metres between the two.
    """
    of, band = find_mode(mode, filter)
    coronagraph, shape, rng = make_coronagraph(mode, band.name), (size, size), np.random.default_rng([seed, size])
    centre, count = mask_centre(shape), 1 + n_references
    fronts, rates = wavefronts(of, coronagraph.pupil, seed, count), []
    for pointing, front in zip(plan(of, seed, 1, n_references, 10.0), fronts, strict=True):
        change = np.tensordot(rng.normal(size=len(coronagraph.pupil.basis)), coronagraph.pupil.basis, 1)
        later = front + change * drift / rms(change, coronagraph.pupil)
        source = np.array(pointing.source)
        moved = source + rng.normal(0, jitter, 2)
        images = [psf(coronagraph, w, s, centre, shape) for w, s in ((front, source), (later, moved))]
        rates.append(np.array(images) * band.star * pointing.brightness + band.background)
    rate, time = np.array(rates), of.integration
    sci = (rng.poisson(rate * time) + rng.normal(0, READ_NOISE, rate.shape)) / time
    err = np.sqrt(rate / time + (READ_NOISE / time) ** 2 + (0.002 * rate) ** 2)
    y, x = np.mgrid[:size, :size]
    return sci, err, np.hypot(x - centre[0], y - centre[1]) * of.pixel_scale, rng


@jax.jit
def detect(cube, planes, valid):
    prediction = predict_star(planes, jnp.ones(planes.shape, bool), valid, cube)
    return flag_outliers(cube, prediction=prediction)


def detect_in(sci, err, references, own=None):
    valid = np.arange(len(references)) != (-1 if own is None else own)
    return detect(make_cube(sci, err), jnp.asarray(references, jnp.float32), valid)


def scattered(rng, shape, step=5):
    """Pixels that are not each other's neighbours, and the integration of each."""
    where = np.zeros((2, *shape), bool)
    y, x = np.mgrid[2 : shape[0] - 2 : step, 2 : shape[1] - 2 : step]
    where[rng.integers(0, 2, y.shape), y, x] = True
    return where


def outcome(found, where):
    """Shares of the hits of which the right, the wrong integration, or both are marked."""
    flagged, undecided = np.asarray(found.flagged), np.asarray(found.undecided)
    return [float(a[b].mean()) for a, b in ((flagged, where), (flagged, where[::-1]), (undecided, where))]


def inject(mode, sigmas, seed=1, filter=None, exposures=1):
    """Outcome of hits where ten errors exceed what the star's light may differ by."""
    sci, err, _, rng = star_pairs(mode, filter, seed)
    references = np.asarray(nanmedian_of(sci[1:]))
    results = []
    for k in range(exposures):
        where = scattered(rng, sci.shape[-2:])
        hit = sci[k] + np.where(where, sigmas * err[k], 0)
        results.append(outcome(detect_in(hit, err[k], references, k - 1 if k else None), where))
    return np.mean(results, axis=0)


def nanmedian_of(pairs):
    return np.array([nanmedian(jnp.asarray(p, jnp.float32), jnp.ones(p.shape, bool)) for p in pairs])


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("amplitude", [30.0, -30.0])
def test_the_prediction_tells_which_integration_is_wrong(where, amplitude):
    sci = np.full((2, 9, 9), 100.0)
    sci[where, 4, 4] += amplitude
    found = flag_outliers(make_cube(sci, 1.0), prediction=jnp.full((9, 9), 100.0, jnp.float32))
    assert np.argwhere(found.flagged).tolist() == [[where, 4, 4]]
    assert int(found.cube.dq[where, 4, 4]) == DQ.DO_NOT_USE | DQ.OUTLIER
    assert np.isnan(found.cube.sci[where, 4, 4])
    assert found.cube.sci[1 - where, 4, 4] == 100.0


def test_without_prediction_the_neighbours_tell():
    sci = np.full((2, 9, 9), 100.0)
    sci[0, 4, 4], sci[1, 2, 6] = 200.0, 20.0
    found = flag_outliers(make_cube(sci, 1.0))
    assert np.argwhere(found.flagged).tolist() == [[0, 4, 4], [1, 2, 6]]


def test_official_pairs_lose_both():
    sci = np.full((2, 9, 9), 100.0)
    sci[0, 4, 4] = 200.0
    found = flag_outliers(make_cube(sci, 1.0), options=OutlierDetection(pairs="both"))
    assert np.argwhere(found.flagged).tolist() == [[0, 4, 4], [1, 4, 4]]


def test_a_hit_on_two_pixels_is_taken_off_whole():
    sci = np.full((2, 9, 9), 1.0)
    sci[1, 4, 4], sci[1, 4, 5] = 300.0, 120.0
    found = flag_outliers(make_cube(sci, 1.0), prediction=jnp.ones((9, 9), jnp.float32))
    assert np.argwhere(found.flagged).tolist() == [[1, 4, 4], [1, 4, 5]]


def test_error_of_an_undecided_pair_covers_the_difference():
    """A telegraph pixel that is as far above the prediction as below it."""
    sci = np.full((2, 9, 9), 100.0)
    sci[0, 4, 4], sci[1, 4, 4] = 107.0, 86.0
    found = flag_outliers(make_cube(sci, 1.0), prediction=jnp.full((9, 9), 100.0, jnp.float32))
    sci[:, 4, 4] = 120.0, 80.0
    undecided = flag_outliers(make_cube(sci, 2.0), prediction=jnp.full((9, 9), 100.4, jnp.float32))
    assert not np.asarray(found.undecided).any()
    assert np.asarray(found.flagged)[1, 4, 4]
    cube = undecided.cube
    assert np.argwhere(undecided.undecided).tolist() == [[0, 4, 4], [1, 4, 4]]
    assert not np.asarray(undecided.flagged).any()
    assert (np.asarray(cube.dq)[:, 4, 4] == DQ.OUTLIER).all()
    of_mean = np.sqrt(np.sum(np.asarray(cube.err)[:, 4, 4] ** 2)) / 2
    assert 20.0 < of_mean < 20.2  # half of the difference, and the noise
    total = cube.var_poisson + cube.var_rnoise + cube.var_flat
    np.testing.assert_allclose(total, cube.err**2, rtol=1e-5)


def test_of_three_integrations_the_two_good_ones_make_a_pair():
    sci = np.full((3, 9, 9), 100.0)
    sci[1, 4, 4], sci[2, 4, 4] = np.nan, 150.0
    sci[0, 6, 6] = 150.0  # three are good here: the median decides
    found = flag_outliers(make_cube(sci, 1.0), prediction=jnp.full((9, 9), 100.0, jnp.float32))
    assert np.argwhere(found.flagged).tolist() == [[0, 6, 6], [2, 4, 4]]


def test_two_integrations_and_padding_are_a_pair():
    sci = np.full((3, 9, 9), 100.0)
    sci[1, 4, 4], sci[2] = 150.0, np.nan
    cube = make_cube(sci, 1.0)
    cube = Cube(**{**vars(cube), "valid": jnp.array([True, True, False])})
    found = flag_outliers(cube, prediction=jnp.full((9, 9), 100.0, jnp.float32))
    assert np.argwhere(found.flagged).tolist() == [[1, 4, 4]]


def test_one_good_integration_is_left_alone():
    sci = np.full((2, 9, 9), 100.0)
    sci[0, 4, 4], sci[1, 4, 4] = 150.0, np.nan
    assert not np.asarray(flag_outliers(make_cube(sci, 1.0)).flagged).any()


def test_prediction_scales_and_moves_the_star():
    """A dither of a fifth of a pixel and another brightness: 2 % of the peak are left, a cosmic ray notwithstanding."""
    y, x = np.mgrid[:40, :40] - 19.5
    star = [np.exp(-((x - dx) ** 2 + y**2) / 18) for dx in (0.0, 0.2)]
    sci = np.repeat((300 * star[1] + 7)[None], 2, 0)
    sci[0, 5, 5] += 1e4
    cube, planes = make_cube(sci, 1.0), jnp.asarray(star[0], jnp.float32)[None]
    found = predict_star(planes, jnp.ones(planes.shape, bool), jnp.ones(1, bool), cube)
    assert found.dtype == jnp.float32
    assert np.abs(found - sci[1]).max() < 6.0
    none = predict_star(planes, jnp.ones(planes.shape, bool), jnp.zeros(1, bool), cube)
    assert np.isnan(none).all()


def test_a_star_that_moves_is_no_cosmic_ray():
    sci, err, radius, _ = star_pairs("nircam", size=64, n_references=2)
    found = detect_in(sci[0], err[0], nanmedian_of(sci[1:]))
    assert (np.abs(sci[0, 0] - sci[0, 1]) > 5 * np.hypot(*err[0]))[radius < 1].mean() > 0.03  # it does move
    assert (np.asarray(found.flagged).any(0) | np.asarray(found.undecided).any(0))[radius < 1].mean() < 0.001


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*MODES])
def test_false_flags_near_the_star(mode):
    marked = total = 0
    for seed in (1, 2, 3):
        sci, err, radius, _ = star_pairs(mode, seed=seed)
        references = nanmedian_of(sci[1:])
        for k in range(len(sci)):
            found = detect_in(sci[k], err[k], references, k - 1 if k else None)
            flagged = np.asarray(found.flagged).any(0) | np.asarray(found.undecided).any(0)
            marked, total = marked + flagged[radius < 1].sum(), total + (radius < 1).sum()
    assert marked / total < 0.001


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*MODES])
@pytest.mark.parametrize("sigmas", [30.0, -30.0])
def test_hits_are_found_where_they_are(mode, sigmas):
    """Negative ones (telegraph noise has both) are left undecided more often."""
    right, wrong, undecided = np.mean([inject(mode, sigmas, seed, exposures=4) for seed in (1, 2)], axis=0)
    assert right + undecided > 0.95
    assert right > (0.95 if sigmas > 0 else 0.9)
    assert wrong < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*MODES])
def test_hits_of_ten_sigma(mode):
    """Where the star is faint they are found; where its changes outweigh them, they are not laid to the wrong plane."""
    right, wrong, _ = np.mean([inject(mode, 10.0, seed, exposures=4) for seed in (1, 2)], axis=0)
    assert wrong < 0.01
    if mode == "miri_lyot":
        assert right > 0.95


DATA = Path(__file__).parents[3] / "shared/data/official/nircam_bar/input"


@pytest.mark.skipif(not DATA.exists(), reason=f"needs {DATA}")
def test_cosmic_rays_of_another_simulator():
    """The first two integrations of each exposure, the truth beside them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers of the files
        exposures = {e["file"]: e for e in json.loads((DATA / "truth.json").read_text())["exposures"]}
        cubes = {}
        for name in exposures:
            with fits.open(DATA / name) as file:
                sci, err, dq = (np.asarray(file[part].data[:2]) for part in ("SCI", "ERR", "DQ"))
            cubes[name] = Cube(*(jnp.asarray(a.astype(a.dtype.newbyteorder("="))) for a in (sci, err, dq)),
                               valid=jnp.ones(len(sci), bool))  # fmt: skip
    references = [name for name in exposures if exposures[name]["kind"] == "psf"]
    planes = jnp.stack([nanmedian(cubes[n].sci, jnp.isfinite(cubes[n].sci)) for n in references])
    right = wrong = total = 0
    for name, cube in cubes.items():
        found = detect(cube, planes, np.array([n != name for n in references]))
        flagged, usable = np.asarray(found.flagged), np.isfinite(cube.sci).all(0)
        for ray in exposures[name]["cosmic_rays"]:
            k, y, x = ray["int"], ray["y"], ray["x"]
            if k < 2 and usable[y, x]:
                right, wrong, total = right + flagged[k, y, x], wrong + flagged[1 - k, y, x], total + 1
    assert total > 80
    assert right / total > 0.85
    assert wrong / total < 0.01


@pytest.mark.parametrize("pairs", ["both", "prediction"])
def test_an_exposure_that_is_padding_changes_nothing(pairs):
    rng = np.random.default_rng(7)
    sci = 50 + rng.normal(size=(3, 3, 9, 9))
    sci[1, 2, 4, 4], sci[2], sci[2, 0, 0, 0] = 500, 1e6, np.nan
    exposures = [make_cube(planes, 1.0) for planes in sci]
    exposures[2] = replace(exposures[2], valid=jnp.zeros(3, bool))
    some, all_of_them = (jax.tree.map(lambda *a: jnp.stack(a), *exposures[:n]) for n in (2, 3))
    options = Options(outlier_detection=OutlierDetection(pairs=pairs))
    expected, science = jax.jit(partial(flag_all, options=options))(some, some)
    found, _ = jax.jit(partial(flag_all, options=options))(all_of_them, some)
    assert expected.dq[1, 2, 4, 4] == science.dq[1, 2, 4, 4] == DQ.DO_NOT_USE | DQ.OUTLIER
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:2], b), found, expected)
    padding = jax.tree.map(lambda a: a[2], found)
    assert np.flatnonzero(padding.dq).tolist() == np.flatnonzero(np.isnan(padding.sci)).tolist() == [0]
    assert padding.dq[0, 0, 0] == DQ.DO_NOT_USE
