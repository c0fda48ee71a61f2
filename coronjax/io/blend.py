"""Combine the headers of several exposures into one, and list them in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from astropy.io import fits

from .blend_rules import COLUMNS, RULES
from .table import table_hdu

_OUTSIDE = "outside calibration tolerance"

_COMBINE: dict[str, Callable[[list[Any]], Any]] = {
    "min": min,
    "max": max,
    "sum": sum,
    "mean": lambda values: float(np.mean(values)),
    "multi": lambda values: values[0] if len(set(values)) == 1 else "MULTIPLE",
    "wheeltol": lambda values: _OUTSIDE if _OUTSIDE in values else "within commanded tolerance",
}


def blended_keywords(headers: Sequence[Mapping[str, fits.Header]]) -> list[tuple[str, str, str, Any]]:
    """Combine those keywords that depend on all exposures; the rest are the first exposure's.

    Args:
        headers: of every exposure, by extension name: PRIMARY and SCI.

    Returns:
        (extension, keyword, place in the metadata tree, value) for every keyword that at least one exposure has.

    Example:
        >>> empty = fits.Header()
        >>> exposures = [{"PRIMARY": fits.Header({"EFFEXPTM": time}), "SCI": empty} for time in (10.0, 20.0)]
        >>> blended_keywords(exposures)
        [('PRIMARY', 'EFFEXPTM', 'exposure.exposure_time', 30.0)]

    Source: schema of CubeModel, stdatamodels 6.0.0; header blending of jwst 3.0.0.
    """
    blended = []
    for line in RULES.split("\n"):
        if line:
            name, rule, place = line.split()
            values = [value for value in _values(headers, name) if value is not None]
            if values:
                blended.append((*_split(name), place, _COMBINE[rule](values)))
    return blended


def header_table(headers: Sequence[Mapping[str, fits.Header]]) -> fits.BinTableHDU:
    """List the keywords of every exposure: the extension HDRTAB.

    Args:
        headers: of every exposure, by extension name: PRIMARY and SCI.

    Returns:
        One row per exposure, one column for each known keyword that at least one exposure has; NaN where one lacks it.

    Example:
        >>> empty = fits.Header()
        >>> exposures = [{"PRIMARY": fits.Header({"NINTS": n}), "SCI": empty} for n in (2, 3)]
        >>> header_table(exposures).data["NINTS"].tolist()
        [2, 3]

    Source: schema of CubeModel, stdatamodels 6.0.0; header blending of jwst 3.0.0.
    """
    columns = {}
    for name in COLUMNS.split():
        values = _values(headers, name)
        if any(value is not None for value in values):
            missing = "nan" if any(isinstance(value, str) for value in values) else np.nan
            columns[_split(name)[1]] = np.array([missing if value is None else value for value in values])
    return table(columns, "HDRTAB")


def table(columns: Mapping[str, np.ndarray], name: str) -> fits.BinTableHDU:
    """A binary table extension.

    Args:
        columns: arrays of equal length by name: text, truth values, integers or floating numbers.
        name: of the extension.

    Returns:
        The extension; truth values are stored as logicals, int64 as 64-bit integers, other types as they are.

    Example:
        >>> table({"FILE": np.array(["a.fits"]), "SHIFT_X": np.array([0.5])}, "ALIGNMENT").columns.formats
        ['6A', 'D']
    """
    made = [fits.Column(name=key, format=_format(np.asarray(v)), array=np.asarray(v)) for key, v in columns.items()]
    return table_hdu(made, name)


def _format(values: np.ndarray) -> str:
    if values.dtype.kind in "US":
        return f"{max(1, values.dtype.itemsize // (4 if values.dtype.kind == 'U' else 1))}A"
    return {"b1": "L", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}[values.dtype.str[1:]]


def _split(name: str) -> tuple[str, str]:
    """Extension and keyword."""
    return ("SCI", name[4:]) if name.startswith("SCI.") else ("PRIMARY", name)


def _values(headers: Sequence[Mapping[str, fits.Header]], name: str) -> list[Any]:
    """The keyword of every exposure; None where it is missing or undefined."""
    extension, keyword = _split(name)
    found = [header[extension].get(keyword) for header in headers]
    return [None if isinstance(value, fits.card.Undefined) else value for value in found]
