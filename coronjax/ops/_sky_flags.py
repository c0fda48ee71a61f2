"""The data quality flags of an image of the sky: those that most of a pixel's weight carries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from ..cube import DQ
from ._contributions import BAD
from ._devices import Part, by_pixels
from .overlap import Overlap
from .spread import spread

N_BITS = 32
TOTAL = N_BITS  # the row after those of the bits holds the whole weight
_AT_ONCE = 4  # bits that are spread together
_UNUSABLE = 1e-6  # weight of pixels that take no part, of the mean of the others: they decide where nothing else is
_MOST = 0.5 * (1 - 1e-4)  # half, but for rounding


def init_flags(output_shape: tuple[int, int]) -> Float[Array, "bit+1 y x"]:
    """The weight behind every bit, and all of it, before anything is observed."""
    return jnp.zeros((N_BITS + 1, *output_shape), jnp.float32)


def add_flags(
    sums: Float[Array, "bit+1 y x"],
    table: Overlap,
    dq: UInt32[Array, "int y_in x_in"],
    valid: Bool[Array, " int"],
    weight: Float[Array, "int y_in x_in"],
) -> Float[Array, "bit+1 y x"]:
    """Add the weight behind the bits of one exposure's pixels. Only bits that occur cost anything."""
    table, weight = jax.lax.stop_gradient((table, weight))
    n_usable = jnp.maximum(jnp.sum(weight > 0), 1)
    mean = jnp.sum(weight) / n_usable
    aside = jnp.where(mean > 0, _UNUSABLE * mean, 1)
    weight = jnp.where(valid[:, None, None], jnp.where(weight > 0, weight, aside), 0).astype(sums.dtype)
    _, occurring = by_pixels(_occurring, jnp.where(valid[:, None, None], dq, 0))
    occurs = jnp.append(occurring, 1)  # and the whole weight
    order = jnp.pad(jnp.argsort(1 - occurs.astype(jnp.int32)), (0, -(N_BITS + 1) % _AT_ONCE), constant_values=TOTAL + 1)

    def add(group: Array, sums: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(order, _AT_ONCE * group, _AT_ONCE)

        def behind(image: Array, plane: tuple[Array, Array]) -> tuple[Array, None]:
            flags, own = plane
            has = (flags >> jnp.minimum(rows, N_BITS - 1).astype(jnp.uint32)[:, None, None]) & 1
            return image + jnp.where((rows == TOTAL)[:, None, None] | (has == 1), own, 0), None

        image, _ = jax.lax.scan(behind, jnp.zeros((_AT_ONCE, *dq.shape[1:]), sums.dtype), (dq, weight))
        return sums.at[rows].add(spread(table, image), mode="drop")

    return jax.lax.fori_loop(0, -(-jnp.sum(occurs.astype(jnp.int32)) // _AT_ONCE), add, sums)


def _occurring(dq: UInt32[Array, "int y x"], _: None, part: Part) -> tuple[None, UInt32[Array, " bit"]]:
    """Which bits are set anywhere, as 0 and 1; devices agree on numbers, not on bits."""
    together = jax.lax.reduce(dq, jnp.uint32(0), jax.lax.bitwise_or, (0, 1, 2))
    return None, part.largest((together >> jnp.arange(N_BITS, dtype=jnp.uint32)) & 1)


def dominant_flags(sums: Float[Array, "bit+1 y x"], reached: Bool[Array, "y x"]) -> UInt32[Array, "y x"]:
    """The bits behind which stands at least half of a pixel's weight; DO_NOT_USE where nothing usable is."""
    seen = sums[TOTAL] > 0
    bits = jnp.uint32(1) << jnp.arange(N_BITS, dtype=jnp.uint32)
    carried = seen & (sums[:N_BITS] >= _MOST * sums[TOTAL])
    dq = jnp.sum(jnp.where(carried, bits[:, None, None], 0), 0, dtype=jnp.uint32)
    dq = jnp.where(reached, dq & jnp.uint32(~BAD & 0xFFFFFFFF), dq | jnp.uint32(DQ.DO_NOT_USE.value))
    return jnp.where(seen, dq, jnp.uint32(BAD))
