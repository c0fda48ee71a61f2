"""How often Python looks for garbage. Imports and FITS headers make objects by the hundred thousand, and few cycles."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


def collect_rarely() -> None:
    """Look for cycles rarely from now on, and not at all when the process ends, which takes 0.4 s otherwise.

    Example:
        >>> with rarely_collected():  # which calls it
        ...     gc.get_threshold()[0]
        100000
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)  # all goes at once when the process ends
    gc.set_threshold(100_000, 20, 100)


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Look for cycles rarely for the length of a `with` block, in which no other thread changes that.

    Example:
        >>> before = gc.get_threshold()
        >>> with rarely_collected():
        ...     pass
        >>> gc.get_threshold() == before
        True
    """
    threshold = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
