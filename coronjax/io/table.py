"""Binary tables. astropy's own way to make one imports its tables first, which takes longer than writing a product."""

from __future__ import annotations

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
