"""Settings of astropy's FITS are read once where they are told to be, and each time as before afterwards."""

import numpy as np
import pytest
from astropy.config import ConfigItem
from astropy.io import fits

from coronjax.cli import main
from coronjax.fits_settings import settings_read_once


def _looks_up() -> bool:
    return all(isinstance(setting, ConfigItem) for setting in vars(type(fits.conf)).values() if _is_setting(setting))


def _is_setting(value: object) -> bool:
    return isinstance(value, (ConfigItem, bool))


def _cards(header: fits.Header) -> list[tuple]:
    return [(card.keyword, card.value, card.comment) for card in header.cards]


@pytest.mark.parametrize("strip", [True, False])
def test_values_are_what_was_set(strip: bool) -> None:
    header = fits.Header.fromstring("TELESCOP= 'JWST    '           / telescope".ljust(80) + "END".ljust(80))
    with fits.conf.set_temp("strip_header_whitespace", strip):
        expected = header["TELESCOP"]
        with settings_read_once():
            assert not _looks_up()
            assert header["TELESCOP"] == expected == ("JWST" if strip else "JWST    ")
    assert header["TELESCOP"] == "JWST"


def test_a_file_is_the_same(tmp_path) -> None:
    header = fits.Header({"TARGNAME": "HIP 65426", "EXPTIME": 1.5})
    hdus = fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(np.eye(3, dtype=np.float32), name="SCI")])
    hdus.writeto(tmp_path / "usual.fits", checksum=True)
    with settings_read_once():
        hdus.writeto(tmp_path / "once.fits", checksum=True)
        with fits.open(tmp_path / "once.fits") as found:
            assert _cards(found[0].header)[-4:-2] == [("TARGNAME", "HIP 65426", ""), ("EXPTIME", 1.5, "")]
    first, second = (fits.open(tmp_path / name) for name in ("usual.fits", "once.fits"))
    with first, second:
        assert fits.FITSDiff(first, second, ignore_comments=["CHECKSUM", "DATASUM"]).identical


def test_put_back_after_an_error_too() -> None:
    def failing() -> None:
        with settings_read_once():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert _looks_up()


def test_put_back_after_a_command() -> None:
    assert main(["info", "no_such_asn.json"]) == 1
    assert _looks_up()
    with fits.conf.set_temp("enable_uint", False):
        assert not fits.conf.enable_uint
