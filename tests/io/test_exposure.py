"""Exposures: what a sound file gives, and what is survived with a note."""

import bz2
import gzip
import lzma
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from coronjax.errors import ExposureError
from coronjax.io.association import read_association
from coronjax.io.exposure import read_exposure, read_headers

from .files import ABSENT, ASDF_TEXT, SHARED, exposure_hdus, write_exposure
from .refusals import refuse, write


def test_sound(tmp_path):
    exposure = read_exposure(write_exposure(tmp_path / "a_calints.fits"))
    cube = exposure.cube
    assert exposure.shape == cube.sci.shape == (2, 5, 4)
    np.testing.assert_array_equal(cube.sci.ravel(), np.arange(40))
    np.testing.assert_array_equal(cube.err, 1)
    assert cube.dq[0, 0, 0] == 2**31
    assert cube.dq.sum() == 2**31
    assert cube.valid.tolist() == [True, True]
    for array, value in ((cube.var_poisson, 0.1), (cube.var_rnoise, 0.2), (cube.var_flat, 0.3)):
        np.testing.assert_array_equal(array, np.full((2, 5, 4), value, np.float32))
    for array in (cube.sci, cube.err, cube.var_poisson, cube.var_rnoise, cube.var_flat, exposure.area):
        assert (array.dtype, array.dtype.isnative, type(array)) == (np.float32, True, np.ndarray)
    assert (cube.dq.dtype, cube.dq.dtype.isnative) == (np.uint32, True)
    assert exposure.area.shape == (5, 4)
    assert exposure.int_times.data["integration_number"].tolist() == [1, 2]
    assert exposure.asdf_bytes == ASDF_TEXT
    assert exposure.others == exposure.notes == ()
    assert list(exposure.headers) == [hdu.name for hdu in exposure_hdus()[1:]]
    assert exposure.keyword("FILTER") == "F430M"
    assert exposure.keyword("BUNIT") == exposure.sci_header["BUNIT"] == "MJy/sr"
    assert exposure.keyword("NOTHERE", 3) == 3


def test_summary(tmp_path):
    path = write_exposure(tmp_path / "a_calints.fits", asdf=None)
    for read in (read_exposure, read_headers):
        text = repr(read(path))
        for words in ("a_calints.fits", "NRC_CORON", "NIRCAM NRCALONG F430M", "2 integrations of 5 x 4", "MJy/sr"):
            assert words in text
    assert "note: there is no ASDF extension" in repr(read_exposure(path))


def test_headers_alone(tmp_path):
    path = write_exposure(tmp_path / "a.fits")
    headers, exposure = read_headers(path), read_exposure(path)
    assert headers.shape == exposure.shape
    assert headers.primary == exposure.primary
    assert headers.headers == exposure.headers
    assert headers.keyword("BUNIT") == "MJy/sr"


@pytest.mark.parametrize("exp_type", ["NRC_CORON", "MIR_4QPM", "MIR_LYOT"])
def test_modes(tmp_path, exp_type):
    assert read_exposure(write_exposure(tmp_path / "a.fits", EXP_TYPE=exp_type)).keyword("EXP_TYPE") == exp_type


@pytest.mark.parametrize("exp_type", ["NRC_IMAGE", None, 3])
def test_other_modes(tmp_path, exp_type):
    path = write_exposure(tmp_path / "a.fits", EXP_TYPE=exp_type)
    refuse(path, "EXP_TYPE", exp_type, "one of NRC_CORON, MIR_4QPM, MIR_LYOT")


@pytest.mark.parametrize("dtype", [">f8", ">i2", "u1", ">i4", ">u2"])
def test_numbers_of_any_type_become_float32(tmp_path, dtype):
    hdus = exposure_hdus()
    hdus["SCI"].data = hdus["SCI"].data.astype(dtype)
    sci = read_exposure(write(tmp_path / "a.fits", hdus)).cube.sci
    assert sci.dtype == np.float32
    np.testing.assert_array_equal(sci.ravel(), np.arange(40))


def test_scaled_integers(tmp_path):
    path = write_exposure(tmp_path / "a.fits")
    with fits.open(path) as hdus:
        hdus["SCI"].scale("int16", bscale=0.5, bzero=10)
        hdus.writeto(tmp_path / "b.fits")
    np.testing.assert_allclose(read_exposure(tmp_path / "b.fits").cube.sci.ravel(), np.arange(40), atol=0.25)


def test_doubles_beyond_float32_become_infinite(tmp_path):
    hdus = exposure_hdus()
    hdus["ERR"].data = np.full((2, 5, 4), 1e300)
    assert np.isinf(read_exposure(write(tmp_path / "a.fits", hdus)).cube.err).all()


def test_signed_flags_keep_their_bits(tmp_path):
    hdus = exposure_hdus()
    hdus["DQ"] = fits.ImageHDU(np.full((2, 5, 4), -(2**31) + 1, ">i4"), name="DQ")
    assert (read_exposure(write(tmp_path / "a.fits", hdus)).cube.dq == 2**31 + 1).all()


