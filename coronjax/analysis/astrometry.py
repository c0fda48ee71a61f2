"""Positions on an image as separation and position angle on the sky, and back, through any WCS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

ARCSEC = np.pi / 180 / 3600


def sky_offset(wcs: Any, position: ArrayLike, star: ArrayLike) -> tuple[float, float]:
    r"""Separation and position angle of a position on an image from the star's.

    $$ \tan \theta = \frac{\cos\delta \sin\Delta\alpha}
       {\sin\delta \cos\delta_\star - \cos\delta \sin\delta_\star \cos\Delta\alpha} $$

    Args:
        wcs: of the image: anything with `pixel_to_world_values`, such as an `astropy.wcs.WCS` or a gwcs.
        position: (x, y), 0-based pixels.
        star: (x, y) of the star, 0-based pixels.

    Returns:
        Separation in arcsec and position angle in degrees, east of north, from 0 to 360.

    Example:
        >>> from astropy.wcs import WCS
        >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -1e-5, "CDELT2": 1e-5})
        >>> separation, angle = sky_offset(wcs, (0.0, 0.0), (100.0, 0.0))
        >>> round(separation, 4), round(angle, 4)
        (3.6, 90.0)
    """
    ra, dec, ra_star, dec_star = _radians(wcs, position) + _radians(wcs, star)
    delta = ra - ra_star
    east = np.cos(dec) * np.sin(delta)
    # sin(a - b) + the rest, which keeps its digits for small separations
    north = np.sin(dec - dec_star) + 2 * np.cos(dec) * np.sin(dec_star) * np.sin(delta / 2) ** 2
    along = np.sin(dec) * np.sin(dec_star) + np.cos(dec) * np.cos(dec_star) * np.cos(delta)
    separation = np.arctan2(np.hypot(east, north), along)
    return float(separation / ARCSEC), float(np.rad2deg(np.arctan2(east, north)) % 360)


def pixel_offset(wcs: Any, star: ArrayLike, separation: float, position_angle: float) -> tuple[float, float]:
    """Position on an image at a separation and position angle from the star: the inverse of `sky_offset`.

    Args:
        wcs: of the image: anything with `pixel_to_world_values` and `world_to_pixel_values`.
        star: (x, y) of the star, 0-based pixels.
        separation: arcsec.
        position_angle: degrees, east of north.

    Returns:
        Position (x, y), 0-based pixels.

    Example:
        >>> from astropy.wcs import WCS
        >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -1e-5, "CDELT2": 1e-5})
        >>> x, y = pixel_offset(wcs, (100.0, 0.0), 3.6, 0.0)
        >>> round(x, 3), round(y, 3)
        (100.0, 100.0)
    """
    ra_star, dec_star = _radians(wcs, star)
    r, angle = separation * ARCSEC, np.deg2rad(position_angle)
    dec = np.arcsin(np.sin(dec_star) * np.cos(r) + np.cos(dec_star) * np.sin(r) * np.cos(angle))
    delta = np.arctan2(np.sin(angle) * np.sin(r) * np.cos(dec_star), np.cos(r) - np.sin(dec_star) * np.sin(dec))
    x, y = wcs.world_to_pixel_values(np.rad2deg(ra_star + delta) % 360, np.rad2deg(dec))
    return float(x), float(y)


def _radians(wcs: Any, position: ArrayLike) -> tuple[float, float]:
    x, y = np.asarray(position, float)
    ra, dec = wcs.pixel_to_world_values(x, y)
    return float(np.deg2rad(ra)), float(np.deg2rad(dec))
