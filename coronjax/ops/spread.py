"""Apply the overlap of pixels to images."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .overlap import Overlap


def spread(table: Overlap, values: Float[Array, "*planes y_in x_in"]) -> Float[Array, "*planes y x"]:
    """Drop images onto the output grid: every output pixel gets its shares of the input pixels, added up.

    Args:
        table: the geometry, from `overlap`.
        values: finite images on the grid of the pixel map.

    Returns:
        Images on the output grid. A sum, not a mean: surface brightness needs the division by the spread weight.

    Example:
        >>> y, x = jnp.mgrid[:3, :3]
        >>> table = overlap(jnp.stack([x, y], -1) * 1.0, output_shape=(3, 3), window=1)
        >>> float(spread(table, jnp.ones((3, 3))).sum())
        9.0
    """
    leading = values.shape[:-2]
    channels = values.reshape(math.prod(leading), -1).T  # one index then fetches neighbours in memory

    def gather(total: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
        index, share = entry
        return total + share[..., None] * channels[index], None

    # A loop, which the compiler cannot merge with what is done to its result and so repeat for each use of it.
    total = jnp.zeros((*table.share.shape[1:], channels.shape[-1]), values.dtype)
    total, _ = jax.lax.scan(gather, total, (table.index, table.share.astype(values.dtype)), unroll=3)
    return jnp.moveaxis(total, -1, 0).reshape(*leading, *total.shape[:2])


def squared(table: Overlap) -> Overlap:
    """The operator of variances: every share squared."""
    return Overlap(table.index, table.share**2, table.n_lost)


def spread_context(
    table: Overlap,
    usable: Bool[Array, "int y_in x_in"],
    valid: Bool[Array, " int"],
    first: Int[Array, ""],
    n_words: int,
) -> Int[Array, "word y x"]:
    """Return which planes reach each output pixel: one bit for every valid plane, counted from `first`."""

    def mark(words: Array, plane: tuple[Array, Array]) -> tuple[Array, None]:
        used, number = plane
        bit = jax.lax.bitcast_convert_type(jnp.uint32(1) << (number % 32).astype(jnp.uint32), jnp.int32)
        return words.at[number // 32].set(words[number // 32] | jnp.where(used, bit, 0)), None

    order = first + jnp.cumsum(valid.astype(first.dtype)) - valid
    words, _ = jax.lax.scan(mark, jnp.zeros((n_words, *usable.shape[1:]), jnp.int32), (usable, order))
    channels = words.reshape(n_words, -1).T

    def gather(total: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
        index, covers = entry
        return total | jnp.where(covers[..., None], channels[index], 0), None

    total = jnp.zeros((*table.share.shape[1:], n_words), jnp.int32)
    total, _ = jax.lax.scan(gather, total, (table.index, table.share > 0), unroll=3)
    return jnp.moveaxis(total, -1, 0)
