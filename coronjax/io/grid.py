"""The pixels of the sky image: a gnomonic projection without distortion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .footprint import format_s_region, union
from .wcs_nodes import image_wcs


@dataclass(frozen=True, eq=False)
class OutputGrid:
    """The pixels of the sky image: a gnomonic projection without distortion."""

    shape: tuple[int, int]  # (ny, nx)
    crpix: tuple[float, float]  # 0-based pixel (x, y) of the reference point
    crval: tuple[float, float]  # right ascension and declination of the reference point, degrees
    cdelt: float  # pixel scale, degrees
    pc: np.ndarray  # [2 2] rotation, from pixels to (xi, eta)
    pixel_scale_ratio: float  # output over input pixel scale
    bounding_box: tuple[tuple[float, float], tuple[float, float]]  # ((x0, x1), (y0, y1)) that exposures can reach
    footprints: tuple[np.ndarray, ...] = ()  # [vertex 2] of right ascension and declination, degrees, of every exposure
    notes: tuple[str, ...] = ()  # what a user should know, a sentence each

    def wcs_node(self) -> Any:
        """The grid as the node `meta.wcs` of an ASDF tree."""
        return image_wcs(
            crpix=self.crpix,
            crval=self.crval,
            cdelt=(self.cdelt, self.cdelt),
            pc=self.pc.tolist(),
            bounding_box=self.bounding_box,
            pixel_shape=self.shape[::-1],
        )

    def pixel_to_sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Right ascension and declination, degrees, of 0-based pixel positions."""
        offsets = np.stack([np.asarray(x, float) - self.crpix[0], np.asarray(y, float) - self.crpix[1]])
        xi, eta = np.tensordot(self.cdelt * self.pc, offsets, axes=1)
        return degnomonic(xi, eta, self.crval)

    def sky_to_pixel(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """0-based pixel positions of right ascension and declination, degrees; NaN more than 90 degrees away."""
        xi, eta = gnomonic(np.asarray(ra, float), np.asarray(dec, float), self.crval)
        x, y = np.tensordot(np.linalg.inv(self.cdelt * self.pc), np.stack([xi, eta]), axes=1)
        return x + self.crpix[0], y + self.crpix[1]

    def s_region(self) -> str:
        """Outline of what the exposures cover within the image, as text of the keyword S_REGION; empty if nothing."""
        ny, nx = self.shape
        pixels = [np.stack(self.sky_to_pixel(*footprint.T), axis=1) for footprint in self.footprints]
        return format_s_region([np.stack(self.pixel_to_sky(*p.T), axis=1) for p in union(pixels, width=nx, height=ny)])

    def keywords(self) -> dict[str, tuple[Any, str]]:
        """FITS keywords of the grid with their comments."""
        cards: dict[str, tuple[Any, str]] = {"WCSAXES": (2, "number of World Coordinate System axes")}
        for axis, (name, kind) in enumerate((("RA", "RA---TAN"), ("DEC", "DEC--TAN"))):
            i = axis + 1
            cards[f"CRPIX{i}"] = (float(self.crpix[axis]) + 1.0, f"Axis {i} pixel coordinate of ref point, 1-indexed")
            cards[f"CRVAL{i}"] = (float(self.crval[axis]), f"[deg] {name} of the reference point")
            cards[f"CTYPE{i}"] = (kind, f"Axis {i} type")
            cards[f"CUNIT{i}"] = ("deg", f"Axis {i} units")
            cards[f"CDELT{i}"] = (float(self.cdelt), f"[deg] Axis {i} increment per pixel")
            for j in (1, 2):
                cards[f"PC{i}_{j}"] = (float(self.pc[axis, j - 1]), "Linear transformation matrix element")
        return cards


def gnomonic(ra: np.ndarray, dec: np.ndarray, crval: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Gnomonic projection of the sky.

    Args:
        ra: right ascension, degrees.
        dec: declination, degrees.
        crval: right ascension and declination of the centre, degrees.

    Returns:
        (xi, eta), degrees, to the east and to the north; NaN more than 90 degrees away from the centre.

    Example:
        >>> [float(angle) for angle in gnomonic(np.array(10.0), np.array(0.0), (10.0, 0.0))]
        [0.0, 0.0]

    Source: Calabretta and Greisen 2002, A&A 395, 1077, section 5.1.3.
    """
    ra0, dec0 = np.deg2rad(crval)
    turn, dec = np.deg2rad(ra) - ra0, np.deg2rad(dec)
    depth = math.sin(dec0) * np.sin(dec) + math.cos(dec0) * np.cos(dec) * np.cos(turn)
    depth = np.where(depth > 0, depth, np.nan)
    xi = np.cos(dec) * np.sin(turn) / depth
    eta = (math.cos(dec0) * np.sin(dec) - math.sin(dec0) * np.cos(dec) * np.cos(turn)) / depth
    return np.rad2deg(xi), np.rad2deg(eta)


def degnomonic(xi: np.ndarray, eta: np.ndarray, crval: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """From the gnomonic projection back to the sky.

    Args:
        xi: towards east, degrees.
        eta: towards north, degrees.
        crval: right ascension and declination of the centre, degrees.

    Returns:
        Right ascension in [0, 360) and declination, degrees.

    Example:
        >>> [round(float(angle), 9) for angle in degnomonic(np.array(0.0), np.array(1e-3), (10.0, 20.0))]
        [10.0, 20.001]

    Source: Calabretta and Greisen 2002, A&A 395, 1077, section 5.1.3.
    """
    xi, eta = np.deg2rad(xi), np.deg2rad(eta)
    ra0, dec0 = np.deg2rad(crval)
    depth = math.cos(dec0) - eta * math.sin(dec0)
    ra = ra0 + np.arctan2(xi, depth)
    dec = np.arctan2(math.sin(dec0) + eta * math.cos(dec0), np.hypot(xi, depth))
    return np.rad2deg(ra) % 360.0, np.rad2deg(dec)
