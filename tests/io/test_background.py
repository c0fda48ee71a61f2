"""The background: what a median of dithers keeps out, how noisy it is, and whose background it is."""

import dataclasses

import numpy as np
import pytest

from coronjax.cube import Cube
from coronjax.io.background import background_cards, background_image, match_backgrounds, subtract_backgrounds

from .sky_files import pointing, sky_exposure

SHAPE = (40, 36)
SIGMA = 0.3


def glow():
    """A slope and a bump, as the glow of MIRI has them."""
    y, x = np.indices(SHAPE)
    return (20 + 0.1 * x + 8 * np.exp(-(((y - 20) / 6) ** 2))).astype(np.float32)


def exposure(folder, name, sky, *, seed=0, planes=2, at=(86.8, -51.07), sigma=SIGMA, **keywords):
    """An exposure of a sky, with the noise that its variances state."""
    made = sky_exposure(folder / name, planes=planes, shape=SHAPE, sky=pointing(SHAPE, at=at), gwcs=False, **keywords)
    sci = sky + np.random.default_rng(seed).normal(0, sigma, (planes, *SHAPE))
    half = np.full(sci.shape, sigma**2 / 2, np.float32)
    cube = Cube(sci.astype(np.float32), np.sqrt(3 * half), np.zeros(sci.shape, np.uint32), np.ones(planes, bool))
    cube = dataclasses.replace(cube, var_poisson=half, var_rnoise=half, var_flat=half)
    return dataclasses.replace(made, cube=cube)


@pytest.mark.parametrize("planes", [(1, 1), (1, 1, 1), (4,), (2, 2), (3, 5), (2, 2, 2, 2, 2)])
def test_the_variance_is_that_of_the_noise(tmp_path, planes):
    dithers = [exposure(tmp_path, f"b{i}.fits", glow(), seed=i, planes=n) for i, n in enumerate(planes)]
    found = background_image(dithers)
    pull = (found.level - glow()) / np.sqrt(found.variance)
    assert found.n == len(planes)
    assert np.std(pull) == pytest.approx(1, abs=4 / np.sqrt(2 * pull.size) + 0.02)
    assert abs(np.mean(pull)) < 4 / np.sqrt(pull.size)


@pytest.mark.parametrize("planes", [(1, 1), (1, 1, 1), (3, 3), (2, 2)])
def test_stars_of_one_dither_and_cosmic_rays_are_left_out(tmp_path, planes):
    dithers = [exposure(tmp_path, f"b{i}.fits", glow() + 0.2 * i, seed=i, planes=n) for i, n in enumerate(planes)]
    dithers[0].cube.sci[:, 10:13, 10:13] += 50  # a star
    dithers[1].cube.sci[-1, 30, 5] += 1000  # a cosmic ray
    found = background_image(dithers)
    offset = np.median(found.level - glow())
    for place in (np.s_[10:13, 10:13], np.s_[30, 5]):
        excess = (found.level - glow() - offset)[place] / np.sqrt(found.variance[place])
        assert np.all(np.abs(excess) < 5)
        # A drift of the sky between dithers is no reason to take the lower one everywhere.
    assert offset == pytest.approx(0.2 * (len(planes) - 1) / 2, abs=0.05)


def test_every_dither_counts_the_same(tmp_path):
    dithers = [exposure(tmp_path, f"b{i}.fits", 10.0 + i, planes=n) for i, n in enumerate((2, 9, 4))]
    assert np.median(background_image(dithers).level) == pytest.approx(11, abs=0.02)


def test_bad_pixels_take_no_part_and_the_unknown_is_flagged(tmp_path):
    dithers = [exposure(tmp_path, f"b{i}.fits", glow(), seed=i) for i in range(3)]
    for dither in dithers:
        dither.cube.sci[:, 5, 5] = 1e6
        dither.cube.dq[:, 5, 5] = 1
        dither.cube.sci[0, 6, 6] = np.nan
    science = exposure(tmp_path, "s.fits", glow() + 3, seed=9)
    found = subtract_backgrounds([science], dithers)
    (image,), (cube,) = found.images, (found.exposures[0].cube,)
    assert np.isnan(image.level[5, 5])
    assert np.isfinite(image.level).sum() == image.level.size - 1
    np.testing.assert_array_equal(cube.dq[:, 5, 5], 1)
    assert cube.dq.sum() == len(cube.dq)
    np.testing.assert_array_equal(cube.sci[:, 5, 5], science.cube.sci[:, 5, 5])
    good = cube.dq == 0
    assert np.mean(cube.sci[good]) == pytest.approx(3, abs=0.03)
    assert np.std(cube.sci[good]) == pytest.approx(np.sqrt(SIGMA**2 + np.nanmedian(image.variance)), rel=0.05)
    for name in ("err", "var_poisson", "var_rnoise", "var_flat"):  # the shared noise is not mixed into that of one
        np.testing.assert_array_equal(getattr(cube, name), getattr(science.cube, name))
    assert cube.sci.dtype == np.float32
    assert science.cube.dq.sum() == 0


def test_whose_background_it_is(tmp_path):
    def named(name, target, **keywords):
        return exposure(tmp_path, f"{name}.fits", 0.0, planes=1, TARGPROP=target, **keywords)

    star, reference = named("s", "HIP-65426"), named("r", "HIP-68245", at=(88.5, -50.2))
    by_name = [named("a", "HIP-68245-BKG"), named("b", "HIP65426 BACK"), named("c", "HIP65426 BACK")]
    assert match_backgrounds([star, reference], by_name) == ((1, 2), (0,))
    by_place = [named("d", "EMPTY-1", at=(88.51, -50.2)), named("e", "EMPTY-2", at=(86.8, -51.0))]
    assert match_backgrounds([star, reference], by_place) == ((1,), (0,))
    assert match_backgrounds([star, reference], by_name[:1]) == ((0,), (0,))
    assert match_backgrounds([star], []) == ((),)
    done = named("f", "HIP-65426", S_BKDSUB="COMPLETE")
    found = subtract_backgrounds([done, star], by_name)
    assert found.images[0] is None
    assert found.exposures[0] is done
    assert any("f.fits: S_BKDSUB='COMPLETE'" in note for note in found.notes)


def test_notes_and_cards(tmp_path):
    science = exposure(tmp_path, "s.fits", glow(), NGROUPS=10)
    one = exposure(tmp_path, "b.fits", glow(), NGROUPS=20)
    found = subtract_backgrounds([science, science], [one])
    assert found.images[0] is found.images[1]
    assert any("one background exposure" in note for note in found.notes)
    assert any("NGROUPS=20" in note for note in found.notes)
    cards = background_cards(found.images[0])
    assert cards["S_BKDSUB"][0] == "COMPLETE"
    assert cards["BKGDEXP"][0] == 1
    assert cards["BKGDMED"][0] == pytest.approx(np.median(glow()), abs=0.3)
    assert "40 x 36 pixels" in repr(found.images[0])
    nothing = subtract_backgrounds([science], [])
    assert nothing.exposures == (science,)
    assert nothing.images == (None,)
    assert nothing.notes == ()


def test_no_exposure():
    with pytest.raises(ValueError, match="at least one exposure"):
        background_image([])
