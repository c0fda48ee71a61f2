"""Arrays that are still being computed, so that headers can be made in the meantime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Pending:
    """An array, or a part of one, that is waited for when it is looked at: `np.asarray(pending)`."""

    def __init__(self, source: Any, part: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self._source, self._part = source, part

    def __getitem__(self, key: Any) -> Pending:
        """A part of it, waited for no sooner."""
        return Pending(self, lambda array: array[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Wait for it."""
        array = np.asarray(self._source)
        return np.array(array if self._part is None else self._part(array), dtype, copy=copy)
