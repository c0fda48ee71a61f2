"""Binary tables. astropy's own way to make one imports its tables first, which takes longer than writing a product."""

from __future__ import annotations

import io
from collections.abc import Sequence

from astropy.io import fits


def table_hdu(columns: Sequence[fits.Column], name: str) -> fits.BinTableHDU:
    """A binary table extension, the first of its name.

    Args:
        columns: of equal length.
        name: of the extension.

    Returns:
        The extension.

    Example:
        >>> table_hdu([fits.Column(name="SHIFT_X", format="D", array=[0.5])], "ALIGNMENT").columns.formats
        ['D']
    """
    hdu = fits.BinTableHDU(name=name)
    hdu.data = fits.FITS_rec.from_columns(fits.ColDefs(columns))
    hdu.header["EXTVER"] = (1, "extension value")
    return hdu


def read_table(header: fits.Header, data: bytes) -> fits.BinTableHDU:
    """A binary table from its parts as they are in a file; the data are parsed where they are asked for.

    Args:
        header: of the extension, which gets one of its own.
        data: its bytes, in whole blocks of 2880.

    Returns:
        The extension.

    Example:
        >>> hdu = fits.BinTableHDU.from_columns([fits.Column(name="FILTER", format="5A", array=["F430M"])])
        >>> read_table(hdu.header, b"F430M".ljust(2880)).data["FILTER"].tolist()
        ['F430M']
    """
    return fits.BinTableHDU.readfrom(io.BytesIO(header.tostring().encode("ascii") + data))


def copied_hdu(hdu: fits.hdu.base.ExtensionHDU) -> fits.hdu.base.ExtensionHDU:
    """An extension with header and data of its own.

    Args:
        hdu: of any kind.

    Returns:
        The copy.

    Example:
        >>> copied_hdu(fits.ImageHDU(name="AREA")).name
        'AREA'
    """
    if type(hdu) is not fits.BinTableHDU or hdu.data is None:
        return hdu.copy()
    copy = fits.BinTableHDU(header=hdu.header)
    copy.data = hdu.data.copy()
    return copy
