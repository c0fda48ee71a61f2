"""One place on the sky for the star: every exposure's WCS moved so that all put the star there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ExposureError
from .footprint import format_s_region
from .grid import degnomonic, gnomonic
from .metadata import repointed, with_keywords
from .wcs import exposure_footprints, exposure_wcs
from .wcs_cards import keywords_after_shift

if TYPE_CHECKING:
    from .exposure import Exposure
    from .tagged_wcs import Wcs

__all__ = ["CommonStar", "common_star", "corrected_exposure"]

_MAS = 3.6e6  # milliarcseconds in a degree


@dataclass(frozen=True)
class CommonStar:
    """Where all exposures put the star once they are corrected, and the correction of each."""

    sky: tuple[float, float]  # right ascension and declination, degrees
    pixels: tuple[tuple[float, float], ...]  # of the star in every exposure, 0-based (x, y)
    errors: tuple[tuple[float, float], ...]  # of those, pixels
    corrections: tuple[tuple[float, float], ...]  # added to an exposure's pixels before its old WCS, pixels
    disagreement: float  # largest distance between the exposures' own star positions on the sky, mas
    expected: float  # what their errors explain of it, mas, at least 1
    sources: tuple[str, ...]  # of the positions

    @property
    def notes(self) -> tuple[str, ...]:
        """A warning where the exposures disagree by more than their errors."""
        if self.disagreement <= 3 * self.expected:
            return ()
        return (
            f"the WCS of the exposures put the star on places {self.disagreement:.0f} mas apart, where its positions"
            f" are known to {self.expected:.1f} mas; "
            + ("they are made to agree" if any(map(any, self.corrections)) else "they are left so (star.source='wcs')"),
        )

    def cards(self, index: int) -> dict[str, tuple[Any, str]]:
        """Header cards of an exposure's products: value and comment by keyword; none where the WCS is left alone."""
        if self.sources[index] == "wcs":
            return {}
        (x, y), (dx, dy), error = self.pixels[index], self.corrections[index], self.errors[index]
        return self.sky_cards() | {
            "STAR_X": (x, "[pixel] star, x, 0-based"),
            "STAR_Y": (y, "[pixel] star, y, 0-based"),
            "STAR_DX": (dx, "[pixel] correction of the WCS, x"),
            "STAR_DY": (dy, "[pixel] correction of the WCS, y"),
            "STAR_ERR": (math.sqrt((error[0] ** 2 + error[1] ** 2) / 2), "[pixel] its error on an axis"),
        }

    def sky_cards(self) -> dict[str, tuple[Any, str]]:
        """Header cards of the sky image: the star's place, and where it was taken from."""
        found = sorted(set(self.sources))
        if found == ["wcs"]:
            return {}
        return {
            "STAR_RA": (self.sky[0], "[deg] right ascension of the star"),
            "STAR_DEC": (self.sky[1], "[deg] declination of the star"),
            "STAR_SRC": (", ".join(found), "where its pixel comes from"),
        }


def common_star(
    exposures: Sequence[Exposure],
    pixels: np.ndarray,
    errors: np.ndarray,
    sources: Sequence[str],
    *,
    relative: np.ndarray | None = None,
) -> CommonStar:
    r"""Agree on the star's place on the sky, and what moves every exposure's WCS onto it.

    $$ S = \sum_e w_e \, g_e(x_e) \Big/ \sum_e w_e, \qquad g_e(x_e + d_e) = S $$

    with the WCS g of an exposure, the star's pixel x, and weights w of the inverse variance of x.

    Args:
        exposures: science exposures.
        pixels: 0-based (x, y) of the star in each, [exp 2].
        errors: their standard errors, pixels, [exp 2].
        sources: where each comes from: `"wcs"` leaves all corrections zero.
        relative: errors of the differences between exposures where they are known better, pixels, [exp 2].

    Returns:
        `CommonStar`.

    Raises:
        ExposureError: an exposure's WCS does not reach its star.
    """
    pixels, errors = np.asarray(pixels, float), np.asarray(errors, float)
    relative = errors if relative is None else np.asarray(relative, float)
    maps = [exposure_wcs(exposure)[0] for exposure in exposures]
    places = np.array([wcs(*pixel, with_bounding_box=False) for wcs, pixel in zip(maps, pixels, strict=True)], float)
    for exposure, place in zip(exposures, places, strict=True):
        if not np.isfinite(place).all():
            raise ExposureError("the WCS does not reach the star", file=exposure.path)
    origin = (float(places[0, 0]), float(places[0, 1]))
    plane = np.stack(gnomonic(places[:, 0], places[:, 1], origin), axis=1)  # [exp 2], degrees
    scales = [_pixel_scale(wcs, pixel) for wcs, pixel in zip(maps, pixels, strict=True)]
    weights = 1 / np.maximum((relative**2).mean(axis=1), 1e-12)
    mean = weights @ plane / weights.sum()
    ra, dec = degnomonic(mean[:1], mean[1:], origin)
    sky = (float(ra[0]), float(dec[0]))
    apart = plane[:, None] - plane[None]
    error = np.array(scales) * np.sqrt((relative**2).sum(axis=1))
    if all(source == "wcs" for source in sources):
        corrections = [(0.0, 0.0)] * len(exposures)
    else:
        corrections = [_solve(wcs, pixel, sky) for wcs, pixel in zip(maps, pixels, strict=True)]
    return CommonStar(
        sky=sky,
        pixels=tuple((float(x), float(y)) for x, y in pixels),
        errors=tuple((float(x), float(y)) for x, y in errors),
        corrections=tuple(corrections),
        disagreement=float(np.hypot(*np.moveaxis(apart, -1, 0)).max()) * _MAS,
        expected=max(1.0, float(np.hypot(error[:, None], error[None]).max()) * _MAS),
        sources=tuple(sources),
    )


