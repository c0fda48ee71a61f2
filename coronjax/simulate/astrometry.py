"""Where the detector's pixels lie on the sky: distortion, orientation, tangent plane, gwcs and TAN-SIP keywords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .modes import Mode

Coefficients = dict[tuple[int, int], float]  # of u^p v^q, pixels

# Quadratic and cubic terms about the star: some tenths of a pixel at the edge of a subarray.
DISTORTION: dict[str, tuple[Coefficients, Coefficients]] = {
    "NIRCAM": (
        {(2, 0): 1.1e-7, (1, 1): -8.3e-6, (0, 2): -9.0e-7, (3, 0): 1.4e-10, (1, 2): 2.2e-10},
        {(2, 0): 8.5e-6, (1, 1): 2.1e-6, (0, 2): 3.2e-6, (2, 1): 1.9e-10, (0, 3): 2.5e-10},
    ),
    "MIRI": (
        {(2, 0): 9.4e-6, (1, 1): -5.1e-6, (0, 2): 3.0e-6, (3, 0): -2.8e-9, (1, 2): 1.1e-9},
        {(2, 0): -2.2e-6, (1, 1): 6.7e-6, (0, 2): -1.15e-5, (2, 1): 1.7e-9, (0, 3): -2.1e-9},
    ),
}
DEGREE_OF_INVERSE = 5


def _evaluate(coefficients: Coefficients, u: Any, v: Any) -> Any:
    return sum(value * u**p * v**q for (p, q), value in coefficients.items())


@dataclass(frozen=True)
class Astrometry:
    """The world coordinates of one exposure, about the pixel on which the star lies."""

    star: tuple[float, float]  # (x, y), 0-based pixels
    sky: tuple[float, float]  # the star's right ascension and declination, degrees
    roll: float  # position angle of V3 at the star, degrees
    y_angle: float  # of the y axis from V3, degrees
    scale: float  # arcsec per pixel at the star
    distortion: tuple[Coefficients, Coefficients]

    @property
    def y_position_angle(self) -> float:
        """Position angle of the detector's y axis, degrees east of north."""
        return self.roll + self.y_angle  # VPARITY is -1

    @property
    def pc(self) -> NDArray[np.float64]:
        """From detector axes to (east, north): x is 90 degrees clockwise of y on the sky, since VPARITY is -1."""
        angle = np.deg2rad(self.y_position_angle)
        return np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def to_plane(self, x: Any, y: Any) -> tuple[Any, Any]:
        """From pixels to the plane tangent at the star: arcsec towards east and north. Numpy or JAX."""
        u, v = x - self.star[0], y - self.star[1]
        u, v = u + _evaluate(self.distortion[0], u, v), v + _evaluate(self.distortion[1], u, v)
        (a, b), (c, d) = (self.pc * self.scale).tolist()
        return a * u + b * v, c * u + d * v

    def to_pixel(self, east: Any, north: Any) -> tuple[Any, Any]:
        """From the tangent plane, arcsec, to pixels. Numpy or JAX."""
        (a, b), (c, d) = np.linalg.inv(self.pc * self.scale).tolist()
        straight_u, straight_v = a * east + b * north, c * east + d * north
        u, v = straight_u, straight_v
        for _ in range(6):  # each step gains the two to three digits by which the distortion's slope is below one
            u, v = straight_u - _evaluate(self.distortion[0], u, v), straight_v - _evaluate(self.distortion[1], u, v)
        return u + self.star[0], v + self.star[1]

    def to_sky(self, x: Any, y: Any) -> tuple[Any, Any]:
        """From pixels to right ascension and declination, degrees."""
        east, north = (np.deg2rad(value / 3600) for value in self.to_plane(np.asarray(x), np.asarray(y)))
        ra, dec = np.deg2rad(self.sky)
        depth = np.cos(dec) - north * np.sin(dec)
        declination = np.arctan2(np.sin(dec) + north * np.cos(dec), np.hypot(east, depth))
        return np.rad2deg(ra + np.arctan2(east, depth)) % 360, np.rad2deg(declination)


