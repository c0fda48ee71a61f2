"""How often astropy reads its settings: by itself at every card of a header, forty thousand times in a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def read_settings_once() -> None:
    """Take what `astropy.io.fits.conf` says now for good: a tenth of the time of an association, for a process of ours.

    Example:
        >>> with settings_read_once():  # which calls it
        ...     pass
    """
    from astropy.io import fits

    for name, setting in list(fits.conf.items()):
        setattr(type(fits.conf), name, setting())


@contextmanager
def settings_read_once() -> Iterator[None]:
    """Do so for the length of a `with` block, in which nobody changes the settings.

    Example:
        >>> from astropy.io import fits
        >>> with settings_read_once():
        ...     fits.conf.enable_uint
        True
        >>> with fits.conf.set_temp("enable_uint", False):
        ...     fits.conf.enable_uint
        False
    """
    from astropy.io import fits

    settings = dict(fits.conf.items())
    read_settings_once()
    try:
        yield
    finally:
        for name, setting in settings.items():
            setattr(type(fits.conf), name, setting)
