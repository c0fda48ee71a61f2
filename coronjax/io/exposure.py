"""Read a `_calints` exposure: its cube of integrations, its headers, and everything else the file carries."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from ..cube import Cube
from ..errors import ExposureError
from .association import Association

if TYPE_CHECKING:
    import gwcs

_CORONAGRAPHIC = ("NRC_CORON", "MIR_4QPM", "MIR_LYOT")
_VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")


@dataclass(frozen=True, eq=False, repr=False)
class Exposure:
    """One exposure in memory: the file is closed, arrays are native-endian numpy."""

    path: Path
    cube: Cube  # [integration y x], float32 and uint32 numpy arrays; all planes valid
    primary: fits.Header  # of the primary HDU
    headers: dict[str, fits.Header]  # by extension name, in the order of the file; ASDF included
    area: np.ndarray | None  # [y x] float32, pixel area relative to nominal; None: missing or empty
    int_times: fits.BinTableHDU | None  # as read; None: missing or empty
    others: tuple[Any, ...] = ()  # HDUs that this package has no use for, as read, to be carried to products
    asdf_bytes: bytes | None = field(default=None)  # content of the ASDF extension
    notes: tuple[str, ...] = ()  # what a user should know, a sentence each

    @property
    def sci_header(self) -> fits.Header:
        """Header of the SCI extension (WCS keywords, BUNIT, exposure-dependent pointing)."""
        return self.headers["SCI"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of integrations, rows, columns."""
        return self.cube.sci.shape

    def keyword(self, name: str, default: Any = None) -> Any:
        """A keyword of the primary header, else of the SCI header, else `default`."""
        return self.primary.get(name, self.sci_header.get(name, default))

    def gwcs(self) -> gwcs.WCS | None:
        """The WCS of the ASDF extension; None where the file has none. Read on first use (asdf takes two seconds to import)."""
        return self._gwcs

    def asdf_tree(self) -> Any:
        """The tree of the ASDF extension, lazily: references back to FITS arrays stay unresolved. Empty where there is none."""
        return {} if self._asdf is None else self._asdf.tree

    @cached_property
    def _asdf(self) -> Any:
        if self.asdf_bytes is None:
            return None
        import asdf

        return asdf.open(io.BytesIO(self.asdf_bytes), lazy_load=True, lazy_tree=True)

    @cached_property
    def _gwcs(self) -> Any:
        tree = self.asdf_tree()
        return tree["meta"].get("wcs") if "meta" in tree else None


def read_exposure(path: str | Path) -> Exposure:
    """Read a coronagraphic `_calints` file whole."""
    path = Path(path)
    with fits.open(path, memmap=False) as hdus:
        cube = {name: np.asarray(hdus[name].data, np.float32) for name in ("SCI", "ERR")}
        variances = {
            name.lower(): np.asarray(hdus[name].data, np.float32)
            for name in _VARIANCES
            if name in hdus and hdus[name].data is not None
        }
        known = {"PRIMARY", "SCI", "ERR", "DQ", "AREA", "INT_TIMES", "ASDF", *_VARIANCES}
        return Exposure(
            path=path,
            cube=Cube(cube["SCI"], cube["ERR"], np.asarray(hdus["DQ"].data, np.uint32), np.ones(len(cube["SCI"]), bool), **variances),
            primary=hdus[0].header,
            headers={hdu.name: hdu.header for hdu in hdus[1:]},
            area=np.asarray(hdus["AREA"].data, np.float32) if "AREA" in hdus else None,
            int_times=hdus["INT_TIMES"].copy() if "INT_TIMES" in hdus else None,
            others=tuple(hdu.copy() for hdu in hdus[1:] if hdu.name not in known),
            asdf_bytes=hdus["ASDF"].data["ASDF_METADATA"].tobytes() if "ASDF" in hdus else None,
        )