def make_astrometry(
    mode: Mode, star: tuple[float, float], sky: tuple[float, float], roll: float, distorted: bool = True
) -> Astrometry:
    """World coordinates of an exposure with the star at a pixel.

    Args:
        mode: whose detector it is.
        star: (x, y) of the star, 0-based pixels.
        sky: right ascension and declination of the star, degrees.
        roll: position angle of V3, degrees.
        distorted: false leaves the detector's distortion out.

    Returns:
        `Astrometry`.

    Example:
        >>> from coronjax.simulate.modes import MODES
        >>> a = make_astrometry(MODES["nircam"], (40.0, 40.0), (10.0, 20.0), 0.0)
        >>> [float(round(v, 6)) for v in a.to_pixel(*a.to_plane(50.0, 30.0))]
        [50.0, 30.0]
    """
    distortion: tuple[Coefficients, Coefficients] = DISTORTION[mode.instrument] if distorted else ({}, {})
    return Astrometry(star, sky, roll, mode.y_angle, mode.pixel_scale, distortion)


def companion_offset(separation: Any, position_angle: Any) -> tuple[Any, Any]:
    """Place a companion on the plane tangent at its star.

    Args:
        separation: arcsec.
        position_angle: degrees, east of north.

    Returns:
        Arcsec towards east and north.

    Example:
        >>> [float(round(v, 9)) for v in companion_offset(2.0, 90.0)]
        [2.0, 0.0]
    """
    angle = np.deg2rad(position_angle)
    return separation * np.sin(angle), separation * np.cos(angle)


def fit_inverse(astrometry: Astrometry, shape: tuple[int, int]) -> tuple[Coefficients, Coefficients]:
    """Fit the polynomials that take the distortion back, over the whole image and a little more.

    Args:
        astrometry: of the exposure.
        shape: of the image, (ny, nx).

    Returns:
        Coefficients of x and of y; adding the polynomials to undistorted pixels about the star gives distorted ones.

    Example:
        >>> from coronjax.simulate.modes import MODES
        >>> a = make_astrometry(MODES["nircam"], (40.0, 40.0), (10.0, 20.0), 0.0)
        >>> abs(fit_inverse(a, (80, 80))[0][1, 1] - 8.3e-6) < 1e-8
        True
    """
    if not astrometry.distortion[0]:
        return {}, {}
    half = 0.6 * max(shape) + 2
    u, v = (g.ravel() for g in np.meshgrid(np.linspace(-half, half, 25), np.linspace(-half, half, 25)))
    du, dv = _evaluate(astrometry.distortion[0], u, v), _evaluate(astrometry.distortion[1], u, v)
    terms = [(p, q) for p in range(DEGREE_OF_INVERSE + 1) for q in range(DEGREE_OF_INVERSE + 1 - p) if p + q > 0]
    matrix = np.stack([((u + du) / half) ** p * ((v + dv) / half) ** q for p, q in terms], axis=1)
    found = np.linalg.lstsq(matrix, -np.stack([du, dv], axis=1))[0]
    a, b = ({(p, q): float(c) / half ** (p + q) for (p, q), c in zip(terms, column, strict=True)} for column in found.T)
    return a, b


def area_map(astrometry: Astrometry, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Solid angle of every pixel over the nominal one.

    Args:
        astrometry: of the exposure.
        shape: of the image, (ny, nx).

    Returns:
        Relative areas, [y x].

    Example:
        >>> from coronjax.simulate.modes import MODES
        >>> a = make_astrometry(MODES["nircam"], (4.0, 4.0), (10.0, 20.0), 0.0)
        >>> float(area_map(a, (9, 9))[4, 4].round(6))
        1.0
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    right, left, top, bottom = (
        np.stack(astrometry.to_plane(x + dx, y + dy)) for dx, dy in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
    )
    (a, c), (b, d) = right - left, top - bottom
    return np.asarray(np.abs(a * d - b * c) / astrometry.scale**2)
