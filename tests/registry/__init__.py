"""One row per op: adding an op here enrols it in the contract, jit, vmap, grad, NaN and padding tests."""

from . import cubes, images, klip, registration, resampling
from .row import Row

ROWS: list[Row] = [*cubes.ROWS, *klip.ROWS, *resampling.ROWS, *images.ROWS, *registration.ROWS]

__all__ = ["ROWS", "Row"]
