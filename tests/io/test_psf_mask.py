"""The PSF mask: from an array, a file, a CRDS cache, or uniform; and one typed error for what cannot be a mask."""

import dataclasses
import importlib
import re
import sys
import types

import numpy as np
import pytest
from astropy.io import fits

from coronjax.errors import ExposureError
from coronjax.io.exposure import read_exposure, read_headers
from coronjax.io.psf_mask import read_psf_mask

from .files import ABSENT, SHARED, write_exposure

SHAPE = (5, 4)


@pytest.fixture
def exposure(tmp_path, monkeypatch):
    monkeypatch.delenv("CRDS_PATH", raising=False)
    keywords = {"DATE-OBS": "2022-07-30", "TIME-OBS": "11:12:13"}
    return read_headers(write_exposure(tmp_path / "sci_calints.fits", **keywords))


def write_mask(path, weight, name="SCI", **keywords):
    primary = fits.PrimaryHDU(header=fits.Header(keywords))
    fits.HDUList([primary, fits.ImageHDU(weight, name=name)]).writeto(path)
    return path


def refuse(source, exposure, file, keyword, value, words):
    with pytest.raises(ExposureError, match=re.escape(words)) as caught:
        read_psf_mask(source, exposure)
    assert (caught.value.file, caught.value.keyword, caught.value.value) == (file, keyword, value)


def test_array(exposure):
    given = np.linspace(0, 1, 20).reshape(SHAPE)
    mask = read_psf_mask(given, exposure)
    np.testing.assert_allclose(mask.weight, given, rtol=1e-7)
    assert mask.weight.dtype == np.float32
    assert (mask.source, mask.note) == ("array", "")
    assert "5 x 4 pixels, mean weight 0.500" in repr(mask)
    given[:] = 7  # the mask is a copy
    assert mask.weight.max() == 1


def test_boolean_array(exposure):
    assert read_psf_mask(np.eye(5, 4, dtype=bool), exposure).weight.sum() == 4


def test_file(tmp_path, exposure):
    same = {key: exposure.keyword(key) for key in ("INSTRUME", "FILTER", "CORONMSK", "SUBARRAY")}
    path = write_mask(tmp_path / "mask.fits", np.eye(5, 4), **same)
    for source in (path, str(path)):
        mask = read_psf_mask(source, exposure)
        np.testing.assert_array_equal(mask.weight, np.eye(5, 4))
        assert (mask.source, mask.note) == ("mask.fits", "")
    np.testing.assert_array_equal(read_psf_mask(path, read_exposure(exposure.path)).weight, np.eye(5, 4))


def test_mask_in_the_primary_hdu(tmp_path, exposure):
    fits.PrimaryHDU(np.eye(5, 4)).writeto(tmp_path / "mask.fits")
    assert read_psf_mask(tmp_path / "mask.fits", exposure).weight.sum() == 4


@pytest.mark.parametrize(("keyword", "value"), [("INSTRUME", "MIRI"), ("FILTER", "F300M"), ("CORONMSK", "MASK430R")])
def test_mask_of_another_configuration_is_noted(tmp_path, exposure, keyword, value):
    path = write_mask(tmp_path / "mask.fits", np.eye(5, 4), **{keyword: value})
    note = f"the mask is for {keyword}={value!r}, the exposures have {exposure.keyword(keyword)!r}"
    assert note in read_psf_mask(path, exposure).note


@pytest.mark.parametrize("value", ["MASK335R", "ANY", "N/A"])
def test_older_and_general_names_fit(tmp_path, exposure, value):
    path = write_mask(tmp_path / "mask.fits", np.eye(5, 4), CORONMSK=value)
    assert "the mask is for" not in read_psf_mask(path, exposure).note


def test_weights_that_are_not_finite_are_zero(tmp_path, exposure):
    weight = np.ones(SHAPE)
    weight[0, :3] = np.nan, np.inf, -np.inf
    for source in (weight, write_mask(tmp_path / "mask.fits", weight)):
        mask = read_psf_mask(source, exposure)
        assert mask.weight[0].tolist() == [0, 0, 0, 1]
        assert mask.weight.sum() == 17
        assert "3 weights that are not finite were set to 0" in mask.note


def test_wrong_masks(tmp_path, exposure):
    path = write_mask(tmp_path / "full.fits", np.ones((8, 8)))
    refuse(path, exposure, path, "PSF mask shape", (8, 8), "image size of the exposures (y, x), (5, 4)")
    refuse(np.ones((1, 5, 4)), exposure, None, "PSF mask shape", (1, 5, 4), "image size of the exposures")
    refuse(np.full(SHAPE, "a"), exposure, None, "PSF mask type", "<U1", "holds numbers")
    refuse(np.full(SHAPE, -0.5), exposure, None, "PSF mask minimum", -0.5, "weights from 0 (ignore) to 1 (use)")
    refuse(np.full(SHAPE, np.nan), exposure, None, "PSF mask maximum", 0.0, "leaves no pixel")


