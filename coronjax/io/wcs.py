"""Where pixels are on the sky: the WCS of exposures, the grid of the sky image, and the map between the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ExposureError, OptionsError
from .footprint import parse_s_region
from .grid import OutputGrid, gnomonic

if TYPE_CHECKING:
    from .exposure import Exposure
    from .tagged_wcs import Wcs

# A sky image larger than this on a side means that the exposures do not belong together.
_LARGEST_SIDE = 30000

__all__ = ["OutputGrid", "exposure_footprints", "exposure_wcs", "output_grid", "pixel_map"]


def exposure_wcs(exposure: Exposure) -> tuple[Wcs, tuple[str, ...]]:
    """From pixels of an exposure to the sky.

    Args:
        exposure: with a WCS in its ASDF extension or, failing that, TAN or TAN-SIP keywords.

    Returns:
        The WCS, called as `wcs(x, y)` with 0-based pixels for degrees, NaN outside its bounding box; and notes.

    Raises:
        ExposureError: neither is there, or a keyword is missing or wrong.

    Example:
        >>> from pathlib import Path
        >>> from types import SimpleNamespace
        >>> from astropy.io import fits
        >>> header = fits.Header(dict(CTYPE1="RA---TAN", CRPIX1=5, CRVAL1=10, CD1_1=-1e-5))
        >>> header.update(dict(CTYPE2="DEC--TAN", CRPIX2=5, CRVAL2=0, CD2_2=1e-5))
        >>> bare = SimpleNamespace(path=Path("e.fits"), sci_header=header, shape=(1, 9, 9), wcs=lambda: None)
        >>> wcs, notes = exposure_wcs(bare)
        >>> [round(float(angle), 9) for angle in wcs(4, 4)]
        [10.0, 0.0]
    """
    found = exposure.wcs()
    if found is not None:
        return found, ()
    from .sip import gwcs_from_keywords

    wcs = gwcs_from_keywords(exposure)
    return wcs, (f"{exposure.path.name}: no WCS in an ASDF extension, the TAN-SIP keywords serve",)


def exposure_footprints(exposure: Exposure) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """What an exposure covers: the polygons of S_REGION, else the outer corners of its pixels through its WCS.

    Args:
        exposure: a calibrated exposure.

    Returns:
        Arrays [vertex 2] of right ascension and declination, degrees; and notes.

    Raises:
        ExposureError: S_REGION is not a polygon, or is missing and there is no WCS either.
    """
    text = exposure.keyword("S_REGION")
    if isinstance(text, str) and text.strip():
        try:
            return parse_s_region(text), ()
        except ValueError as error:
            raise ExposureError(str(error), file=exposure.path, keyword="S_REGION", value=text) from None
    wcs, notes = exposure_wcs(exposure)
    _, ny, nx = exposure.shape
    x, y = np.array([-0.5, nx - 0.5, nx - 0.5, -0.5]), np.array([-0.5, -0.5, ny - 0.5, ny - 0.5])
    corners = np.stack(wcs(x, y, with_bounding_box=False), axis=1)
    if not np.isfinite(corners).all():
        message = "the keyword is missing, and the WCS does not reach the corners"
        raise ExposureError(message, file=exposure.path, keyword="S_REGION", value=text)
    corners[:, 0] %= 360.0
    return [corners], (*notes, f"{exposure.path.name}: no S_REGION, the corners through the WCS serve")


def output_grid(
    exposures: Sequence[Exposure],
    *,
    pixel_scale_ratio: float = 1.0,
    pixel_scale: float | None = None,
    rotation: float | None = None,
    output_shape: tuple[int, int] | None = None,
    crpix: tuple[float, float] | None = None,
    crval: tuple[float, float] | None = None,
) -> OutputGrid:
    r"""Choose the pixels of the sky image that holds all exposures.

    Orientation and scale are those of the first exposure at its reference point (RA_REF, DEC_REF):

    $$ s = r \sqrt{\Delta_x \Delta_y}, \qquad
       PC = \begin{pmatrix} p\cos a & \sin a \\ -p\sin a & \cos a \end{pmatrix}, \qquad a = ROLL\_REF - p\,V3I\_YANG $$

    with parity p = VPARITY. The centre is the middle of the box, in unit vectors, about all vertices of all S_REGION;
    the vertex furthest left (down) falls on x=0 (y=0).

    Args:
        exposures: science exposures; the first one decides scale and orientation.
        pixel_scale_ratio: output over input pixel scale.
        pixel_scale: output pixel scale, arcsec; takes precedence over `pixel_scale_ratio`.
        rotation: position angle of the y axis, degrees, in place of a.
        output_shape: size (nx, ny), in place of what holds every exposure.
        crpix: 0-based pixel (x, y) of the reference point.
        crval: right ascension and declination of the reference point, degrees.

    Returns:
        `OutputGrid`.

    Raises:
        ExposureError: a keyword is missing or wrong, with its file.
        OptionsError: the image would be smaller than 2 x 2 pixels, or absurdly large.

    Source: calwebb_coron3 of jwst 3.0.0, resampling.
    """
    first = exposures[0]
    wcs, notes = exposure_wcs(first)
    found = [exposure_footprints(exposure) for exposure in exposures]
    footprints = [footprint for polygons, _ in found for footprint in polygons]
    notes = tuple(dict.fromkeys([*notes, *(note for _, more in found for note in more)]))
    crval = _middle(np.concatenate(footprints)) if crval is None else (float(crval[0]), float(crval[1]))
    pc = _orientation(first, rotation)
    if pixel_scale is None:
        scale = pixel_scale_ratio * _scale_at_reference(first, wcs)
    else:
        scale = pixel_scale / 3600.0
        pixel_scale_ratio = scale / math.sqrt(_mean_pixel_area(first, wcs))
    ra, dec = np.concatenate(footprints).T
    xi_eta = np.stack(gnomonic(ra, dec, crval))
    x, y = np.tensordot(np.linalg.inv(scale * pc), xi_eta, axes=1)
    crpix = (-float(x.min()), -float(y.min())) if crpix is None else (float(crpix[0]), float(crpix[1]))
    reach = ((x.min() + crpix[0], x.max() + crpix[0]), (y.min() + crpix[1], y.max() + crpix[1]))
    shape, box = _size(reach, output_shape)
    return OutputGrid(
        shape=shape,
        crpix=crpix,
        crval=crval,
        cdelt=scale,
        pc=pc,
        pixel_scale_ratio=float(pixel_scale_ratio),
        bounding_box=box,
        footprints=tuple(footprints),
        notes=notes,
    )


def pixel_map(exposure: Exposure, grid: OutputGrid) -> np.ndarray:
    """Where the centre of every pixel of an exposure falls in the sky image.

    Args:
        exposure: a calibrated exposure.
        grid: the pixels of the sky image.

    Returns:
        [y x 2] float64, 0-based (x, y) in the sky image; NaN outside the bounding box of the exposure's WCS.

    Raises:
        ExposureError: the exposure has no WCS.
    """
    wcs, _ = exposure_wcs(exposure)
    y, x = np.indices(exposure.shape[1:], dtype=float)
    return np.stack(grid.sky_to_pixel(*wcs(x, y)), axis=-1)


def _vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors [... 3] of positions in degrees."""
    ra, dec = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _middle(vertices: np.ndarray) -> tuple[float, float]:
    """Middle of the box about the vertices in unit vectors, as right ascension and declination."""
    vectors = _vectors(*vertices.T)
    x, y, z = (vectors.max(axis=0) + vectors.min(axis=0)) / 2
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))


