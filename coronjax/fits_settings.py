"""How often astropy reads its settings: by itself at every card of a header, forty thousand times in a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress


def read_settings_once() -> None:
    """Put what the settings in `astropy.io.fits.conf` say now in their place, for good: for processes of ours.

    One whose value in the user's configuration is no value is left as it is.

    Example:
        >>> with settings_read_once():  # which calls it
        ...     pass
    """
    from astropy.io import fits

    for name, setting in list(fits.conf.items()):
        with suppress(TypeError):
            setattr(type(fits.conf), name, setting())


@contextmanager
def settings_read_once() -> Iterator[None]:
    """Put values in the place of the settings for the length of a `with` block, in which nobody changes them.

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