def corrected_exposure(exposure: Exposure, star: CommonStar, index: int) -> Exposure:
    """An exposure whose WCS puts the star on the common place, in its gwcs and in its FITS keywords.

    Args:
        exposure: as read.
        star: from `common_star`.
        index: of the exposure.

    Returns:
        The exposure with a shift before its gwcs, and CRPIX, S_REGION, RA_REF and DEC_REF moved with it. Keywords that
        did not say what the gwcs says are fitted to it anew. The same object where there is nothing to correct.
    """
    correction = star.corrections[index]
    if not any(correction):
        return exposure
    wcs, moved = exposure_wcs(exposure)[0], repointed(exposure, correction)
    changes = keywords_after_shift(exposure, wcs, exposure_wcs(moved)[0], correction, star.pixels[index])
    changes |= _moved_places(exposure, wcs, star, index)
    header = exposure.sci_header
    comments = {key: header.comments[key] if key in header else "" for key in changes}
    return with_keywords(moved, {k: None if v is None else (v, comments[k]) for k, v in changes.items()})


def _moved_places(exposure: Exposure, wcs: Wcs, star: CommonStar, index: int) -> dict[str, Any]:
    """S_REGION and the sky position of the reference point, moved as the star is."""
    ra, dec = wcs(*star.pixels[index], with_bounding_box=False)
    old = (float(ra), float(dec))

    def move(points: np.ndarray) -> np.ndarray:
        return np.stack(degnomonic(*gnomonic(points[:, 0], points[:, 1], old), star.sky), axis=1)

    polygons, _ = exposure_footprints(exposure)
    changes: dict[str, Any] = {"S_REGION": format_s_region([move(polygon) for polygon in polygons])}
    reference = [exposure.sci_header.get(keyword) for keyword in ("RA_REF", "DEC_REF")]
    if all(isinstance(value, (int, float)) for value in reference):
        ra_ref, dec_ref = move(np.array([reference], float))[0]
        changes |= {"RA_REF": float(ra_ref), "DEC_REF": float(dec_ref)}
    return changes


def _plane(wcs: Wcs, pixel: np.ndarray, sky: tuple[float, float]) -> np.ndarray:
    """Where a pixel and its next neighbours in x and y fall on the plane tangent at this place, [xi-eta point]."""
    x, y = pixel
    points = wcs(np.array([x, x + 1, x]), np.array([y, y, y + 1]), with_bounding_box=False)
    return np.stack(gnomonic(points[0], points[1], sky))


def _solve(wcs: Wcs, pixel: np.ndarray, sky: tuple[float, float]) -> tuple[float, float]:
    """How far from this pixel the WCS reaches the place on the sky, by Newton's method."""
    step = np.zeros(2)
    for _ in range(6):
        plane = _plane(wcs, pixel + step, sky)
        step = step - np.linalg.solve(plane[:, 1:] - plane[:, :1], plane[:, 0])
    return float(step[0]), float(step[1])


def _pixel_scale(wcs: Wcs, pixel: np.ndarray) -> float:
    """Degrees per pixel there."""
    ra, dec = wcs(*pixel, with_bounding_box=False)
    plane = _plane(wcs, pixel, (float(ra), float(dec)))
    return math.sqrt(abs(float(np.linalg.det(plane[:, 1:] - plane[:, :1]))))
