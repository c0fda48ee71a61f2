"""Arrays that are still being computed, so that headers can be made in the meantime."""

from __future__ import annotations

from typing import Any

import numpy as np


class Pending:
    """An array, or a part of one, that is waited for when it is looked at: `np.asarray(pending)`.

    Once it has been looked at it is the numpy array, and what it was made of is let go.
    """

    def __init__(self, source: Any, *keys: Any) -> None:
        self._source, self._keys = source, keys

    def __getitem__(self, key: Any) -> Pending:
        """A part of it, waited for no sooner."""
        return Pending(self._source, *self._keys, key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Wait for it."""
        array = np.asarray(self._source)
        for key in self._keys:
            array = array[key]
        self._source, self._keys = array, ()
        return np.array(array, dtype, copy=copy)