def _number(exposure: Exposure, keyword: str) -> float:
    value = exposure.keyword(keyword)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        message = "the sky image needs this number in the SCI header"
        raise ExposureError(message, file=exposure.path, keyword=keyword, value=value)
    return float(value)


def _orientation(exposure: Exposure, rotation: float | None) -> np.ndarray:
    """The PC matrix of the sky image."""
    parity = _number(exposure, "VPARITY")
    if parity not in (-1.0, 1.0):
        raise ExposureError("must be 1 or -1", file=exposure.path, keyword="VPARITY", value=parity)
    angle = rotation
    if angle is None:
        angle = _number(exposure, "ROLL_REF") - parity * _number(exposure, "V3I_YANG")
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[parity * c, s], [-parity * s, c]])


def _scale_at_reference(exposure: Exposure, wcs: Wcs) -> float:
    """Geometric mean of the pixel's sides at the reference point, degrees."""
    reference = (_number(exposure, "RA_REF"), _number(exposure, "DEC_REF"))
    try:
        x, y = (float(v) for v in wcs.backward_transform(*reference))
    except NotImplementedError:  # a distortion without inverse
        x, y = _solve(wcs, reference, exposure.shape[1:])
    ra, dec = wcs(np.array([x, x + 1, x]), np.array([y, y, y + 1]), with_bounding_box=False)
    sides = _separation(ra[0], dec[0], ra[1:], dec[1:])
    scale = math.sqrt(sides[0] * sides[1])
    if not math.isfinite(scale) or scale <= 0:
        message = "the WCS gives no pixel scale there"
        raise ExposureError(message, file=exposure.path, keyword="RA_REF, DEC_REF", value=reference)
    return scale


