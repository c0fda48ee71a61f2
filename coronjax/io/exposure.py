"""Read a `_calints` exposure: its cube of integrations, its headers, and everything else the file carries."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from ..cube import Cube
from ..errors import ExposureError
from .fits_file import FitsFile, open_fits
from .table import read_table
from .tagged_wcs import Wcs, tagged_wcs
from .tree import AsdfContent

if TYPE_CHECKING:
    import gwcs

CORONAGRAPHIC = ("NRC_CORON", "MIR_4QPM", "MIR_LYOT")
_VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")


class _WithHeaders:
    """What exposures have in common, with their pixels or without."""

    primary: fits.Header
    headers: dict[str, fits.Header]

    @property
    def sci_header(self) -> fits.Header:
        """Header of the SCI extension (WCS keywords, BUNIT, pointing)."""
        return self.headers["SCI"]

    def keyword(self, name: str, default: Any = None) -> Any:
        """A keyword of the primary header, else of the SCI header, else `default`."""
        return self.primary.get(name, self.sci_header.get(name, default))

    def __repr__(self: Any) -> str:  # any of those that inherit it, which have path, shape and notes
        """One line on what the exposure is, one on its size, one for each note."""
        words = [str(self.keyword(name)) for name in ("INSTRUME", "DETECTOR", "FILTER", "CORONMSK", "SUBARRAY")]
        planes, ny, nx = self.shape
        target = self.keyword("TARGPROP") or self.keyword("TARGNAME") or "unnamed target"
        lines = [
            f"{type(self).__name__} {self.path.name}",
            f"  {self.keyword('EXP_TYPE')}, {' '.join(word for word in words if word != 'None')}, {target}",
            f"  {planes} integration{'s' * (planes != 1)} of {ny} x {nx} pixels (y x), {self.keyword('BUNIT')}",
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


@dataclass(frozen=True, eq=False, repr=False)
class ExposureHeaders(_WithHeaders):
    """What the headers of an exposure say, read without its pixels."""

    path: Path
    primary: fits.Header  # of the primary HDU
    headers: dict[str, fits.Header]  # by extension name (the first of each), in the order of the file
    shape: tuple[int, int, int]  # integrations, rows, columns
    notes: tuple[str, ...] = ()  # what a user should know, a sentence each


@dataclass(frozen=True, eq=False, repr=False)
class Exposure(_WithHeaders):
    """One exposure in memory: its file is closed, its arrays are native-endian numpy."""

    path: Path
    cube: Cube  # [integration y x], float32 and uint32 numpy arrays; all planes valid
    primary: fits.Header  # of the primary HDU
    headers: dict[str, fits.Header]  # by extension name (the first of each), in the order of the file; ASDF included
    area: np.ndarray | None  # [y x] float32, pixel area relative to nominal; None: missing or empty
    int_times_bytes: bytes | None  # data of INT_TIMES as they are in the file; None: missing or empty
    others: tuple[Any, ...] = ()  # HDUs that this package has no use for, as read, to be carried to products
    asdf_bytes: bytes | None = None  # content of the ASDF extension
    notes: tuple[str, ...] = ()  # what a user should know, a sentence each

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of integrations, rows, columns."""
        planes, ny, nx = self.cube.sci.shape
        return planes, ny, nx

    @property
    def int_times(self) -> fits.BinTableHDU | None:
        """The INT_TIMES extension, an object of its own each time; None where it is missing or empty."""
        return None if self.int_times_bytes is None else read_table(self.headers["INT_TIMES"], self.int_times_bytes)

    def wcs(self) -> Wcs | None:
        """The WCS of the ASDF extension, called as `wcs(x, y)`; None where it has none.

        Evaluated as the extension describes it, or by gwcs where the description holds what only that knows.

        Raises:
            ExposureError: the ASDF extension is damaged.
        """
        return self._wcs

    def gwcs(self) -> gwcs.WCS | None:
        """The same as an object of gwcs, which takes seconds to import; read on first use.

        Raises:
            ExposureError: the ASDF extension is damaged.
        """
        return self._gwcs

    def asdf_tree(self) -> Any:
        """The tree of the ASDF extension, its nodes built when they are touched; empty where there is none.

        Raises:
            ExposureError: the ASDF extension is damaged.
        """
        return {} if self._asdf is None else self._asdf.tree

    @cached_property
    def _wcs(self) -> Any:
        known = None if self.asdf_bytes is None else tagged_wcs(self.asdf_bytes)
        return self.gwcs() if known is None else known

    @cached_property
    def _asdf(self) -> Any:
        if self.asdf_bytes is None:
            return None
        import asdf  # here, since it takes seconds

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions and tags: whether the WCS could be read is seen from its type
            try:
                # Blocks are read from memory when they are touched, so the ASDF file is not closed.
                return asdf.open(io.BytesIO(self.asdf_bytes), lazy_load=True, lazy_tree=True)
            except Exception as error:  # YAML, schema and block errors have no common base
                raise self._damaged(error) from error

    @cached_property
    def _gwcs(self) -> Any:
        meta = self.asdf_tree().get("meta")
        if not hasattr(meta, "keys") or "wcs" not in meta:
            return None
        import gwcs

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wcs = meta["wcs"]
            except Exception as error:
                raise self._damaged(error) from error
        whole = isinstance(wcs, gwcs.WCS) and all(step.transform is not None for step in wcs.pipeline[:-1])
        return wcs if whole else None

    def _damaged(self, error: Exception) -> ExposureError:
        text = " ".join(str(error).split())
        message = f"the ASDF extension cannot be read: {text}"
        return ExposureError(message, file=self.path, keyword="EXTNAME", value="ASDF")


