"""Check that the exposures of an association belong together, and say what they cannot give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import AssociationError
from .association import Association
from .exposure import Exposure, ExposureHeaders
from .history import processing_notes

_SAME = ("INSTRUME", "DETECTOR", "FILTER", "PUPIL", "CORONMSK", "SUBARRAY", "APERNAME", "EXP_TYPE", "BUNIT")

_ONE_ROLL = 1.0  # degrees


def check_consistent(association: Association, exposures: Sequence[Exposure | ExposureHeaders]) -> None:
    """Refuse exposures that differ in instrument, optics, detector region, unit or image size.

    Args:
        association: where the exposures come from.
        exposures: its members, backgrounds included, read whole or by their headers alone; all are compared with the
            first.

    Raises:
        AssociationError: an exposure differs from the first; names its file, the keyword and both values.

    Example:
        >>> from astropy.io import fits
        >>> from pathlib import Path
        >>> headers = [ExposureHeaders(Path(n), fits.Header(), {"SCI": fits.Header()}, (1, 4, 4)) for n in ("a", "b")]
        >>> headers[1].primary["FILTER"] = "F444W"
        >>> check_consistent(Association(Path("asn.json"), "c1", "none", "product", (), ()), headers)
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: b: FILTER='F444W': a, the first exposure of asn.json, has None
    """
    if not exposures:
        raise AssociationError("no exposures", file=association.path, keyword="members", value=())
    first = exposures[0]
    for exposure in exposures[1:]:
        for keyword in _SAME:
            _compare(association, exposure, first, keyword, _value(exposure, keyword), _value(first, keyword))
        _compare(association, exposure, first, "image size (y, x)", exposure.shape[1:], first.shape[1:])


def observation_notes(
    science: Sequence[Exposure | ExposureHeaders], references: Sequence[Exposure | ExposureHeaders]
) -> tuple[str, ...]:
    """What an observation lacks that a reduction would profit from.

    Args:
        science: exposures of the target, read whole or by their headers alone.
        references: those of the reference stars.

    Returns:
        A sentence each: on frames that come co-added or aligned, single integrations, a single roll angle, a single
        reference image.

    Example:
        >>> from astropy.io import fits
        >>> from pathlib import Path
        >>> one = ExposureHeaders(Path("a.fits"), fits.Header(), {"SCI": fits.Header()}, (1, 4, 4))
        >>> observation_notes([one], [one])[-1]
        'one reference integration in all: the star is modelled by that image, scaled'
    """
    notes = list(processing_notes([*science, *references]))
    single = [exposure.path.name for exposure in (*science, *references) if exposure.shape[0] == 1]
    if single:
        who = single[0] if len(single) == 1 else f"{len(single)} exposures"
        notes.append(f"{who}: one integration, so that no outlier can be found")
    rolls = np.array([float(exposure.keyword("ROLL_REF") or 0.0) for exposure in science])
    if science and np.abs((rolls - rolls[0] + 180) % 360 - 180).max() < _ONE_ROLL:
        what = "one science exposure" if len(science) == 1 else f"{len(science)} science exposures of one roll angle"
        notes.append(f"{what}: no second roll tells what turns with the sky from what the references leave")
    if sum(exposure.shape[0] for exposure in references) == 1:
        notes.append("one reference integration in all: the star is modelled by that image, scaled")
    return tuple(notes)


def _value(exposure: Exposure | ExposureHeaders, keyword: str) -> object:
    value = exposure.keyword(keyword)
    return value.strip() if isinstance(value, str) else value


def _compare(
    association: Association,
    exposure: Exposure | ExposureHeaders,
    first: Exposure | ExposureHeaders,
    keyword: str,
    value: object,
    expected: object,
) -> None:
    if value != expected:
        message = f"{first.path.name}, the first exposure of {association.path.name}, has {expected!r}"
        raise AssociationError(message, file=exposure.path, keyword=keyword, value=value)
