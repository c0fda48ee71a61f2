"""Simulated files: the format, the world coordinates, reproducibility."""

import json

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from coronjax.simulate import MODES, astrometry_of, simulate
from coronjax.simulate.world import make_gwcs

SETTINGS = {"shape": (64, 70), "n_science": 2, "n_references": 1, "nints_science": 2, "nints_references": 2}


@pytest.fixture(scope="module", params=list(MODES))
def made(request, tmp_path_factory):
    return simulate(request.param, tmp_path_factory.mktemp(request.param), **SETTINGS)


def header_of(path):
    return fits.getheader(path, "SCI")


def grid(shape):
    y, x = np.mgrid[0 : shape[0] - 1 : 9j, 0 : shape[1] - 1 : 9j]
    return x, y


def test_datamodels_open_without_warnings(made):
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels")
    for path, exposure in zip(made.members, made.truth.exposures, strict=True):
        with datamodels.open(path) as model:
            assert type(model).__name__ == "CubeModel"
            model.validate()
            assert model.meta.exposure.psf_reference == (exposure.kind == "psf")
            assert model.area.shape == SETTINGS["shape"]
            assert len(model.int_times) == 2
            np.testing.assert_allclose(model.meta.wcs(*exposure.star), exposure.sky, atol=1e-12)
    with datamodels.open(made.psf_mask) as model:
        assert type(model).__name__ == "PsfMaskModel"


def test_gwcs_and_keywords_agree(made):
    x, y = grid(SETTINGS["shape"])
    for k, path in enumerate(made.members):
        wcs, keywords = make_gwcs(astrometry_of(made.truth, k), SETTINGS["shape"]), WCS(header_of(path), naxis=2)
        ra, dec = wcs(x, y)
        back = keywords.all_world2pix(ra, dec, 0, tolerance=1e-9)
        np.testing.assert_allclose(back, [x, y], atol=1e-6)
        np.testing.assert_allclose(wcs.invert(ra, dec), [x, y], atol=1e-5)
        np.testing.assert_allclose(astrometry_of(made.truth, k).to_sky(x, y), [ra, dec], atol=1e-11)


def test_companions_lie_at_their_separation_and_position_angle(made):
    for k, exposure in enumerate(made.truth.science):
        wcs = WCS(header_of(made.members[k]), naxis=2)
        star = SkyCoord(*exposure.sky, unit="deg")
        for companion, placed in zip(made.truth.companions, exposure.companions, strict=True):
            there = SkyCoord(*wcs.all_pix2world(placed.x, placed.y, 0), unit="deg")
            assert star.separation(there).arcsec == pytest.approx(companion.separation, abs=1e-6)
            assert star.position_angle(there).deg == pytest.approx(companion.position_angle, abs=1e-4)


def test_orientation_follows_from_the_roll(made):
    """The y axis points at ROLL_REF - VPARITY * V3I_YANG, and x to its right for a telescope of parity -1."""
    for path in made.members:
        header = header_of(path)
        wcs, crpix = WCS(header, naxis=2), (header["CRPIX1"] - 1, header["CRPIX2"] - 1)
        star, up, right = (
            SkyCoord(*wcs.all_pix2world(crpix[0] + dx, crpix[1] + dy, 0), unit="deg")
            for dx, dy in ((0, 0), (0, 1e-3), (1e-3, 0))
        )
        expected = header["ROLL_REF"] - header["VPARITY"] * header["V3I_YANG"]
        assert star.position_angle(up).deg == pytest.approx(expected % 360, abs=1e-3)
        assert star.position_angle(right).deg == pytest.approx((expected - 90) % 360, abs=1e-3)
        assert (header["CRVAL1"], header["CRVAL2"]) == (header["RA_REF"], header["DEC_REF"])


def test_footprint_runs_round_the_outer_corners(made):
    header = header_of(made.members[0])
    corners = np.array(header["S_REGION"].split()[2:], float).reshape(4, 2)
    x, y = WCS(header, naxis=2).all_world2pix(*corners.T, 0)
    ny, nx = SETTINGS["shape"]
    np.testing.assert_allclose(x, [-0.5, -0.5, nx - 0.5, nx - 0.5], atol=1e-4)
    np.testing.assert_allclose(y, [-0.5, ny - 0.5, ny - 0.5, -0.5], atol=1e-4)


def test_association_names_every_member(made):
    tree = json.loads(made.asn.read_text())
    members = tree["products"][0]["members"]
    assert [m["exptype"] for m in members] == ["science", "science", "psf"]
    assert all((made.asn.parent / m["expname"]).is_file() for m in members)
    assert json.loads(made.truth_file.read_text())["exposures"][2]["file"] == made.members[2].name


def test_the_reader_accepts_the_files(made):
    from coronjax.io.association import read_association
    from coronjax.io.exposure import read_exposure

    association = read_association(made.asn)
    assert (len(association.science), len(association.psf)) == (2, 1)
    for path in (*association.science, *association.psf):
        assert read_exposure(path).cube.sci.shape[-2:] == SETTINGS["shape"]


def test_same_seed_same_files_but_for_their_date(tmp_path):
    settings = {**SETTINGS, "n_science": 1}
    first, second = (simulate("nircam", tmp_path / name, seed=7, **settings) for name in "ab")
    for a, b in zip((*first.members, first.psf_mask), (*second.members, second.psf_mask), strict=True):
        assert fits.FITSDiff(str(a), str(b), ignore_keywords=["DATE"]).identical
    assert first.truth_file.read_bytes() == second.truth_file.read_bytes()
    assert first.asn.read_bytes() == second.asn.read_bytes()


def test_without_distortion_the_keywords_are_plain(tmp_path):
    made = simulate("miri_lyot", tmp_path, **{**SETTINGS, "n_science": 1, "distorted": False})
    header = header_of(made.members[0])
    assert header["CTYPE1"] == "RA---TAN"
    assert "A_ORDER" not in header
    x, y = grid(SETTINGS["shape"])
    expected = make_gwcs(astrometry_of(made.truth, 0), SETTINGS["shape"])(x, y)
    np.testing.assert_allclose(WCS(header, naxis=2).all_pix2world(x, y, 0), expected, atol=1e-11)