def read_exposure(path: str | Path) -> Exposure:
    """Read a coronagraphic `_calints` file whole.

    Args:
        path: a FITS file, plain or compressed, with extensions SCI [integration y x], MJy/sr, ERR and DQ of the same
            shape, and as a rule VAR_POISSON, VAR_RNOISE, VAR_FLAT, AREA [y x], INT_TIMES and ASDF. One of the latter
            that is missing, empty or of another shape counts as absent, with a note.

    Returns:
        `Exposure`, arrays native-endian float32 and uint32.

    Raises:
        ExposureError: the file is missing, not FITS, truncated or damaged, is no coronagraphic exposure, lacks SCI, ERR
            or DQ, or holds arrays that do not fit together.

    Example:
        >>> read_exposure("no_such_calints.fits")
        Traceback (most recent call last):
        ...
        coronjax.errors.ExposureError: no_such_calints.fits: no such file
    """
    path = Path(path)
    notes: list[str] = []
    with open_fits(path) as file:
        _check_kind(file)
        cube = _cube(file, notes)
        area = _optional(file, "AREA", cube.sci.shape[1:], notes)
        int_times = _int_times(file, len(cube.sci), notes)
        asdf_bytes = _asdf_bytes(file, notes)
        known = ("SCI", "ERR", "DQ", "AREA", "INT_TIMES", "ASDF", *_VARIANCES)
        others = tuple(hdu.copy() for hdu in file.hdus[1:] if hdu.name not in known or hdu is not file.find(hdu.name))
        primary, headers = file.hdus[0].header, _headers(file)
    notes += [f"reading: {note}" for note in file.notes]
    return Exposure(path, cube, primary, headers, area, int_times, others, asdf_bytes, tuple(notes))


def read_headers(path: str | Path) -> ExposureHeaders:
    """Read and check the headers of a `_calints` file without its pixels.

    Args:
        path: a FITS file as `read_exposure` takes it.

    Returns:
        `ExposureHeaders`.

    Raises:
        ExposureError: the file is missing, not FITS, truncated, no coronagraphic exposure, or lacks SCI, ERR or DQ.

    Example:
        >>> read_headers("no_such_calints.fits")
        Traceback (most recent call last):
        ...
        coronjax.errors.ExposureError: no_such_calints.fits: no such file
    """
    with open_fits(path) as file:
        _check_kind(file)
        primary, headers = file.hdus[0].header, _headers(file)
        shape = file.hdus["SCI"].shape
    notes = tuple(f"reading: {note}" for note in file.notes)
    return ExposureHeaders(Path(path), primary, headers, shape, notes)


