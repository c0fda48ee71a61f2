"""Open a FITS file so that whatever is wrong with it is one typed error, and astropy's warnings become notes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from ..errors import ExposureError, InputError

_DECOMPRESS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
}


@dataclass
class FitsFile:
    """An open FITS file whose size has been checked against its headers; arrays are read on demand."""

    path: Path
    hdus: fits.HDUList
    stream: BinaryIO  # of the file, undone of compression
    notes: list[str] = field(default_factory=list)  # complete once the file is closed

    def find(self, name: str) -> Any | None:
        """The first extension of that name, or None."""
        return next((hdu for hdu in self.hdus[1:] if hdu.name == name), None)

    def table_bytes(self, name: str) -> bytes | None:
        """The data of a binary table as they are in the file; None where it is missing, empty or no table.

        Raises:
            ExposureError: its columns do not make up its rows.
        """
        hdu = self.find(name)
        if not isinstance(hdu, fits.BinTableHDU) or hdu.header["NAXIS2"] < 1:
            return None
        width, taken = hdu.header["NAXIS1"], hdu.columns.dtype.itemsize
        if width != taken:
            message = f"the columns of {name} take {taken} bytes of a row"
            raise ExposureError(message, file=self.path, keyword="NAXIS1", value=width)
        place = hdu.fileinfo()
        self.stream.seek(place["datLoc"])
        return self.stream.read(place["datSpan"])

    def image(self, name: str, dtype: type[np.generic]) -> np.ndarray | None:
        """The pixels of an image extension as a native-endian array of `dtype`; None where it is missing or empty."""
        hdu = self.find(name)
        if hdu is None or (isinstance(hdu, fits.ImageHDU | fits.CompImageHDU) and not hdu.shape):
            return None
        return self.pixels(hdu, dtype)

    def pixels(self, hdu: Any, dtype: type[np.generic]) -> np.ndarray | None:
        """The pixels of an image HDU as a native-endian array of `dtype`; None where it has none.

        Raises:
            ExposureError: the HDU is no image, or holds real numbers where `dtype` is an integer.
        """
        if not isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU):
            kind = hdu.header.get("XTENSION")
            raise ExposureError(f"extension {hdu.name} is not an image", file=self.path, keyword="XTENSION", value=kind)
        data = hdu.data
        del hdu.data  # astropy's cache: the big-endian original is not kept beside the copy
        if data is None or data.size == 0:
            return None
        if np.issubdtype(dtype, np.integer) and not np.issubdtype(data.dtype, np.integer):
            bitpix = hdu.header["BITPIX"]
            raise ExposureError(f"{hdu.name} must hold integers", file=self.path, keyword="BITPIX", value=bitpix)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(data, dtype)


@contextmanager
def open_fits(path: str | Path) -> Iterator[FitsFile]:
    """Open a FITS file, plain or compressed, and check that it is complete.

    Args:
        path: the file; whole-file gzip, bzip2 and xz compression is undone in memory.

    Returns:
        A context manager of `FitsFile`. What astropy warns of while it is open is in `notes` afterwards.

    Raises:
        ExposureError: the file is missing, unreadable, empty, not FITS, shorter than its headers say, or damaged.

    Example:
        >>> with open_fits("no_such_file.fits") as file:
        ...     pass
        Traceback (most recent call last):
        ...
        coronjax.errors.ExposureError: no_such_file.fits: no such file
    """
    path = Path(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AstropyWarning)
        try:
            with _stream(path) as stream, fits.open(stream, mode="readonly", memmap=False) as hdus:
                file = FitsFile(path, hdus, stream)
                _check_complete(file)
                _check_headers(file)
                yield file
        except (InputError, MemoryError):
            raise
        except Exception as error:  # a damaged file makes astropy raise almost anything
            text = " ".join(str(error).split())
            raise ExposureError(f"not a FITS file or a damaged one: {text}", file=path) from error
    for warning in caught:
        note = " ".join(str(warning.message).split())
        if not issubclass(warning.category, AstropyWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif note not in file.notes:
            file.notes.append(note)


def _stream(path: Path) -> BinaryIO:
    """The file, opened and undone of compression."""
    try:
        stream = path.open("rb")
        start = stream.read(6)
        stream.seek(0)
    except FileNotFoundError:
        raise ExposureError("no such file", file=path) from None
    except OSError as error:
        raise ExposureError(f"the file cannot be read: {error.strerror}", file=path) from None
    if not start:
        stream.close()
        raise ExposureError("the file is empty", file=path)
    for magic, decompress in _DECOMPRESS.items():
        if start.startswith(magic):
            try:
                with stream:
                    return io.BytesIO(decompress(stream.read()))
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise ExposureError(f"damaged or truncated compression: {error}", file=path) from None
    return stream


def _check_complete(file: FitsFile) -> None:
    """Every HDU lies inside the file, and nothing but blank padding follows the last."""
    size = file.stream.seek(0, io.SEEK_END)
    end = 0
    for index in range(len(file.hdus)):
        info = file.hdus[index].fileinfo()
        end = info["datLoc"] + info["datSpan"]
        if end > size:
            message = f"the file is truncated: extension {index} ({file.hdus[index].name}) ends at byte {end}"
            raise ExposureError(message, file=file.path, keyword="file size", value=size)
    file.stream.seek(end)
    if file.stream.read().strip(b"\0 "):
        message = f"the file is truncated or damaged: no whole header follows extension {len(file.hdus) - 1}"
        raise ExposureError(message, file=file.path, keyword="file size", value=size)


def _check_headers(file: FitsFile) -> None:
    """Parse every card now, so that none fails or warns later; what astropy can repair is repaired."""
    for hdu in file.hdus:
        try:
            for card in hdu.header.cards:
                _ = card.value
        except fits.VerifyError as error:
            hdu.verify("silentfix")
            file.notes.append(f"header of {hdu.name} repaired: {' '.join(str(error).split())}")