def _separation(ra: np.ndarray, dec: np.ndarray, ra2: np.ndarray, dec2: np.ndarray) -> np.ndarray:
    """Angle between places on the sky, degrees: Vincenty's formula, as astropy has it, which takes long to import."""
    turn, dec, dec2 = np.deg2rad(ra2 - ra), np.deg2rad(dec), np.deg2rad(dec2)
    east = np.cos(dec2) * np.sin(turn)
    north = np.cos(dec) * np.sin(dec2) - np.sin(dec) * np.cos(dec2) * np.cos(turn)
    depth = np.sin(dec) * np.sin(dec2) + np.cos(dec) * np.cos(dec2) * np.cos(turn)
    return np.rad2deg(np.arctan2(np.hypot(east, north), depth))


def _solve(wcs: Wcs, sky: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float]:
    """The pixel (x, y) that falls on this place, by Newton's method on the gnomonic plane about it."""
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    for _ in range(20):
        points = wcs(np.array([x, x + 1, x]), np.array([y, y, y + 1]), with_bounding_box=False)
        plane = np.stack(gnomonic(points[0], points[1], sky))
        slope = plane[:, 1:] - plane[:, :1]
        if not np.isfinite(plane).all() or np.linalg.det(slope) == 0:
            return math.nan, math.nan
        dx, dy = np.linalg.solve(slope, -plane[:, 0])
        x, y = x + float(dx), y + float(dy)
        if math.hypot(dx, dy) < 1e-9:
            break
    return x, y


def _mean_pixel_area(exposure: Exposure, wcs: Wcs) -> float:
    """Mean area of a pixel over the exposure, square degrees, from the outline through the outermost pixel centres."""
    _, ny, nx = exposure.shape
    # At least four pieces to a side, none longer than 15 pixels: with distortion the area depends on it.
    along_x, along_y = (
        np.linspace(0, n - 1, math.ceil(n / max(1, min((n - 1) // 4, 15))), endpoint=False) for n in (nx, ny)
    )
    x = np.concatenate([along_x, np.full(along_y.size, nx - 1), nx - 1 - along_x, np.zeros(along_y.size)])
    y = np.concatenate([np.zeros(along_x.size), along_y, np.full(along_x.size, ny - 1), ny - 1 - along_y])
    ra, dec = wcs(x, y, with_bounding_box=False)
    # The azimuthal equal-area projection keeps the area; its bending of the outline is negligible over arcminutes.
    centre = _middle(np.stack([ra, dec], axis=1))
    xi, eta = np.deg2rad(gnomonic(ra, dec, centre))
    angle = np.arctan(np.hypot(xi, eta))
    shrink = 2 * np.sin(angle / 2) / np.where(angle > 0, np.tan(angle), 1.0)
    xi, eta = np.rad2deg(xi * shrink), np.rad2deg(eta * shrink)
    area = abs(float(np.sum(xi * np.roll(eta, -1) - np.roll(xi, -1) * eta))) / 2 / ((nx - 1) * (ny - 1))
    if not area > 0:
        raise ExposureError("the WCS gives no pixel area", file=exposure.path)
    return area


def _size(
    reach: tuple[tuple[float, float], tuple[float, float]], output_shape: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[tuple[float, float], tuple[float, float]]]:
    """Size (ny, nx) of the sky image, and the box in it that exposures can reach."""
    upper = [int(high + 0.5) for _, high in reach]
    nx, ny = upper if output_shape is None else output_shape
    if min(nx, ny) < 2:
        message = "check resample.pixel_scale, crpix and output_shape"
        raise OptionsError(f"the sky image would have {nx} x {ny} pixels (x, y): {message}")
    if max(nx, ny) > _LARGEST_SIDE:
        message = "the exposures lie far apart, or resample.pixel_scale is too small"
        raise OptionsError(f"the sky image would have {nx} x {ny} pixels (x, y): {message}")
    if output_shape is None:
        return (ny, nx), ((-0.5, nx - 0.5), (-0.5, ny - 0.5))
    sizes = ((reach[0], upper[0], nx), (reach[1], upper[1], ny))
    x, y = ((max(0, int(low + 0.5)) - 0.5, min(high, size) - 0.5) for (low, _), high, size in sizes)
    return (int(ny), int(nx)), (x, y)
