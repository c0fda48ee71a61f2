"""KLIP with a library of references that is larger than memory: read from disk in blocks of rows, twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .ops import Gram, KlipResult, init_gram, klip_weights, subtract, update
from .options import Klip

BLOCK_BYTES = 128 * 2**20  # of one block of the library in memory


def klip_library(
    science: np.ndarray, library: Any, *, options: Klip | None = None, block_bytes: int = BLOCK_BYTES
) -> KlipResult:
    r"""Subtract the star with a library that never is in memory as a whole.

    $$ G = \bigoplus_b G_b, \qquad w = V_K \Lambda_K^{-1} V_K^T B, \qquad
       d_b = t_b - \bar t - \sum_k w_k (r_{kb} - \bar r_k) $$

    for blocks of rows b: `gram` of each is merged into the whole, the weights follow, and a second pass subtracts. The
    next block is read while one is worked on. The peak of memory over that of JAX itself stays below
    `250 MB + 8 block_bytes + 20 n^2 s + 3 T P s` for n references, T science frames of P pixels and s bytes a number.
    `Klip.max_modes` saves nearly all of the time of the decomposition.

    Args:
        science: integrations `[t y x]`, finite, MJy/sr. Their dtype is that of the work; float64 needs JAX's x64 mode.
        library: references `[k y x]`, finite, registered, MJy/sr: anything with `shape` that gives arrays when sliced
            by rows, as a `numpy.memmap`, or a dataset of h5py or zarr, does.
        options: `truncate` and `max_modes`; by default `Klip()`.
        block_bytes: memory for one block of the library.

    Returns:
        `KlipResult`; `error` is None: the scatter of the references would take a third pass of n^2 P products.

    Raises:
        ValueError: science and library differ in the size of their images.

    Example:
        >>> frames = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)
        >>> bool(np.abs(klip_library(2 * frames[:1], frames).residual).max() < 1e-4)
        True

    Source: Soummer, Pueyo & Larkin (2012), ApJ 755, L28; Chan, Golub & LeVeque (1983), American Statistician 37, 242.
    """
    options = Klip() if options is None else options
    n_science, (n_references, ny, nx) = len(science), library.shape
    if science.shape[1:] != (ny, nx):
        raise ValueError(f"science has images of {science.shape[1:]} pixels and the library of {(ny, nx)}")
    dtype = jnp.result_type(science.dtype, jnp.float32)
    rows = max(1, min(ny, block_bytes // (n_references * nx * dtype.itemsize)))
    rows = -(-ny // -(-ny // rows))  # blocks as even as can be
    whole = init_gram(1, n_references, n_science, dtype)
    for start, block, inside in _blocks(library, rows, dtype):
        whole = _added(whole, block, _padded(science[:, start : start + rows], rows, dtype), inside)
    found = jax.jit(klip_weights, static_argnames="max_modes")(
        whole, truncate=options.truncate, max_modes=options.max_modes
    )
    residual = np.empty(science.shape, dtype)
    for start, block, inside in _blocks(library, rows, dtype):
        aims = _padded(science[:, start : start + rows], rows, dtype)
        left = _subtracted(aims, block, found.weights, inside, whole)
        residual[:, start : start + rows] = np.asarray(left)[:, : ny - start]
    return KlipResult(jnp.asarray(residual), None, found.weights, found.n_modes, found.gap, found.eigenvalues)


@jax.jit
def _added(whole: Gram, references: Any, science: Any, inside: Any) -> Gram:
    return update(whole, references, science, zones=inside)


@jax.jit
def _subtracted(science: Any, references: Any, weights: Any, inside: Any, whole: Gram) -> Any:
    return subtract(science, references, weights, zones=inside, whole=whole)


def _blocks(library: Any, rows: int, dtype: np.dtype) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First row, references `[k rows x]` and pixels that are no padding `[1 rows x]` of every block, read ahead."""
    ny, nx = library.shape[1:]
    starts = range(0, ny, rows)

    def read(start: int) -> np.ndarray:
        return _padded(library[:, start : start + rows], rows, dtype)

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, 0)
        for start in starts:
            block = ahead.result()
            if start + rows < ny:
                ahead = reader.submit(read, start + rows)
            inside = np.broadcast_to((np.arange(start, start + rows) < ny)[:, None], (1, rows, nx))
            yield start, block, inside


def _padded(images: Any, rows: int, dtype: np.dtype) -> np.ndarray:
    """Images with rows of zeros added: all blocks share a program."""
    images = np.asarray(images, dtype)
    missing = rows - images.shape[1]
    return images if missing == 0 else np.pad(images, ((0, 0), (0, missing), (0, 0)))
