"""Check that the exposures of an association belong together, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import AssociationError
from .association import Association
from .exposure import Exposure, ExposureHeaders

_SAME = ("INSTRUME", "DETECTOR", "FILTER", "PUPIL", "CORONMSK", "SUBARRAY", "APERNAME", "EXP_TYPE", "BUNIT")


def check_consistent(association: Association, exposures: Sequence[Exposure | ExposureHeaders]) -> None:
    """Refuse exposures that differ in instrument, optics, detector region, unit or image size.

    Args:
        association: where the exposures come from.
        exposures: its members, read whole or by their headers alone; all are compared with the first.

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
