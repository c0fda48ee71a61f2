"""Python looks for garbage rarely where it is told to, and as before afterwards."""

import atexit
import gc
from collections.abc import Iterator

import pytest

from coronjax.garbage import collect_rarely, rarely_collected

USUAL = (700, 10, 10)


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)
    atexit.unregister(gc.freeze)


def _fails_meanwhile() -> None:
    with rarely_collected():
        assert gc.get_threshold() > USUAL
        raise ZeroDivisionError


def test_put_back_after_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError):
        _fails_meanwhile()
    assert gc.get_threshold() == USUAL


def test_rarely_is_not_never() -> None:
    collect_rarely()
    assert gc.isenabled()
    assert gc.get_threshold() > USUAL
