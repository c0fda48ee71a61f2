"""Where pixels fall: FITS keywords against astropy, the output grid against its definition and the official one."""

import dataclasses
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from coronjax.errors import ExposureError, OptionsError
from coronjax.io.association import read_association
from coronjax.io.exposure import read_exposure
from coronjax.io.footprint import parse_s_region
from coronjax.io.sip import gwcs_from_keywords
from coronjax.io.tree import with_wcs
from coronjax.io.wcs import exposure_footprints, exposure_wcs, output_grid, pixel_map

from .files import ABSENT, SHARED
from .sky_files import SCALE, Bare, gwcs_of, pointing, sky_exposure, sky_hdus

CASES = ("official/nircam", "official/nircam_bar", "official/miri_4qpm", "official/miri_lyot", "aumic_f444w")


@pytest.fixture
def exposure(tmp_path):
    return sky_exposure(tmp_path / "a_calints.fits")


def changed(exposure, **keywords):
    """The exposure with other SCI keywords; None removes one."""
    header = exposure.sci_header.copy()
    for key, value in keywords.items():
        if value is None:
            header.remove(key)
        else:
            header[key] = value
    return dataclasses.replace(exposure, headers=exposure.headers | {"SCI": header})


@pytest.mark.parametrize("sip", [True, False])
@pytest.mark.parametrize("at", [(86.8, -51.07), (0.0001, 89.9), (359.9999, 0.0)])
def test_keywords_as_astropy_reads_them(sip, at):
    header = fits.Header(pointing(at=at, sip=sip))
    wcs = gwcs_from_keywords(Bare(header, (1, 24, 20)))
    y, x = np.indices((24, 20), dtype=float)
    ra, dec = WCS(header).all_pix2world(x, y, 0)
    found = wcs(x, y)
    np.testing.assert_allclose((found[0] - ra + 180) % 360 - 180, 0, atol=1e-11)
    np.testing.assert_allclose(found[1], dec, atol=1e-11)
    assert np.isnan(wcs(-0.6, 5)).all()


def test_inverse_polynomials():
    keywords = pointing() | {
        "AP_ORDER": 2,
        "BP_ORDER": 2,
        "AP_2_0": -4e-5,
        "AP_1_1": 6e-5,
        "BP_0_2": 7e-5,
        "BP_1_1": 0.0,
    }
    wcs = gwcs_from_keywords(Bare(fits.Header(keywords), (1, 24, 20)))
    np.testing.assert_allclose(wcs.invert(*wcs(7.0, 4.0), with_bounding_box=False), (7, 4), atol=1e-2)


def test_scale_where_the_distortion_has_no_inverse(tmp_path):
    """The reference point is found all the same: there the SIP polynomials change nothing."""
    keywords = pointing(roll=0.0)
    grid = output_grid([sky_exposure(tmp_path / "a.fits", sky=keywords)])
    x, y = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    ra, dec = WCS(fits.Header(keywords)).all_pix2world(x + keywords["CRPIX1"], y + keywords["CRPIX2"], 1)
    sides = np.hypot((ra[1:] - ra[0]) * np.cos(np.deg2rad(dec[0])), dec[1:] - dec[0])
    assert grid.cdelt == pytest.approx(np.sqrt(np.prod(sides)), rel=1e-7)


def test_cdelt_and_pc_in_place_of_cd():
    keywords = pointing(sip=False)
    cd = {key: keywords.pop(key) for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")}
    other = (
        keywords | {"CDELT1": SCALE, "CDELT2": SCALE} | {key.replace("CD", "PC"): v / SCALE for key, v in cd.items()}
    )
    one, two = (gwcs_from_keywords(Bare(fits.Header(k), (1, 24, 20))) for k in (keywords | cd, other))
    np.testing.assert_allclose(one(3.0, 9.0), two(3.0, 9.0), atol=1e-12)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("CTYPE1", None), ("CTYPE1", "RA---SIN"), ("CRPIX2", None), ("CRVAL1", "east"), ("CD1_1", None)],
)
def test_unusable_keywords_are_named(exposure, keyword, value):
    removed = {"CD1_2": None} if keyword == "CD1_1" else {}
    broken = changed(dataclasses.replace(exposure, asdf_bytes=None), **{keyword: value}, **removed)
    with pytest.raises(ExposureError, match="a_calints") as caught:
        exposure_wcs(broken)
    assert (caught.value.keyword, caught.value.value) == (keyword, value)


