"""Stacks of frames worked on block by block of pixels.

What is made of a block stays in the processor's cache. Writing a whole stack less its means to memory takes longer than
all the sums over it, and as much memory as the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._exact import two_sum

_PIXELS = 8192  # of a block, if nothing else is said: 6.5 MB in float64 of a hundred frames


class Block(eqx.Module):
    """Some neighbouring pixels."""

    start: Array | None  # None: all there are
    new: Array | None  # which of them no block before has had; None: all
    length: int = eqx.field(static=True)

    @overload
    def of(self, stack: Array) -> Array: ...
    @overload
    def of(self, stack: None) -> None: ...
    def of(self, stack: Array | None) -> Array | None:
        """The part `[... block]` of a stack `[... pixel]`."""
        if stack is None or self.start is None:
            return stack
        return jax.lax.dynamic_slice_in_dim(stack, self.start, self.length, axis=-1)

    def once(self, used: Array | None) -> Array | None:
        """Which pixels to count, so that all blocks together count each one once; of those of `used`."""
        part = self.of(used)
        if part is None or self.new is None:
            return self.new if part is None else part
        return part & self.new


def over_blocks(one: Callable[[Block], Any], n_pixels: int, *, size: int = _PIXELS, used: Array | None = None) -> Any:
    """Call `one` for every block of about `size` pixels; lay its arrays `[... block]` side by side, `[... pixel]`.

    Blocks without a pixel of `used` are left out and get zeros.
    """
    count, length = _partition(n_pixels, size)
    if count == 1:
        return one(Block(None, None, n_pixels))
    one = _where_used(one, used)
    parts = jax.lax.map(jax.checkpoint(lambda i: one(_block(i, length, n_pixels))), jnp.arange(count))

    def join(part: Array) -> Array:
        before = jnp.moveaxis(part[:-1], 0, -2).reshape(*part.shape[1:-1], -1)
        return jnp.concatenate([before, part[-1][..., count * length - n_pixels :]], axis=-1)

    return jax.tree.map(join, parts)


def sum_blocks(
    one: Callable[[Block], Any],
    n_pixels: int,
    *,
    size: int = _PIXELS,
    used: Array | None = None,
    compensated: bool = False,
) -> Any:
    """Call `one` for every block of about `size` pixels and add up; it is to count the pixels of `once` only.

    Blocks without a pixel of `used` are left out. `compensated` adds what rounding loses between blocks at the end.
    """
    count, length = _partition(n_pixels, size)
    if count == 1:
        return one(Block(None, None, n_pixels))

    one = _where_used(one, used)

    def step(state: tuple[Any, Any], i: Array) -> tuple[tuple[Any, Any], None]:
        total, lost = state
        value = one(_block(i, length, n_pixels))
        if compensated:
            lost = jax.tree.map(_still_lost, lost, total, value)
        return (jax.tree.map(jnp.add, total, value), lost), None

    shapes = jax.eval_shape(lambda: one(_block(jnp.zeros((), int), length, n_pixels)))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    first = nothing, nothing if compensated else None
    total, lost = jax.lax.scan(jax.checkpoint(step), first, jnp.arange(count))[0]
    return jax.tree.map(jnp.add, total, lost) if compensated else total


def _still_lost(lost: Array, total: Array, value: Array) -> Array:
    """What rounding has lost after one sum more; of a sum's derivative it is no part."""
    return lost + two_sum(jax.lax.stop_gradient(total), jax.lax.stop_gradient(value))[1]


def all_blocks(n_pixels: int, size: int) -> tuple[int, Callable[[Array], Block]]:
    """How many blocks of about `size` pixels there are, and the block of a number; the last may overlap another."""
    count, length = _partition(n_pixels, size)
    whole = Block(None, None, n_pixels)
    return count, lambda i: whole if count == 1 else _block(i, length, n_pixels)


def _where_used(one: Callable[[Block], Any], used: Array | None) -> Callable[[Block], Any]:
    """The same work, and zeros without any for a block that has no pixel of `used`."""
    if used is None:
        return one

    def chosen(block: Block) -> Any:
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, block))
        return jax.lax.cond(jnp.any(block.of(used)), one, lambda _: nothing, block)

    return chosen


def _partition(n_pixels: int, size: int) -> tuple[int, int]:
    """Number and length of the blocks, as even as can be; the last may overlap the one before."""
    count = max(1, -(-n_pixels // size))
    return count, -(-n_pixels // count)


def _block(i: Array, length: int, n_pixels: int) -> Block:
    start = jnp.minimum(i * length, n_pixels - length)
    new = None if n_pixels % length == 0 else jnp.arange(length) + start >= i * length
    return Block(start, new, length)
