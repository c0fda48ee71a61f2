"""A product in memory: arrays with their headers and WCS, and the FITS file they make."""

from __future__ import annotations

import copy
import html
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from .pending import Pending
from .table import copied_hdu, read_table
from .tree import asdf_hdu

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from ..cube import Cube

# What describes the file rather than the data, and is made anew with it.
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|DATAMIN|DATAMAX"
    r"|EXTNAME|EXTVER|EXTLEVEL|NEXTEND|CHECKSUM|DATASUM"
)


def plain_header(header: fits.Header) -> fits.Header:
    """A copy of a header without what describes the file: sizes, types, names, checksums.

    Args:
        header: of any HDU.

    Returns:
        Its other cards, comments and history included.

    Example:
        >>> list(plain_header(fits.Header({"BITPIX": 8, "NINTS": 2})))
        ['NINTS']
    """
    return fits.Header([copy.copy(card) for card in header.cards if not _STRUCTURE.fullmatch(card.keyword)])


def set_card(header: fits.Header, keyword: str, value: Any, comment: str) -> None:
    """Set a keyword, its comment cut to what the card has room for.

    Args:
        header: changed in place.
        keyword: of at most eight letters.
        value: number, truth value or text.
        comment: what it means.

    Example:
        >>> header = fits.Header()
        >>> set_card(header, "FILENAME", "f" * 50, "Name of the file, spelt out")
        >>> header.comments["FILENAME"]
        'Name of the fil'
    """
    if isinstance(value, str) and len(value) <= 68:  # a longer text goes on in further cards, the comment with it
        comment = comment[: max(0, 65 - max(8, len(value.replace("'", "''"))))]
    header[keyword] = (value, comment)


@dataclass(frozen=True, eq=False)
class Extension:
    """An image extension; or any other HDU, carried as it is."""

    name: str
    source: Any  # native-endian array, see `data`; None: that of the carried HDU
    header: fits.Header  # without structural keywords, but for those of a carried HDU
    carried: Callable[[], Any] | None = None  # makes the HDU itself, anew each time

    @property
    def data(self) -> np.ndarray | None:
        """The array; it is waited for where it is still being computed."""
        if self.source is None and self.carried is not None:
            return self.carried().data
        return np.asarray(self.source) if isinstance(self.source, Pending) else self.source

    @classmethod
    def of(cls, hdu: Any) -> Extension:
        """An HDU as an extension of a product."""
        return cls(hdu.name, hdu.data, hdu.header, partial(copied_hdu, hdu))

    @classmethod
    def of_table(cls, header: fits.Header, data: bytes) -> Extension:
        """The header of a table and its bytes, which are parsed only where they are asked for."""
        return cls(header["EXTNAME"], None, header, partial(read_table, header, data))

    def hdu(self) -> Any:
        """A new HDU: floats are stored as float32, integers as they are."""
        if self.carried is not None:
            return self.carried()
        data = np.asarray(self.source)
        kind = {"f": ">f4", "i": ">i4", "u": "=u4"}[data.dtype.kind]
        # A copy: astropy swaps the bytes of an array in place while it writes it.
        hdu = fits.ImageHDU(np.array(data, kind), header=self.header, name=self.name)
        hdu.header["EXTVER"] = (1, "extension value")
        return hdu