def test_singular_keywords(exposure):
    zero = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), 0.0)
    with pytest.raises(ExposureError, match="cannot be used") as caught:
        exposure_wcs(changed(dataclasses.replace(exposure, asdf_bytes=None), **zero))
    assert caught.value.file == exposure.path


def test_without_asdf_the_keywords_serve(exposure):
    bare = dataclasses.replace(exposure, asdf_bytes=None)
    assert exposure_wcs(exposure)[1] == ()
    (note,) = exposure_wcs(bare)[1]
    assert "a_calints.fits" in note
    grid, fallback = output_grid([exposure]), output_grid([bare])
    np.testing.assert_allclose(pixel_map(bare, fallback), pixel_map(exposure, grid), atol=1e-8)
    assert fallback.notes == (note,)


def test_without_s_region_the_corners_serve(exposure):
    bare = changed(exposure, S_REGION=None)
    polygons, (note,) = exposure_footprints(bare)
    np.testing.assert_allclose(polygons[0], parse_s_region(exposure.sci_header["S_REGION"])[0], atol=1e-9)
    grid = output_grid([bare])
    assert note in grid.notes
    assert grid.crpix == pytest.approx(output_grid([exposure]).crpix, abs=1e-3)


@pytest.mark.parametrize("text", ["CIRCLE ICRS 1 2 3", "POLYGON ICRS 1 2", "POLYGON ICRS a b c d e f"])
def test_unreadable_s_region(exposure, text):
    with pytest.raises(ExposureError) as caught:
        output_grid([changed(exposure, S_REGION=text)])
    assert (caught.value.file, caught.value.keyword, caught.value.value) == (exposure.path, "S_REGION", text)


@pytest.mark.parametrize("keyword", ["RA_REF", "DEC_REF", "ROLL_REF", "V3I_YANG", "VPARITY"])
@pytest.mark.parametrize("value", [None, "text", True])
def test_missing_pointing_is_named(exposure, keyword, value):
    with pytest.raises(ExposureError, match="a_calints") as caught:
        output_grid([changed(exposure, **{keyword: value})])
    assert (caught.value.keyword, caught.value.value) == (keyword, value)


def test_parity_must_be_a_sign(exposure):
    with pytest.raises(ExposureError, match="must be 1 or -1"):
        output_grid([changed(exposure, VPARITY=0)])


def test_one_exposure_without_distortion(tmp_path):
    """The size of the input; the lower left corner of its first pixel on the centre of the first output pixel."""
    exposure = sky_exposure(tmp_path / "a.fits", sky=pointing(sip=False))
    grid = output_grid([exposure])
    assert grid.shape == exposure.shape[1:]
    assert grid.cdelt == pytest.approx(SCALE, rel=1e-9)
    y, x = np.indices(grid.shape, dtype=float)
    np.testing.assert_allclose(pixel_map(exposure, grid), np.stack([x, y], axis=-1) + 0.5, atol=1e-4)


def test_all_exposures_lie_inside(tmp_path):
    exposures = [sky_exposure(tmp_path / f"{roll}.fits", sky=pointing(roll=roll)) for roll in (30.0, 41.0, 75.0)]
    grid = output_grid(exposures)
    for exposure in exposures:
        where = pixel_map(exposure, grid)
        assert where.min() > -0.1
        assert (where.max(axis=(0, 1)) < np.array(grid.shape[::-1]) - 0.5).all()
    assert len(grid.footprints) == 3
    assert len(parse_s_region(grid.s_region())) == 1


@pytest.mark.parametrize("at", [(86.8, -51.07), (0.0001, 89.9), (359.9999, 0.0), (12.0, -90.0)])
def test_grid_there_and_back(tmp_path, at):
    """Our projection, the grid's gwcs and the FITS keywords are one."""
    exposure = sky_exposure(tmp_path / "a.fits", sky=pointing(at=at))
    grid = output_grid([exposure], crval=at)
    y, x = np.indices(grid.shape, dtype=float)
    ra, dec = grid.pixel_to_sky(x, y)
    np.testing.assert_allclose(grid.sky_to_pixel(ra, dec), (x, y), atol=2e-7)
    header = fits.Header({key: value for key, (value, _) in grid.keywords().items()})
    written = gwcs_of(with_wcs(None, grid.wcs_node(), {}))
    for other in (written(x, y), WCS(header).all_pix2world(x, y, 0)):
        np.testing.assert_allclose(grid.sky_to_pixel(*other), (x, y), atol=2e-7)


