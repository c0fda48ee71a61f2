"""The typed errors that coronjax raises on bad input; all derive from `CoronjaxError`."""

from pathlib import Path


class CoronjaxError(Exception):
    """Anything that is wrong with what the user gave: files, keywords, options, precision."""


class InputError(CoronjaxError):
    """A file that cannot be used, with the file, keyword and value at fault.

    Args:
        message: what is wrong and what would be right, in one sentence.
        file: the file at fault.
        keyword: the header keyword, JSON field or extension at fault.
        value: what was found there.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, keyword: str | None = None, value: object = None
    ):
        self.message, self.file, self.keyword, self.value = message, file, keyword, value
        where = f"{file}: " if file is not None else ""
        what = f"{keyword}={value!r}: " if keyword is not None else ""
        super().__init__(f"{where}{what}{message}")


class AssociationError(InputError):
    """An association file that is malformed, incomplete or names members that do not fit together."""


class ExposureError(InputError):
    """An exposure, mask or other FITS file that is damaged, incomplete or of the wrong kind."""


class OutputError(CoronjaxError):
    """A product that cannot be written."""


class OptionsError(CoronjaxError):
    """An option outside its range, or two that contradict each other."""


class PrecisionError(CoronjaxError):
    """Float64 was asked for while JAX's x64 mode is off."""