@dataclass(frozen=True, eq=False, repr=False)
class Product:
    """One output file in memory.

    The array of an extension is an attribute in lower case: `product.sci`, `product.err`, `product.dq`, `product.con`,
    `product.wht`, `product.var_poisson`, ...
    """

    name: str  # file name
    kind: str  # its suffix: crfints, psfstack, psfalign, psfsub or i2d
    primary: fits.Header
    extensions: tuple[Extension, ...]  # in the order of the file, the ASDF extension aside
    asdf: bytes  # content of the ASDF extension

    def __getattr__(self, name: str) -> Any:
        """The data of the extension of this name."""
        if not name.startswith("_"):
            for extension in self.extensions:
                if extension.name.lower() == name:
                    return extension.data
        raise AttributeError(f"{self.kind} product has no extension {name.upper()}")

    def __dir__(self) -> list[str]:
        """Attributes, extensions included."""
        return sorted({*super().__dir__(), *(extension.name.lower() for extension in self.extensions)})

    def settle(self) -> None:
        """Wait for all arrays: they are numpy's from then on."""
        for extension in self.extensions:
            if extension.source is not None:
                _ = extension.data

    @property
    def header(self) -> fits.Header:
        """Header of the SCI extension."""
        return self.extensions[0].header

    def keyword(self, name: str, default: Any = None) -> Any:
        """A keyword of the primary header, else of the SCI header, else `default`."""
        return self.primary.get(name, self.header.get(name, default))

    @cached_property
    def wcs(self) -> WCS:
        """From pixels to the sky by the keywords of the SCI header: the two celestial axes."""
        from astropy.wcs import WCS, FITSFixedWarning  # here, since they take half a second to import

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            return WCS(self.header, naxis=2)

    def hdulist(self) -> fits.HDUList:
        """The content of the file."""
        hdus = [fits.PrimaryHDU(header=self.primary), *(extension.hdu() for extension in self.extensions)]
        # The ASDF extension follows the images and tables of the format; tables of our own come last.
        place = len(hdus) - sum(extension.name == "ALIGNMENT" for extension in self.extensions)
        hdus.insert(place, asdf_hdu(self.asdf))
        return fits.HDUList(hdus)

    def __repr__(self) -> str:
        """Name, extensions and sizes in one line."""
        return f"Product({self.name}: {', '.join(f'{name} {size}' for name, size in self._sizes())})"

    def _repr_html_(self) -> str:
        """The same as a table."""
        rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{size}</td></tr>" for name, size in self._sizes())
        facts = [self.keyword(key) for key in ("TARGNAME", "INSTRUME", "FILTER", "CORONMSK")]
        about = html.escape(", ".join(str(fact) for fact in facts if fact))
        return f"<p><b>{html.escape(self.name)}</b> {about}</p><table>{rows}</table>"

    def _sizes(self) -> list[tuple[str, str]]:
        shapes = ((extension.name, getattr(extension.data, "shape", ())) for extension in self.extensions)
        return [(name, "x".join(str(n) for n in shape) or "empty") for name, shape in shapes]


def images(arrays: Mapping[str, Any], headers: Mapping[str, fits.Header]) -> list[Extension]:
    """Image extensions from arrays, in their order.

    Args:
        arrays: by extension name; None leaves one out.
        headers: by extension name, where there is something to say.

    Returns:
        The extensions.
    """
    made = []
    for name, array in arrays.items():
        if array is not None:
            header = plain_header(headers[name]) if name in headers else fits.Header()
            made.append(Extension(name, array if isinstance(array, Pending) else np.asarray(array), header))
    return made


# What the extensions of variances say that do not fall with the number of integrations.
_SHARED = {
    "VAR_REFERENCES": "Variance by the noise of the reference images, (MJy/sr)^2.",
    "VAR_SPECKLES": "Variance by what the references leave of the star, (MJy/sr)^2.",
}


def shared_variances(arrays: Mapping[str, Any]) -> list[Extension]:
    """Image extensions of variances that all integrations of an exposure share.

    Args:
        arrays: VAR_REFERENCES and VAR_SPECKLES, [y x], (MJy/sr)^2; None leaves one out.

    Returns:
        The extensions, whose headers say so.

    Example:
        >>> [made.name for made in shared_variances({"VAR_SPECKLES": np.ones((2, 2)), "VAR_REFERENCES": None})]
        ['VAR_SPECKLES']
    """
    made = images(arrays, {})
    for extension in made:
        extension.header["COMMENT"] = _SHARED[extension.name]
        extension.header["COMMENT"] = "All integrations of an exposure share it: their mean has it in full."
    return made


def cube_planes(cube: Cube) -> dict[str, Any]:
    """The arrays of a cube by extension name.

    Args:
        cube: of numpy or JAX arrays.

    Returns:
        The arrays; None where the cube has none.
    """
    names = ("sci", "err", "dq", "var_poisson", "var_rnoise", "var_flat")
    return {name.upper(): getattr(cube, name) for name in names}