def test_the_far_side_of_the_sky_has_no_pixel(exposure):
    grid = output_grid([exposure])
    assert np.isnan(grid.sky_to_pixel(86.8 + 180, 51.07)).all()


def test_options_of_the_grid(exposure):
    grid = output_grid(
        [exposure], pixel_scale=0.0315, rotation=0.0, output_shape=(50, 60), crpix=(20, 30), crval=(86.8, -51.07)
    )
    assert (grid.shape, grid.crpix, grid.crval) == ((60, 50), (20, 30), (86.8, -51.07))
    assert grid.cdelt == 0.0315 / 3600
    assert grid.pixel_scale_ratio == pytest.approx(0.5, rel=1e-3)
    np.testing.assert_array_equal(grid.pc, [[-1, 0], [0, 1]])
    north, east = grid.sky_to_pixel(86.8, -51.07 + 1e-4), grid.sky_to_pixel(86.8 + 1e-4, -51.07)
    assert north[0] == pytest.approx(20)
    assert north[1] > 30
    assert east[0] < 20
    assert tuple(gwcs_of(with_wcs(None, grid.wcs_node(), {})).pixel_shape) == (50, 60)
    half = output_grid([exposure], pixel_scale_ratio=0.5)
    assert half.cdelt == pytest.approx(output_grid([exposure]).cdelt / 2)
    assert half.pixel_scale_ratio == 0.5


def test_impossible_sizes(exposure):
    for options in ({"pixel_scale_ratio": 50.0}, {"output_shape": (1, 10)}, {"crpix": (-100.0, 3.0)}):
        with pytest.raises(OptionsError, match="the sky image would have"):
            output_grid([exposure], **options)
    with pytest.raises(OptionsError, match="far apart"):
        output_grid([exposure, changed(exposure, S_REGION="POLYGON ICRS 88 -51 88.1 -51 88 -51.1")])


def test_outside_the_bounding_box_is_nowhere(tmp_path):
    hdus = sky_hdus()
    hdus.writeto(tmp_path / "a.fits")
    exposure = read_exposure(tmp_path / "a.fits")
    grid = output_grid([exposure])
    smaller = exposure.gwcs()
    smaller.bounding_box = ((2.5, 19.5), (-0.5, 20.5))
    exposure = dataclasses.replace(exposure, asdf_bytes=with_wcs(None, smaller, {}))
    where = pixel_map(exposure, grid)
    assert np.isnan(where[:, :3]).all()
    assert np.isnan(where[21:]).all()
    assert np.isfinite(where[:21, 3:]).all()


@pytest.mark.parametrize("case", CASES)
def test_official_grid(case):
    folder = SHARED / case
    if not folder.is_dir():
        pytest.skip(ABSENT)
    association = read_association(next((folder / "input").glob("*_asn.json")))
    exposures = [read_exposure(path) for path in association.science]
    grid = output_grid(exposures)
    header = fits.getheader(next((folder / "golden_f64").glob("*_i2d.fits")), "SCI")
    assert grid.shape == (header["NAXIS2"], header["NAXIS1"])
    tolerance = {"CRPIX": 1e-6, "CRVAL": 1e-11, "CDELT": 1e-16, "PC1_1": 1e-14, "PC1_2": 1e-14}
    for key, (value, _) in grid.keywords().items():
        assert value == (
            header[key] if isinstance(value, str) else pytest.approx(header[key], abs=tolerance.get(key[:5], 1e-14))
        )
    y, x = np.indices(exposures[-1].shape[1:], dtype=float)
    wcs = exposures[-1].gwcs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        official = gwcs_of(with_wcs(None, grid.wcs_node(), {})).invert(*wcs(x, y), with_bounding_box=False)
    np.testing.assert_allclose(pixel_map(exposures[-1], grid), np.stack(official, axis=-1), atol=1e-7)
