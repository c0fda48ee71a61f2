"""Write a FITS file whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from astropy.io import fits

from ..errors import OutputError


def write_atomically(hdus: fits.HDUList, path: str | Path) -> Path:
    """Write a FITS file so that its name never stands for an incomplete one.

    The file is written under a temporary name in its folder, with CHECKSUM and DATASUM in every HDU, synced to disk,
    then renamed; an existing file of that name is replaced in that instant. On an error the temporary file is removed.

    Args:
        hdus: content.
        path: final name. Its folder is made where it is missing.

    Returns:
        The path.

    Raises:
        OutputError: the folder or the file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_atomically(fits.HDUList([fits.PrimaryHDU()]), folder / "empty.fits").name
        'empty.fits'
        >>> [file.name for file in folder.iterdir()]
        ['empty.fits']
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb", opener=_create) as file:
                hdus.writeto(file, checksum=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: the product cannot be written: {error.strerror or error}") from error
    return path


def _create(path: str, flags: int) -> int:
    """Open a file that does not exist yet, with the rights that new files have."""
    return os.open(path, flags | os.O_EXCL, 0o666)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power failure, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