def test_wrong_files(tmp_path, exposure):
    refuse(tmp_path / "no.fits", exposure, tmp_path / "no.fits", None, None, "no such file")
    empty = write_mask(tmp_path / "empty.fits", None)
    refuse(empty, exposure, empty, "EXTNAME", ["PRIMARY", "SCI"], "neither a SCI extension nor the primary HDU")
    other = write_mask(tmp_path / "other.fits", np.eye(5, 4), name="MASK")
    refuse(other, exposure, other, "EXTNAME", ["PRIMARY", "MASK"], "neither a SCI extension nor the primary HDU")
    cut = write_mask(tmp_path / "cut.fits", np.eye(5, 4))
    cut.write_bytes(cut.read_bytes()[:-100])
    refuse(cut, exposure, cut, "file size", cut.stat().st_size, "the file is truncated")


def uniform(exposure, reason):
    mask = read_psf_mask(None, exposure)
    np.testing.assert_array_equal(mask.weight, np.ones(SHAPE))
    assert mask.source == "N/A"
    assert mask.note.startswith(f"no PSF mask was given and {reason}")
    assert mask.note.endswith("every pixel counts the same in the registration")


def test_uniform_without_a_cache(tmp_path, monkeypatch, exposure):
    uniform(exposure, "CRDS_PATH names no CRDS cache")
    monkeypatch.setenv("CRDS_PATH", str(tmp_path / "nowhere"))
    uniform(exposure, "CRDS_PATH names no CRDS cache")


def test_uniform_without_the_package(tmp_path, monkeypatch, exposure):
    monkeypatch.setenv("CRDS_PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "crds", None)
    uniform(exposure, "the crds package is not installed")


@pytest.fixture
def crds(tmp_path, monkeypatch):
    """Stands in for the crds package: notes what it is asked for and answers with `found`, or raises it."""
    package = types.SimpleNamespace(asked=None, found="")

    def getreferences(parameters, reftypes, observatory):
        package.asked = parameters, reftypes, observatory
        if isinstance(package.found, BaseException):
            raise package.found
        return {"psfmask": package.found}

    package.getreferences = getreferences
    monkeypatch.setenv("CRDS_PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "crds", package)
    assert importlib.import_module("crds") is package
    return package


def test_mask_from_crds(tmp_path, exposure, crds):
    crds.found = str(write_mask(tmp_path / "jwst_nircam_psfmask_0001.fits", np.eye(5, 4), FILTER="F430M"))
    mask = read_psf_mask(None, exposure)
    np.testing.assert_array_equal(mask.weight, np.eye(5, 4))
    assert (mask.source, mask.note) == ("crds://jwst_nircam_psfmask_0001.fits", "")
    parameters, reftypes, observatory = crds.asked
    assert (reftypes, observatory) == (["psfmask"], "jwst")
    for name, value in (
        ("META.INSTRUMENT.NAME", "NIRCAM"),
        ("META.INSTRUMENT.FILTER", "F430M"),
        ("META.INSTRUMENT.CORONAGRAPH", "MASKA335R"),
        ("META.SUBARRAY.NAME", "SUB320A335R"),
        ("META.OBSERVATION.DATE", "2022-07-30"),
        ("META.OBSERVATION.TIME", "11:12:13"),
    ):
        assert parameters[name] == value


@pytest.mark.parametrize("found", ["N/A", "NOT FOUND n/a", "/nowhere/mask.fits", OSError("no rules"), SystemExit(-1)])
def test_uniform_when_crds_finds_none(exposure, crds, found):
    crds.found = found
    uniform(exposure, f"CRDS found none ({found})")


@pytest.mark.skipif(not SHARED.is_dir(), reason=ABSENT)
@pytest.mark.parametrize(
    ("name", "shape", "zeros"),
    [
        ("miri_psfmask_0001", (224, 288), True),
        ("miri_psfmask_0009", (304, 320), True),
        ("nircam_psfmask_0054", (320, 320), True),
    ],
)
def test_real_masks(exposure, name, shape, zeros):
    path = SHARED / "psfmasks" / f"jwst_{name}.fits"
    mask = read_psf_mask(path, dataclasses.replace(exposure, shape=(2, *shape)))
    np.testing.assert_array_equal(mask.weight, fits.getdata(path, "SCI"))
    assert (mask.weight == 0).any() == zeros
    assert 0.5 < mask.weight.mean() < 1
    refuse(path, exposure, path, "PSF mask shape", shape, "image size of the exposures")


@pytest.mark.skipif(not SHARED.is_dir(), reason=ABSENT)
def test_masks_of_the_associations():
    for path in [*SHARED.glob("official/*/input/psfmask.fits"), *SHARED.glob("aumic_f444w/input/psfmask.fits")]:
        science = read_headers(next(path.parent.glob("*calints.fits")))
        mask = read_psf_mask(path, science)
        np.testing.assert_array_equal(mask.weight, fits.getdata(path, "SCI").astype(np.float32))
        assert mask.note == ""
