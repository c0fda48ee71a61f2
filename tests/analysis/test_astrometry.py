"""Separation and position angle against astropy's own, and back."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from coronjax.analysis import pixel_offset, sky_offset

STAR = (52.3, 47.9)


def image_wcs(dec: float, angle: float) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [359.9999, dec]
    wcs.wcs.crpix = [50.0, 50.0]
    scale, a = 0.063 / 3600, np.deg2rad(angle)
    wcs.wcs.cd = scale * np.array([[-np.cos(a), np.sin(a)], [np.sin(a), np.cos(a)]])
    return wcs


def turned(angle: float, other: float) -> float:
    return (angle - other + 180) % 360 - 180


@pytest.mark.parametrize("dec", [0.0, -51.0, 89.99])
@pytest.mark.parametrize("position", [(52.3, 60.0), (20.0, 47.9), (52.3001, 47.9), (90.0, 5.0)])
def test_as_astropy_has_it(dec: float, position: tuple[float, float]) -> None:
    wcs = image_wcs(dec, 33.0)
    star, source = (SkyCoord(*wcs.pixel_to_world_values(*p), unit="deg") for p in (STAR, position))
    separation, angle = sky_offset(wcs, position, STAR)
    assert separation == pytest.approx(star.separation(source).arcsec, abs=1e-9)
    assert turned(angle, star.position_angle(source).deg) == pytest.approx(0, abs=1e-6 / separation)


@pytest.mark.parametrize("dec", [0.0, -51.0, 89.99])
@pytest.mark.parametrize(("separation", "angle"), [(0.5, 0.0), (2.0, 123.0), (3.0, 359.0)])
def test_there_and_back(dec: float, separation: float, angle: float) -> None:
    wcs = image_wcs(dec, -70.0)
    found = sky_offset(wcs, pixel_offset(wcs, STAR, separation, angle), STAR)
    assert found[0] == pytest.approx(separation, rel=1e-6)
    assert turned(found[1], angle) == pytest.approx(0, abs=1e-5)


def test_north_is_up_and_east_is_left() -> None:
    wcs = image_wcs(10.0, 0.0)
    for dx, dy, angle in ((0, 10, 0.0), (-10, 0, 90.0), (0, -10, 180.0), (10, 0, 270.0)):
        separation, found = sky_offset(wcs, (STAR[0] + dx, STAR[1] + dy), STAR)
        assert separation == pytest.approx(0.63, abs=1e-6)
        assert turned(found, angle) == pytest.approx(0, abs=1e-3)