@pytest.mark.parametrize("name", ["VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "AREA", "INT_TIMES"])
def test_missing_and_empty_extensions_are_survived(tmp_path, name):
    hdus = exposure_hdus()
    empty = fits.BinTableHDU(hdus[name].data[:0], name=name) if name == "INT_TIMES" else fits.ImageHDU(name=name)
    for state in ("empty", "missing"):
        if state == "empty":
            hdus[name] = empty
        else:
            del hdus[name]
        exposure = read_exposure(write(tmp_path / "a.fits", hdus))
        value = getattr(exposure if name in ("AREA", "INT_TIMES") else exposure.cube, name.lower())
        assert value is None
        assert exposure.notes == (f"{name} is {state}",)
        assert (name in exposure.headers) == (state == "empty")


@pytest.mark.parametrize("name", ["VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "AREA"])
def test_arrays_of_another_shape_count_as_missing(tmp_path, name):
    hdus = exposure_hdus()
    hdus[name].data = np.ones((3, 3), np.float32)
    exposure = read_exposure(write(tmp_path / "a.fits", hdus))
    assert getattr(exposure if name == "AREA" else exposure.cube, name.lower()) is None
    assert f"{name} has shape (3, 3) where" in exposure.notes[0]


def test_int_times_of_another_length(tmp_path):
    hdus = exposure_hdus()
    hdus["INT_TIMES"].data = hdus["INT_TIMES"].data[:1]
    exposure = read_exposure(write(tmp_path / "a.fits", hdus))
    assert len(exposure.int_times.data) == 1
    assert exposure.notes == ("INT_TIMES has 1 rows for 2 integrations",)


def test_int_times_is_each_callers_own(tmp_path):
    """It can be changed and written, also where its header had to be repaired, and its values are not as stored."""
    hdus = exposure_hdus()
    columns = [
        fits.Column(name="used", format="L", array=[True, False]),
        fits.Column(name="group", format="I", bzero=2**15, array=np.array([1, 40000], np.uint16)),
    ]
    hdus["INT_TIMES"] = fits.BinTableHDU.from_columns(columns, name="INT_TIMES")
    hdus["INT_TIMES"].header["COMMENT"] = "is bad"
    path = write(tmp_path / "a.fits", hdus)
    path.write_bytes(path.read_bytes().replace(b"COMMENT is bad", b"BADCARD = 'bad"))
    exposure = read_exposure(path)
    assert any("header of INT_TIMES repaired" in note for note in exposure.notes)
    changed = exposure.int_times
    changed.data["group"][0] = 7
    assert exposure.int_times.data["group"].tolist() == [1, 40000]
    changed.writeto(tmp_path / "b.fits", checksum=True)
    with fits.open(tmp_path / "b.fits", checksum=True) as again:
        assert again[1].data["group"].tolist() == [7, 40000]
        assert again[1].data["used"].tolist() == [True, False]


def test_integration_without_a_usable_pixel(tmp_path):
    hdus = exposure_hdus()
    hdus["SCI"].data[1, :2] = np.nan
    hdus["DQ"].data[1, 2:] = 1
    assert read_exposure(write(tmp_path / "a.fits", hdus)).notes == (
        "integrations left out, since they have no usable pixel (0-based): 1",
    )


def test_other_extensions_are_carried(tmp_path):
    hdus = exposure_hdus()
    hdus.append(fits.ImageHDU(np.array([[1.5, -2.0]]), name="IMSHIFTS"))
    hdus.append(fits.ImageHDU(np.zeros((2, 5, 4), np.float32), name="SCI", ver=2))
    hdus.append(fits.BinTableHDU(np.array([(1, b"x")], [("a", "i4"), ("b", "S3")]), name="EXTRA"))
    path = write(tmp_path / "a.fits", hdus)
    exposure = read_exposure(path)
    path.unlink()  # what was read needs the file no more
    assert [hdu.name for hdu in exposure.others] == ["IMSHIFTS", "SCI", "EXTRA"]
    assert exposure.cube.sci.any()
    fits.HDUList([fits.PrimaryHDU(), *exposure.others, exposure.int_times]).writeto(path)
    with fits.open(path) as again:
        np.testing.assert_array_equal(again["IMSHIFTS"].data, [[1.5, -2.0]])
        assert again["SCI"].ver == 2
        assert again["EXTRA"].data["b"].tolist() == ["x"]
        assert again["INT_TIMES"].data["integration_number"].tolist() == [1, 2]


def test_compressed(tmp_path):
    content = write_exposure(tmp_path / "a.fits").read_bytes()
    for suffix, compress in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        path = tmp_path / f"a.fits.{suffix}"
        path.write_bytes(compress(content))
        np.testing.assert_array_equal(read_exposure(path).cube.sci.ravel(), np.arange(40))
        path.write_bytes(compress(content)[:-20])
        refuse(path, None, None, "damaged or truncated compression")
        path.write_bytes(compress(content[:-2880]))
        refuse(path, "file size", len(content) - 2880, "the file is truncated")
    path.write_bytes(gzip.compress(content)[:10] + b"\xff" * 100)
    refuse(path, None, None, "damaged or truncated compression")


def test_compressed_images(tmp_path):
    hdus = exposure_hdus()
    hdus["SCI"] = fits.CompImageHDU(hdus["SCI"].data, hdus["SCI"].header, name="SCI", compression_type="GZIP_1")
    np.testing.assert_array_equal(read_exposure(write(tmp_path / "a.fits", hdus)).cube.sci.ravel(), np.arange(40))


def test_asdf_as_an_image_of_bytes(tmp_path):
    hdus = exposure_hdus()
    hdus["ASDF"] = fits.ImageHDU(np.frombuffer(ASDF_TEXT, np.uint8), name="ASDF")
    exposure = read_exposure(write(tmp_path / "a.fits", hdus))
    assert exposure.asdf_bytes == ASDF_TEXT
    assert exposure.asdf_tree()["meta"]["instrument"]["name"] == "NIRCAM"
    assert exposure.gwcs() is None


def test_no_asdf(tmp_path):
    exposure = read_exposure(write_exposure(tmp_path / "a.fits", asdf=None))
    assert exposure.asdf_bytes is None
    assert exposure.gwcs() is None
    assert "meta" not in exposure.asdf_tree()
    assert exposure.notes == ("there is no ASDF extension, so the WCS comes from the FITS keywords",)


@pytest.mark.parametrize("content", [b"garbage", ASDF_TEXT.replace(b"meta: {", b"meta: [")])
def test_damaged_asdf(tmp_path, content):
    exposure = read_exposure(write_exposure(tmp_path / "a.fits", asdf=content))
    for read in (exposure.gwcs, exposure.asdf_tree):
        with pytest.raises(ExposureError, match="EXTNAME='ASDF': the ASDF extension cannot be read") as caught:
            read()
        assert caught.value.file == exposure.path


@pytest.mark.parametrize("meta", [b"meta: 3", b"meta: {wcs: 3}", b"meta: {wcs: !<tag:nowhere.org/wcs-9.9.9> {a: 1}}"])
def test_asdf_without_a_gwcs(tmp_path, meta):
    text = ASDF_TEXT[: ASDF_TEXT.index(b"meta:")] + meta + b"\n...\n"
    assert read_exposure(write_exposure(tmp_path / "a.fits", asdf=text)).gwcs() is None


def test_gwcs_is_read_once(tmp_path):
    import asdf
    import gwcs
    from astropy import coordinates
    from astropy.modeling import models

    frame = gwcs.coordinate_frames.CelestialFrame(reference_frame=coordinates.ICRS(), name="world")
    wcs = gwcs.WCS([("detector", models.Shift(1) & models.Shift(2)), (frame, None)])
    path = tmp_path / "tree.asdf"
    asdf.AsdfFile({"meta": {"wcs": wcs}}).write_to(path)
    exposure = read_exposure(write_exposure(tmp_path / "a.fits", asdf=path.read_bytes()))
    assert exposure.gwcs()(0.0, 0.0) == (1.0, 2.0)
    assert exposure.gwcs() is exposure.gwcs()


@pytest.mark.skipif(not SHARED.is_dir(), reason=ABSENT)
@pytest.mark.parametrize("case", ["nircam", "nircam_bar", "miri_4qpm", "miri_lyot", "aumic_f444w"])
def test_real_exposures(case):
    folder = SHARED / case if case == "aumic_f444w" else SHARED / "official" / case
    association = read_association(next((folder / "input").glob("*_asn.json")))
    for path in association.members:
        exposure = read_exposure(path)
        planes, ny, nx = exposure.shape
        assert exposure.keyword("NINTS") == planes
        with fits.open(path, memmap=False) as hdus:
            for name, array in (("SCI", exposure.cube.sci), ("ERR", exposure.cube.err), ("DQ", exposure.cube.dq)):
                np.testing.assert_array_equal(array, hdus[name].data.astype(array.dtype))
        assert exposure.gwcs().bounding_box.bounding_box() == ((-0.5, nx - 0.5), (-0.5, ny - 0.5))
        if case == "aumic_f444w":
            assert [note for note in exposure.notes if "VAR" in note] == [
                f"VAR_{name} is empty" for name in ("POISSON", "RNOISE", "FLAT")
            ]
            assert [hdu.name for hdu in exposure.others] == ["IMSHIFTS", "MASKOFFS"]
            assert exposure.cube.var_flat is None
        else:
            assert exposure.notes == ()


def test_reading_does_not_import_asdf():
    code = "import sys, coronjax.io.exposure; sys.exit('asdf' in sys.modules or 'gwcs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
