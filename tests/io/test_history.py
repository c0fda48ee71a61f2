"""Exposures that come co-added or aligned are recognised; those as the archive has them are not."""

import numpy as np
import pytest
from astropy.io import fits

from coronjax.io.association import read_association
from coronjax.io.exposure import read_exposure, read_headers
from coronjax.io.history import already_processed, history, processing_notes

from .files import ABSENT, SHARED
from .sky_files import pointing, sky_exposure, sky_hdus

TIMES = {"NGROUPS": 10, "TGROUP": 10.7, "NFRAMES": 8, "TFRAME": 1.07}
ONE = 9 * 10.7 + 8 * 1.07


@pytest.mark.parametrize("planes", [1, 3])
def test_as_taken(tmp_path, planes):
    for reset in (0.0, 1.07, 10.7):  # counted as a part of the integration or not
        exposure = sky_exposure(tmp_path / "a.fits", planes=planes, EFFINTTM=ONE + reset, **TIMES)
        found = history(exposure)
        assert found.averaged == 1
        assert found.moved < 1e-5
        assert not found.coadded
        assert not found.recentred
        assert already_processed(exposure) is None


def test_co_added(tmp_path):
    hdus = sky_hdus(planes=1, EFFINTTM=ONE, **TIMES)
    hdus["INT_TIMES"].data = np.repeat(hdus["INT_TIMES"].data, 17)
    hdus.writeto(tmp_path / "a.fits")
    by_time = sky_exposure(tmp_path / "b.fits", planes=1, EFFINTTM=17 * ONE, **TIMES)
    for exposure in (read_exposure(tmp_path / "a.fits"), read_headers(tmp_path / "a.fits"), by_time):
        assert history(exposure).averaged == 17
        note = already_processed(exposure)
        assert note.startswith("frames come co-added: ")
        assert "a plane holds 17 integrations" in note
    hdus[0].header["EXSEGTOT"] = 17  # the table of a segment can be that of the whole exposure
    hdus.writeto(tmp_path / "a.fits", overwrite=True)
    assert already_processed(read_exposure(tmp_path / "a.fits")) is None


def test_recentred(tmp_path):
    hdus = sky_hdus(sky=pointing(at=(359.99999, 60.0)))
    hdus["SCI"].header["CRPIX1"] += 0.9
    hdus["SCI"].header["CRPIX2"] -= 1.2
    hdus.writeto(tmp_path / "a.fits")
    exposure = read_exposure(tmp_path / "a.fits")
    assert history(exposure).moved == pytest.approx(1.5, abs=0.01)
    assert already_processed(exposure).startswith("frames come aligned: ")
    assert "CRPIX lies up to 1.50 pixels" in already_processed(exposure)
    as_taken = sky_exposure(tmp_path / "b.fits")
    assert "1 of 2" not in processing_notes([exposure, as_taken])[0]
    assert "2 of 3 exposures" in processing_notes([exposure, exposure, as_taken])[0]
    hdus = sky_hdus(planes=1)
    hdus.append(fits.ImageHDU(np.zeros((1, 2)), name="IMSHIFTS"))
    hdus.writeto(tmp_path / "a.fits", overwrite=True)
    assert "shifts are listed in IMSHIFTS" in already_processed(read_headers(tmp_path / "a.fits"))


@pytest.mark.skipif(not SHARED.is_dir(), reason=ABSENT)
@pytest.mark.parametrize("case", ["nircam", "miri_lyot", "aumic_f444w"])
def test_real_exposures(case):
    folder = SHARED / case if case == "aumic_f444w" else SHARED / "official" / case
    association = read_association(next((folder / "input").glob("*_asn.json")))
    notes = processing_notes([read_exposure(path) for path in association.members])
    assert len(notes) == (case == "aumic_f444w")
    for note in notes:
        assert note.startswith(
            "frames come co-added and aligned: 8 of 8 exposures: a plane holds 17 to 35 integrations"
        )
        assert "1.20 pixels" in note
        assert "IMSHIFTS, MASKOFFS" in note
