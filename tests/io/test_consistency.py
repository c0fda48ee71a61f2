"""Exposures that do not belong together are refused before anything is computed."""

import re

import pytest
from astropy.io import fits

from coronjax.errors import AssociationError
from coronjax.io.association import read_association
from coronjax.io.consistency import check_consistent, observation_notes
from coronjax.io.exposure import read_exposure, read_headers

from .files import ABSENT, SHARED, association, exposure_hdus, write_association, write_exposure


def members(folder, **last):
    """An association of three exposures, the last with other keywords."""
    path = write_association(folder, association())
    for name in ("sci1.fits", "psf1.fits", "psf2.fits"):
        write_exposure(folder / name, **(last if name == "psf2.fits" else {}))
    return read_association(path)


def refuse(asn, keyword, value, expected):
    for read in (read_exposure, read_headers):
        message = f"sci1.fits, the first exposure of obs_asn.json, has {expected!r}"
        with pytest.raises(AssociationError, match=re.escape(message)) as caught:
            check_consistent(asn, [read(path) for path in asn.members])
        assert (caught.value.file, caught.value.keyword, caught.value.value) == (asn.psf[1], keyword, value)
        assert f"psf2.fits: {keyword}={value!r}" in str(caught.value)


def test_alike(tmp_path):
    asn = members(tmp_path, TARGPROP="another star", shape=(7, 5, 4))
    check_consistent(asn, [read_headers(path) for path in asn.members])


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("INSTRUME", "MIRI", "NIRCAM"),
        ("DETECTOR", "NRCBLONG", "NRCALONG"),
        ("FILTER", "F444W", "F430M"),
        ("PUPIL", None, "MASKRND"),
        ("CORONMSK", "MASKA430R", "MASKA335R"),
        ("SUBARRAY", "FULL", "SUB320A335R"),
        ("APERNAME", "NRCA5_MASK430R", "NRCA5_MASK335R"),
        ("EXP_TYPE", "MIR_LYOT", "NRC_CORON"),
    ],
)
def test_keywords(tmp_path, keyword, value, expected):
    refuse(members(tmp_path, **{keyword: value}), keyword, value, expected)


def test_unit(tmp_path):
    asn = members(tmp_path)
    hdus = exposure_hdus()
    hdus["SCI"].header["BUNIT"] = "DN/s"
    hdus.writeto(asn.psf[1], overwrite=True)
    refuse(asn, "BUNIT", "DN/s", "MJy/sr")


def test_image_size(tmp_path):
    refuse(members(tmp_path, shape=(2, 5, 6)), "image size (y, x)", (5, 6), (5, 4))


def test_blanks_do_not_matter(tmp_path):
    asn = members(tmp_path)
    fits.setval(asn.psf[1], "FILTER", value="F430M   ")
    check_consistent(asn, [read_headers(path) for path in asn.members])


def test_no_exposures(tmp_path):
    with pytest.raises(AssociationError, match="no exposures"):
        check_consistent(members(tmp_path), [])


def test_a_background_must_fit_too(tmp_path):
    content = association()
    content["products"][0]["members"][2]["exptype"] = "background"
    path = write_association(tmp_path, content)
    for name in ("sci1.fits", "psf1.fits", "psf2.fits"):
        write_exposure(tmp_path / name, FILTER="F444W" if name == "psf2.fits" else "F430M")
    asn = read_association(path)
    with pytest.raises(AssociationError, match="FILTER='F444W'") as caught:
        check_consistent(asn, [read_headers(member) for member in asn.members])
    assert caught.value.file == asn.background[0]


def test_what_an_observation_lacks(tmp_path):
    def headers(name, **keywords):
        return read_headers(write_exposure(tmp_path / name, **keywords))

    first, second = (headers(f"{roll}.fits", ROLL_REF=roll) for roll in (355.0, 5.0))
    one = headers("one.fits", shape=(1, 5, 4))
    assert observation_notes([first, second], [first]) == ()
    (note,) = observation_notes([first], [first])
    assert note.startswith("one science exposure: no second roll")
    (note,) = observation_notes([first, first], [first])
    assert note.startswith("2 science exposures of one roll angle: no second roll")
    assert observation_notes([first, second], [one]) == (
        "one.fits: one integration, so that no outlier can be found",
        "one reference integration in all: the star is modelled by that image, scaled",
    )
    assert observation_notes([first, second], [one, one])[0].startswith("2 exposures: one integration")


@pytest.mark.skipif(not SHARED.is_dir(), reason=ABSENT)
def test_real_associations():
    for path in [*SHARED.glob("official/*/input/*_asn.json"), *SHARED.glob("aumic_f444w/input/*_asn.json")]:
        asn = read_association(path)
        check_consistent(asn, [read_headers(member) for member in asn.members])
