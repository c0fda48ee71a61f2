"""Settings of astropy's FITS are read once where they are told to be, and each time as before afterwards."""

from pathlib import Path

import numpy as np
import pytest
from astropy.config import ConfigItem
from astropy.io import fits

from coronjax import pipeline
from coronjax.cli import main
from coronjax.errors import AssociationError
from coronjax.fits_settings import settings_read_once
from coronjax.workers import client_of

NAMES = tuple(fits.conf)


def _looked_up() -> list[str]:
    """Names of the settings that are looked up each time."""
    return [name for name in NAMES if isinstance(vars(type(fits.conf))[name], ConfigItem)]


@pytest.mark.parametrize("strip", [True, False])
def test_values_are_what_was_set(strip: bool) -> None:
    header = fits.Header.fromstring("TELESCOP= 'JWST    '           / telescope".ljust(80) + "END".ljust(80))
    with fits.conf.set_temp("strip_header_whitespace", strip), settings_read_once():
        assert not _looked_up()
        assert header["TELESCOP"] == ("JWST" if strip else "JWST    ")
    assert header["TELESCOP"] == "JWST"
    assert _looked_up() == list(NAMES)


def test_a_setting_that_is_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_: ConfigItem) -> None:
        raise TypeError("the configuration says maybe")

    monkeypatch.setattr(ConfigItem, "__call__", wrong)
    with settings_read_once():
        assert _looked_up() == list(NAMES)


def test_a_file_is_the_same(tmp_path: Path) -> None:
    header = fits.Header({"TARGNAME": "HIP 65426", "EXPTIME": 1.5})
    hdus = fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(np.eye(3, dtype=np.float32), name="SCI")])
    hdus.writeto(tmp_path / "usual.fits")
    with settings_read_once():
        hdus.writeto(tmp_path / "once.fits")
        found = fits.getheader(tmp_path / "once.fits")
        assert (found["TARGNAME"], found["EXPTIME"]) == ("HIP 65426", 1.5)
    assert (tmp_path / "once.fits").read_bytes() == (tmp_path / "usual.fits").read_bytes()


def test_put_back_after_an_error_too() -> None:
    def failing() -> None:
        with settings_read_once():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert _looked_up() == list(NAMES)


def test_while_a_run_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(*_: object, **__: object) -> None:
        seen.append(_looked_up())
        raise AssociationError("enough seen")

    monkeypatch.setattr(pipeline, "run", run)
    assert main(["run", "some_asn.json"]) == 1
    assert seen == [[]]
    assert _looked_up() == list(NAMES)


@pytest.mark.slow
def test_on_workers() -> None:
    """Those that a cluster starts later too."""
    with client_of(1, None, 1) as client:
        assert list(client.run(_looked_up).values()) == [[]]
        client.restart()
        assert list(client.run(_looked_up).values()) == [[]]
