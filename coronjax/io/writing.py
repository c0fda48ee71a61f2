"""Write a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from astropy.io import fits

from ..errors import OutputError


def begin_writing(hdus: fits.HDUList, path: str | Path) -> Callable[[], Path]:
    """Write a FITS file so that its name never stands for an incomplete one, but for waiting until it is on the disk.

    The file is written under a temporary name in its folder, with CHECKSUM and DATASUM in every HDU. What is returned
    syncs it to disk, then renames it; an existing file of that name is replaced in that instant. On an error the
    temporary file is removed. Cards are written as they are: one of an input that no standard knows is carried over,
    and stops nothing.

    Args:
        hdus: content, which may change afterwards.
        path: final name. Its folder is made where it is missing.

    Returns:
        What ends it and returns the path, in any thread. It has to be called: the temporary file may stay otherwise.

    Raises:
        OutputError: the folder or the file cannot be written. What is returned raises it too.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> end = begin_writing(fits.HDUList([fits.PrimaryHDU()]), folder / "empty.fits")
        >>> (folder / "empty.fits").exists(), end().exists(), [file.name for file in folder.iterdir()]
        (False, True, ['empty.fits'])
    """
    path = Path(path)
    with ExitStack() as stack:
        file = stack.enter_context(_replacing(path, "the product"))
        hdus.writeto(file, checksum=True, output_verify="ignore")
        rest = stack.pop_all()

    def end() -> Path:
        rest.close()
        return path

    return end


def write_text_atomically(text: str, path: str | Path) -> Path:
    """Write a text file so that its name never stands for an incomplete one, as `begin_writing` does.

    Args:
        text: content.
        path: final name. Its folder is made where it is missing.

    Returns:
        The path.

    Raises:
        OutputError: the folder or the file cannot be written.

    Example:
        >>> import tempfile
        >>> write_text_atomically("done", Path(tempfile.mkdtemp()) / "note.txt").read_text()
        'done'
    """
    path = Path(path)
    with _replacing(path, "the file") as file:
        file.write(text.encode())
    return path


def check_folder(folder: str | Path) -> None:
    """Find out whether files can be written to a folder, before the work of making them; it need not be there yet.

    Args:
        folder: nothing is made in it, nor it itself.

    Raises:
        OutputError: it, or the folder it would be made in, is none, or nobody may write there.

    Example:
        >>> import tempfile
        >>> check_folder(Path(tempfile.mkdtemp()) / "not" / "yet")
    """
    folder = Path(folder).absolute()
    try:
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not there.is_dir():
            raise OutputError(f"{folder}: products cannot be written there: {there} is no folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise OutputError(f"{folder}: products cannot be written there: no right to write to {there}")
    except OSError as error:
        raise OutputError(f"{folder}: products cannot be written there: {error.strerror or error}") from error


@contextmanager
def _replacing(path: Path, what: str) -> Iterator[IO[bytes]]:
    """A file under a temporary name, which gets its final one when everything is on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb", opener=_create) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: {what} cannot be written: {error.strerror or error}") from error


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
