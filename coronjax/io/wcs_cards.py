"""FITS keywords that say what a gwcs says, after it was moved."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .grid import gnomonic

if TYPE_CHECKING:
    from .exposure import Exposure
    from .tagged_wcs import Wcs

AGREE = 0.05  # pixels: keywords and gwcs closer than this say the same
_SAMPLES = 25  # along each axis
_DEGREE = 3  # of fitted distortion
_FITTED = re.compile(r"(A|B|AP|BP)_(\d+_\d+|ORDER|DMAX)|(CD|PC)\d_\d|CDELT\d|CROTA\d|LONPOLE|LATPOLE|PV\d_\d")

Terms = dict[tuple[int, int], float]


def keywords_after_shift(
    exposure: Exposure, wcs: Wcs, moved: Wcs, correction: tuple[float, float], star: tuple[float, float]
) -> dict[str, Any]:
    r"""Keywords of an exposure whose gwcs has been moved.

    Where the old keywords agreed with the old gwcs, CRPIX moves and the rest stays. Where they did not, TAN-SIP about
    the star is fitted to the new gwcs:

    $$ CD^{-1} (\xi, \eta)(u, v) = (u + A(u, v), \; v + B(u, v)) $$

    Args:
        exposure: as read.
        wcs: its gwcs.
        moved: the corrected gwcs.
        correction: from one to the other, pixels (x, y).
        star: its 0-based pixel.

    Returns:
        New values by keyword; None removes one. Empty without WCS keywords.

    Source: Shupe et al. 2005, ASP Conf. Ser. 347, 491.
    """
    header = exposure.sci_header
    if not all(isinstance(header.get(f"CRPIX{i}"), (int, float)) for i in (1, 2)):
        return {}
    if mismatch(header, wcs, exposure.shape[1:]) <= AGREE:
        return {f"CRPIX{i + 1}": header[f"CRPIX{i + 1}"] - correction[i] for i in (0, 1)}
    return {key: None for key in header if _FITTED.fullmatch(key)} | _fit(header, moved, star, exposure.shape[1:])


def mismatch(header: Any, wcs: Wcs, shape: tuple[int, int]) -> float:
    """Largest distance over an image between what keywords and a gwcs say.

    Args:
        header: with the keywords.
        wcs: the gwcs.
        shape: of the image (ny, nx).

    Returns:
        Pixels; infinite where the keywords cannot be read.
    """
    from astropy.wcs import WCS

    x, y = _samples(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ra, dec = WCS(header, naxis=2).all_pix2world(x, y, 0)
        except Exception:  # whatever astropy and wcslib object to: the keywords are of no use
            return float("inf")
    ra_true, dec_true = wcs(x, y, with_bounding_box=False)
    middle = len(x) // 2
    sky = (float(ra_true[middle]), float(dec_true[middle]))
    plane, true = np.stack(gnomonic(ra, dec, sky)), np.stack(gnomonic(ra_true, dec_true, sky))
    matrix = np.linalg.lstsq(np.stack([x - x[middle], y - y[middle], np.ones_like(x)], 1), true.T)[0][:2].T
    apart = np.linalg.solve(matrix, plane - true)
    return float(np.hypot(*apart).max()) if np.isfinite(apart).all() else float("inf")


def _samples(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    ny, nx = shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, _SAMPLES), np.linspace(0, ny - 1, _SAMPLES))
    return x.ravel(), y.ravel()


def _fit(header: Any, wcs: Wcs, star: tuple[float, float], shape: tuple[int, int]) -> dict[str, Any]:
    """TAN-SIP keywords with the reference pixel on the star."""
    x, y = _samples(shape)
    u, v = x - star[0], y - star[1]
    ra0, dec0 = (float(angle) for angle in wcs(*star, with_bounding_box=False))
    ra, dec = wcs(x, y, with_bounding_box=False)
    plane = np.stack(gnomonic(ra, dec, (ra0, dec0)), axis=1)  # [sample 2]
    linear = _polynomial(u, v, plane, lowest=1)
    cd = np.array([[linear[k][1, 0], linear[k][0, 1]] for k in (0, 1)])
    straight = plane @ np.linalg.inv(cd).T
    there = _polynomial(u, v, straight - np.stack([u, v], axis=1), lowest=2)
    back = _polynomial(straight[:, 0], straight[:, 1], np.stack([u, v], axis=1) - straight, lowest=1)
    cards: dict[str, Any] = {"CRPIX1": star[0] + 1, "CRPIX2": star[1] + 1, "CRVAL1": ra0, "CRVAL2": dec0}
    cards |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}
    if "CD1_1" in header:
        cards |= {f"CD{i + 1}_{j + 1}": float(cd[i, j]) for i in (0, 1) for j in (0, 1)}
    else:
        scale = float(np.sqrt(abs(np.linalg.det(cd))))
        cards |= {f"PC{i + 1}_{j + 1}": float(cd[i, j]) / scale for i in (0, 1) for j in (0, 1)}
        cards |= {"CDELT1": scale, "CDELT2": scale}
    for name, terms in zip(("A", "B", "AP", "BP"), (*there, *back), strict=True):
        cards |= {f"{name}_ORDER": _DEGREE} | {f"{name}_{p}_{q}": value for (p, q), value in terms.items()}
    return cards


def _polynomial(u: np.ndarray, v: np.ndarray, values: np.ndarray, *, lowest: int) -> tuple[Terms, Terms]:
    """Least-squares polynomials without the terms below a degree, one for each column of values."""
    half = float(max(np.abs(u).max(), np.abs(v).max()))
    terms = [(p, q) for p in range(_DEGREE + 1) for q in range(_DEGREE + 1 - p) if p + q >= lowest]
    matrix = np.stack([(u / half) ** p * (v / half) ** q for p, q in terms], axis=1)
    found = np.linalg.lstsq(matrix, values)[0]
    a, b = ({(p, q): float(c) / half ** (p + q) for (p, q), c in zip(terms, column, strict=True)} for column in found.T)
    return a, b
