"""Exposures that are damaged or not what they should be: one typed error, or a note."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from coronjax.errors import ExposureError
from coronjax.io.exposure import read_exposure, read_headers
from coronjax.io.fits_file import open_fits

from .files import exposure_hdus, write_exposure
from .refusals import refuse, write


@pytest.mark.parametrize("name", ["SCI", "ERR", "DQ"])
def test_needed_extensions(tmp_path, name):
    hdus = exposure_hdus()
    table = fits.BinTableHDU(hdus["INT_TIMES"].data, name=name)
    hdus[name] = table
    refuse(write(tmp_path / "a.fits", hdus), "XTENSION", "BINTABLE", f"extension {name} is not an image")
    del hdus[name]
    refuse(write(tmp_path / "a.fits", hdus), "EXTNAME", name, "the extension is missing")


@pytest.mark.parametrize("shape", [(5, 4), (1, 2, 5, 4), ()])
def test_sci_is_a_cube(tmp_path, shape):
    hdus = exposure_hdus()
    hdus["SCI"] = fits.ImageHDU(np.ones(shape) if shape else None, name="SCI")
    refuse(write(tmp_path / "a.fits", hdus), "SCI shape", shape, "must have the axes integration, y, x")


@pytest.mark.parametrize("name", ["ERR", "DQ"])
def test_shapes_agree(tmp_path, name):
    hdus = exposure_hdus()
    hdus[name].data = hdus[name].data[:1]
    refuse(write(tmp_path / "a.fits", hdus), f"{name} shape", (1, 5, 4), "differs from the shape of SCI, (2, 5, 4)")


def test_flags_are_integers(tmp_path):
    hdus = exposure_hdus()
    hdus["DQ"] = fits.ImageHDU(np.zeros((2, 5, 4), np.float32), name="DQ")
    refuse(write(tmp_path / "a.fits", hdus), "BITPIX", -32, "DQ must hold integers", headers_too=False)


def test_optional_extension_that_is_a_table(tmp_path):
    hdus = exposure_hdus()
    hdus["VAR_FLAT"] = fits.BinTableHDU(hdus["INT_TIMES"].data, name="VAR_FLAT")
    path = write(tmp_path / "a.fits", hdus)
    refuse(path, "XTENSION", "BINTABLE", "extension VAR_FLAT is not an image", headers_too=False)


def test_integration_times_that_are_damaged(tmp_path):
    path = write_exposure(tmp_path / "a.fits")
    content = path.read_bytes()
    cards = (
        (
            b"NAXIS1  =                   12",
            b"NAXIS1  =                   11",
            "NAXIS1",
            11,
            "of INT_TIMES take 12 bytes",
        ),
        (b"TFORM2  = 'D       '", b"TFORM2  = 'ZZ      '", None, None, "not a FITS file or a damaged one"),
        (b"TFIELDS =                    2", b"TFIELDS =                    3", None, None, "a damaged one"),
    )
    for card, damaged, keyword, value, message in cards:
        assert content.count(card) == 1
        path.write_bytes(content.replace(card, damaged))
        refuse(path, keyword, value, message, headers_too=False)


def test_no_file(tmp_path):
    refuse(tmp_path / "a.fits", None, None, "no such file")
    refuse(tmp_path, None, None, "the file cannot be read")
    (tmp_path / "a.fits").touch()
    refuse(tmp_path / "a.fits", None, None, "the file is empty")
    (tmp_path / "a.fits").write_text("no FITS at all " * 500)
    refuse(tmp_path / "a.fits", None, None, "not a FITS file or a damaged one")


def test_every_truncation_is_an_error(tmp_path):
    """Cut anywhere: within the header of an extension, its data or its padding, or right behind SCI."""
    path = write_exposure(tmp_path / "a.fits")
    content = path.read_bytes()
    with fits.open(path) as hdus:
        starts = [hdu.fileinfo() for hdu in hdus]
    cuts = {len(content) - 1, 1, 79, 2879}
    for info in starts[1:]:
        header, data = info["hdrLoc"], info["datLoc"]
        cuts |= {header + 1, header + 7, header + 8, header + 80, data - 1, data, data + 40, data + info["datSpan"] - 1}
    cuts |= {starts[2]["hdrLoc"], starts[3]["hdrLoc"]}  # whole extensions lost that cannot be done without
    for cut in sorted(cuts):
        path.write_bytes(content[:cut])
        for read in (read_exposure, read_headers):
            with pytest.raises(ExposureError) as caught:
                read(path)
            assert caught.value.file == path
    path.write_bytes(content[:-1])
    refuse(path, "file size", len(content) - 1, f"extension 9 (ASDF) ends at byte {len(content)}")
    path.write_bytes(content[: starts[4]["hdrLoc"] + 80])
    refuse(path, "file size", starts[4]["hdrLoc"] + 80, "no whole header follows extension 3")


def test_blank_padding_at_the_end_is_survived(tmp_path):
    path = write_exposure(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes() + b"\0" * 2880)
    assert read_exposure(path).shape == (2, 5, 4)


def test_bad_cards_become_notes_and_can_be_written(tmp_path):
    path = write_exposure(tmp_path / "a.fits")
    content = bytearray(path.read_bytes())
    card = content.index(b"TARGPROP")
    content[card : card + 80] = b"TARGPROP= one two".ljust(80)
    path.write_bytes(content)
    exposure = read_exposure(path)
    assert any("TARGPROP" in note for note in exposure.notes)
    fits.PrimaryHDU(header=exposure.primary).writeto(tmp_path / "b.fits")


def test_warnings_of_astropy_become_notes(tmp_path):
    path = write_exposure(tmp_path / "a.fits")
    content = path.read_bytes()
    card = content.index(b"BUNIT")
    path.write_bytes(content[:card] + b"BLANK   =                  -99".ljust(80) + content[card + 80 :])
    assert any("BLANK" in note for note in read_exposure(path).notes)


def test_other_warnings_pass_through(tmp_path):
    path = write_exposure(tmp_path / "a.fits")
    with pytest.warns(UserWarning, match="of another kind"), open_fits(path) as file:
        warnings.warn("of another kind", UserWarning, stacklevel=1)
    assert file.notes == []
