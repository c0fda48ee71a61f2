"""What a refused exposure says, for the tests of reading."""

import re

import pytest

from coronjax.errors import ExposureError
from coronjax.io.exposure import read_exposure, read_headers


def refuse(path, keyword, value, words, *, headers_too=True):
    """Reading fails with an error that names the file, the keyword and the value."""
    for read in (read_exposure, read_headers) if headers_too else (read_exposure,):
        with pytest.raises(ExposureError, match=re.escape(words)) as caught:
            read(path)
        assert (caught.value.file, caught.value.keyword, caught.value.value) == (path, keyword, value)
        assert str(path) in str(caught.value)
        assert keyword is None or f"{keyword}={value!r}" in str(caught.value)


def write(path, hdus):
    hdus.writeto(path, overwrite=True)
    return path
