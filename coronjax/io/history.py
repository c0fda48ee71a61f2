"""What was done to exposures before they came: integrations averaged, images moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .exposure import Exposure, ExposureHeaders

_MOVED = 0.1  # pixels between reference pixel and gwcs; as they come from the archive, they agree within 0.01


@dataclass(frozen=True)
class History:
    """The signs of work on an exposure that calwebb_coron3 does not expect."""

    averaged: float  # integrations in each plane; 1: as it was taken
    moved: float  # pixels from CRPIX to where the gwcs has CRVAL; NaN: not known
    extensions: tuple[str, ...]  # image extensions besides those of the format that list a shift for each plane

    @property
    def coadded(self) -> bool:
        """Whether a plane is more than one integration."""
        return self.averaged > 1

    @property
    def recentred(self) -> bool:
        """Whether pixels were moved, or their reference rewritten."""
        return self.moved > _MOVED or bool(self.extensions)


def history(exposure: Exposure | ExposureHeaders) -> History:
    """Look for the signs that integrations were averaged and images recentred.

    INT_TIMES lists every integration that was taken, and the time of one integration is that of its groups: both tell
    of averaged ones. As they come from the archive, CRPIX and CRVAL are a point of the gwcs: where they are not, the
    pixels were moved, or the keywords changed, and the gwcs was left.

    Args:
        exposure: as read. Its headers alone do not tell about the gwcs.

    Returns:
        `History`.

    Raises:
        ExposureError: the ASDF extension is damaged.
    """
    planes = exposure.shape[0]
    listed = _listed_integrations(exposure)
    averaged = max(1.0, listed / planes, _integrations_by_time(exposure))
    return History(averaged, _moved(exposure), _shift_lists(exposure, planes))


def already_processed(exposure: Exposure | ExposureHeaders) -> str | None:
    """Say in a sentence that an exposure comes co-added or aligned.

    Args:
        exposure: as read, or its headers.

    Returns:
        The sentence, or None.
    """
    notes = processing_notes([exposure])
    return notes[0] if notes else None


def processing_notes(exposures: Sequence[Exposure | ExposureHeaders]) -> tuple[str, ...]:
    """Say of the exposures of an association that they come co-added or aligned.

    Args:
        exposures: as read, or their headers.

    Returns:
        At most one sentence, on all that do.

    Example:
        >>> processing_notes(())
        ()
    """
    found = [(exposure, history(exposure)) for exposure in exposures]
    odd = [(exposure, past) for exposure, past in found if past.coadded or past.recentred]
    if not odd:
        return ()
    states = [state for state in ("coadded", "recentred") if any(getattr(past, state) for _, past in odd)]
    names = " and ".join({"coadded": "co-added", "recentred": "aligned"}[state] for state in states)
    who = odd[0][0].path.name if len(odd) == 1 else f"{len(odd)} of {len(found)} exposures"
    return (f"frames come {names}: {who}: {'; '.join(_signs([past for _, past in odd]))}",)


def _signs(pasts: Sequence[History]) -> list[str]:
    signs = []
    averaged = sorted({round(past.averaged) for past in pasts if past.coadded})
    if averaged:
        counts = f"{averaged[0]}" if len(averaged) == 1 else f"{averaged[0]} to {averaged[-1]}"
        signs.append(f"a plane holds {counts} integrations")
    moved = [past.moved for past in pasts if past.moved > _MOVED]
    if moved:
        signs.append(f"CRPIX lies up to {max(moved):.2f} pixels from where the gwcs has CRVAL")
    extensions = sorted({name for past in pasts for name in past.extensions})
    if extensions:
        signs.append(f"shifts are listed in {', '.join(extensions)}")
    return signs


def _number(exposure: Exposure | ExposureHeaders, keyword: str) -> float:
    value = exposure.keyword(keyword)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _listed_integrations(exposure: Exposure | ExposureHeaders) -> int:
    """Rows of INT_TIMES; in a segment of an exposure they can be those of the whole, and tell nothing."""
    header = exposure.headers.get("INT_TIMES")
    if (exposure.keyword("EXSEGTOT") or 1) != 1:
        return 0
    rows = 0 if header is None else header.get("NAXIS2", 0)
    return int(rows) if isinstance(rows, int) else 0


def _integrations_by_time(exposure: Exposure | ExposureHeaders) -> float:
    """The time of an integration over that of its groups, where that is about a whole number above 1."""
    groups, time, frame = (_number(exposure, key) for key in ("NGROUPS", "TGROUP", "TFRAME"))
    frames, total = _number(exposure, "NFRAMES"), _number(exposure, "EFFINTTM")
    one = (groups - 1) * time + frames * frame
    ratio = total / one if one > 0 else math.nan
    # Headers reckon the time of an integration in more ways than one, all within some percent for many groups.
    whole = groups > 1 and ratio > 1.5 and abs(ratio - round(ratio)) < 0.01 * ratio
    return round(ratio) if whole else 1.0


def _moved(exposure: Exposure | ExposureHeaders) -> float:
    read = getattr(exposure, "wcs", None)
    wcs = None if read is None else read()
    pixel, sky = ([_number(exposure, f"{name}{axis}") for axis in (1, 2)] for name in ("CRPIX", "CRVAL"))
    if wcs is None or not np.isfinite([*pixel, *sky]).all():
        return math.nan
    x, y = pixel[0] - 1, pixel[1] - 1
    at = np.stack(wcs(np.array([x, x + 1, x]), np.array([y, y, y + 1]), with_bounding_box=False), axis=1)
    cos = math.cos(math.radians(sky[1]))
    # Degrees on the sky, linear over the few pixels in question.
    steps = (at[1:] - at[0]).T * [[cos], [1.0]]
    away = np.array([(sky[0] - at[0, 0] + 180) % 360 - 180, sky[1] - at[0, 1]]) * [cos, 1.0]
    if not np.isfinite(steps).all() or np.linalg.det(steps) == 0:
        return math.nan
    return float(np.hypot(*np.linalg.solve(steps, away)))


def _shift_lists(exposure: Exposure | ExposureHeaders, planes: int) -> tuple[str, ...]:
    """Image extensions of two numbers a plane."""
    return tuple(
        name
        for name, header in exposure.headers.items()
        if header.get("XTENSION") == "IMAGE" and (header.get("NAXIS1"), header.get("NAXIS2")) == (2, planes)
        if header.get("NAXIS") == 2 and name != "AREA"
    )