def _headers(file: FitsFile) -> dict[str, fits.Header]:
    headers: dict[str, fits.Header] = {}
    for hdu in file.hdus[1:]:
        headers.setdefault(hdu.name, hdu.header)
    return headers


def _check_kind(file: FitsFile) -> None:
    """A coronagraphic exposure with the extensions that cannot be done without, in shapes that fit."""
    exp_type = file.hdus[0].header.get("EXP_TYPE")
    if exp_type not in CORONAGRAPHIC:
        message = f"not a coronagraphic exposure, whose type is one of {', '.join(CORONAGRAPHIC)}"
        raise ExposureError(message, file=file.path, keyword="EXP_TYPE", value=exp_type)
    shapes = {}
    for name in ("SCI", "ERR", "DQ"):
        hdu = file.find(name)
        if hdu is None:
            raise ExposureError("the extension is missing", file=file.path, keyword="EXTNAME", value=name)
        if not isinstance(hdu, fits.ImageHDU | fits.CompImageHDU):
            kind = hdu.header.get("XTENSION")
            raise ExposureError(f"extension {name} is not an image", file=file.path, keyword="XTENSION", value=kind)
        shapes[name] = hdu.shape
    if len(shapes["SCI"]) != 3 or 0 in shapes["SCI"]:
        message = "must have the axes integration, y, x, none of them empty"
        raise ExposureError(message, file=file.path, keyword="SCI shape", value=shapes["SCI"])
    for name in ("ERR", "DQ"):
        if shapes[name] != shapes["SCI"]:
            message = f"differs from the shape of SCI, {shapes['SCI']}"
            raise ExposureError(message, file=file.path, keyword=f"{name} shape", value=shapes[name])


def _cube(file: FitsFile, notes: list[str]) -> Cube:
    # numpy arrays stand where the type says jax: they are moved to the device by whoever computes with them
    sci: Any = file.image("SCI", np.float32)
    err: Any = file.image("ERR", np.float32)
    dq: Any = file.image("DQ", np.uint32)
    valid: Any = np.ones(len(sci), bool)
    blank = np.flatnonzero((np.isnan(sci) | (dq & 1 != 0)).all(axis=(1, 2)))
    if blank.size:
        notes.append(f"integrations left out, since they have no usable pixel (0-based): {', '.join(map(str, blank))}")
    var_poisson, var_rnoise, var_flat = (_optional(file, name, sci.shape, notes) for name in _VARIANCES)
    return Cube(sci, err, dq, valid, var_poisson, var_rnoise, var_flat)


def _optional(file: FitsFile, name: str, shape: tuple[int, ...], notes: list[str]) -> Any:
    """An image that can be done without: absent where it is missing, empty or of another shape."""
    array = file.image(name, np.float32)
    if array is None:
        notes.append(f"{name} is {'missing' if file.find(name) is None else 'empty'}")
    elif array.shape != shape:
        notes.append(f"{name} has shape {array.shape} where {shape} is needed; it counts as missing")
        return None
    return array


def _int_times(file: FitsFile, n_integrations: int, notes: list[str]) -> bytes | None:
    hdu, data = file.find("INT_TIMES"), file.table_bytes("INT_TIMES")
    if hdu is None or data is None:
        notes.append(f"INT_TIMES is {'missing' if hdu is None else 'empty'}")
    elif (rows := hdu.header["NAXIS2"]) != n_integrations:
        notes.append(f"INT_TIMES has {rows} rows for {n_integrations} integrations")
    return data


def _asdf_bytes(file: FitsFile, notes: list[str]) -> bytes | None:
    """The ASDF extension as a table of one row or, as older files have it, as an image of bytes."""
    hdu = file.find("ASDF")
    content = b""
    if isinstance(hdu, fits.BinTableHDU) and "ASDF_METADATA" in (hdu.columns.names or []) and len(hdu.data):
        content = np.asarray(hdu.data["ASDF_METADATA"][0], np.uint8).tobytes()
    elif isinstance(hdu, fits.ImageHDU) and hdu.data is not None:
        content = np.asarray(hdu.data, np.uint8).tobytes()
    if not content:
        notes.append("there is no ASDF extension, so the WCS comes from the FITS keywords")
    return AsdfContent(content) if content else None
