"""Arrays that are looked at only when they are needed."""

import pickle

import numpy as np

from coronjax.io.pending import Pending
from coronjax.io.product import images


class Watched:
    """An array that counts how often it is looked at."""

    def __init__(self):
        self.looks = 0

    def __array__(self, dtype=None, copy=None):
        self.looks += 1
        return np.arange(12, dtype=np.float32).reshape(3, 4)


def test_parts_wait_until_they_are_looked_at():
    watched = Watched()
    part = Pending(watched)[1:][np.array([True, False])]
    assert watched.looks == 0
    np.testing.assert_array_equal(part, [[4, 5, 6, 7]])
    assert np.asarray(part) is np.asarray(part)
    assert watched.looks == 1
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)), part)
    assert np.asarray(part, np.float64).dtype == np.float64


def test_headers_are_made_without_the_arrays():
    watched = Watched()
    (extension,) = images({"SCI": Pending(watched), "ERR": None}, {})
    assert (extension.name, watched.looks) == ("SCI", 0)
    np.testing.assert_array_equal(extension.hdu().data, np.asarray(watched))
    assert extension.data.shape == (3, 4)


def test_no_copy():
    array = np.zeros(5)
    assert np.shares_memory(np.asarray(Pending(array)[1:]), array)
