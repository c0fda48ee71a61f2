"""Stacks of frames worked on block by block of pixels.

What is made of a block stays in the processor's cache. Writing a whole stack less its means to memory takes longer than
all the sums over it, and as much memory as the stack. Accelerators take larger blocks, of 1 GB at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, overload

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._exact import two_sum
from ._machine import suited

_PIXELS = 8192  # of a block, if nothing else is said: 6.5 MB in float64 of a hundred frames
_OF_ZONES = 2048  # of a block where there are several zones: much of a larger one would belong to others
_LARGER = 16  # times as many pixels for an accelerator, at most
_LARGER_OF_ZONES = 4  # likewise
_VALUES = 2**27  # of a stack in such a block: 1 GB in float64


class Zones(eqx.Module):
    """Sets of pixels that are worked on one by one. The pixels of each of several zones lie side by side."""

    inside: Array | None = None  # [pixel], those that count in their zone; None: all
    starts: Array | None = None  # [zone + 1], first pixel of each zone, and behind the last; None: there is one zone

    @property
    def count(self) -> int:
        """Number of zones."""
        return 1 if self.starts is None else len(self.starts) - 1

    def only(self, deciding: Array | None) -> Zones:
        """The same zones, of whose pixels only some count."""
        if deciding is None:
            return self
        return Zones(deciding if self.inside is None else deciding & self.inside, self.starts)

    def whole(self, zone: Array | int, n_pixels: int) -> Block:
        """All pixels as one block, of which those of a zone count."""
        inside = self.inside
        if self.starts is not None:
            place = jnp.arange(n_pixels)
            run = (place >= self.starts[zone]) & (place < self.starts[zone + 1])
            inside = run if inside is None else run & inside
        return Block(None, zone, inside, None, n_pixels)


class Block(eqx.Module):
    """Some neighbouring pixels, and the zone that they are looked at for."""

    start: Array | None  # None: all pixels there are
    zone: Array | int
    inside: Array | None  # [block], which of them count in the zone; None: all
    new: Array | None  # [block], which of them no block before has had; None: all
    length: int = eqx.field(static=True)

    @overload
    def of(self, stack: Array) -> Array: ...
    @overload
    def of(self, stack: None) -> None: ...
    def of(self, stack: Array | None) -> Array | None:
        """The part `[... block]` of a stack `[... pixel]`."""
        return stack if self.start is None else _slice(stack, self.start, self.length)

    def put(self, stack: Array, part: Array) -> Array:
        """A stack `[... pixel]` with `part` where the block's pixels count."""
        part = part if self.inside is None else jnp.where(self.inside, part, self.of(stack))
        return part if self.start is None else jax.lax.dynamic_update_slice_in_dim(stack, part, self.start, axis=-1)

    @property
    def once(self) -> Array | None:
        """Which pixels to count, so that all blocks together count each one once."""
        if self.inside is None or self.new is None:
            return self.new if self.inside is None else self.inside
        return self.inside & self.new


@overload
def _slice(stack: Array, start: Array, length: int) -> Array: ...
@overload
def _slice(stack: None, start: Array, length: int) -> None: ...
def _slice(stack: Array | None, start: Array, length: int) -> Array | None:
    return None if stack is None else jax.lax.dynamic_slice_in_dim(stack, start, length, axis=-1)


class Blocks(NamedTuple):
    """A division of the pixels."""

    most: int  # blocks there can be
    used: Array | int  # of them, from the first on; the others have no pixel that counts
    at: Callable[[Array], Block]  # the block of a number


def divide(zones: Zones, n_pixels: int, size: int = _PIXELS) -> Blocks:
    """Divide the pixels into blocks of about `size`, each of one zone."""
    if zones.starts is not None:
        size = min(size, _OF_ZONES * suited(1, _LARGER_OF_ZONES), n_pixels)
        return _of_runs(zones.starts, zones.inside, n_pixels, size)
    count = max(1, -(-n_pixels // size))
    if count == 1:
        return Blocks(1, 1, lambda _: zones.whole(0, n_pixels))
    length = -(-n_pixels // count)  # as even as can be; the last may overlap the one before

    def at(i: Array) -> Block:
        start = jnp.minimum(i * length, n_pixels - length)
        new = None if n_pixels % length == 0 else jnp.arange(length) + start >= i * length
        return Block(start, 0, _slice(zones.inside, start, length), new, length)

    return Blocks(count, count, at)


def _of_runs(starts: Array, inside: Array | None, n_pixels: int, length: int) -> Blocks:
    """Blocks of several zones, of equal length."""
    n_zones = len(starts) - 1
    each = -(-jnp.diff(starts) // length)
    ends = jnp.cumsum(each)

    def at(i: Array) -> Block:
        zone = jnp.minimum(jnp.sum(ends <= i), n_zones - 1)
        first = starts[zone] + (i - ends[zone] + each[zone]) * length
        start = jnp.clip(first, 0, n_pixels - length)
        place = start + jnp.arange(length)
        run = (place >= first) & (place < starts[zone + 1])
        return Block(start, zone, run if inside is None else run & _slice(inside, start, length), None, length)

    return Blocks(n_pixels // length + n_zones, ends[-1], at)


def _suited(size: int, shape: tuple[int, ...]) -> int:
    """Pixels of a block for the device worked on."""
    return suited(size, max(size, min(_LARGER * size, _VALUES // max(math.prod(shape[:-1]), 1))))


def over_blocks(
    cut: Callable[[Block], Any],
    one: Callable[[Any, Array | None], Any],
    zones: Zones,
    shape: tuple[int, ...],
    *,
    size: int = _PIXELS,
    outside: float = jnp.nan,
) -> Any:
    """Call `one(cut(block), inside)` for every block; lay its arrays of floats `[... block]` side by side.

    Args:
        cut: takes what `one` needs out of the stacks.
        one: what is made of it; of whose pixels those `inside` count.
        zones: where to work.
        shape: of the largest of the stacks, `[... pixel]`.
        size: about so many pixels make a block for a processor, fewer where there are several zones.
        outside: value of the pixels that do not count.
    """
    n_pixels = shape[-1]
    blocks = divide(zones, n_pixels, _suited(size, shape))

    def part(i: Array) -> Any:
        block = blocks.at(i)
        return _worked(one, cut(block), block.inside, zones)

    first = jnp.zeros((), int)
    if blocks.most == 1:
        put = blocks.at(first).put
        return jax.tree.map(lambda leaf: put(jnp.full_like(leaf, outside), leaf), part(first))
    shapes = jax.eval_shape(part, first)
    empty = jax.tree.map(lambda leaf: jnp.full((*leaf.shape[:-1], n_pixels), outside, leaf.dtype), shapes)

    def step(images: Any, i: Array) -> tuple[Any, None]:
        return jax.tree.map(blocks.at(i).put, images, jax.checkpoint(part)(i)), None

    return jax.lax.scan(step, empty, jnp.arange(blocks.most))[0]


def sum_blocks(
    cut: Callable[[Block], Any],
    one: Callable[[Any, Array | None], Any],
    zones: Zones,
    shape: tuple[int, ...],
    *,
    size: int = _PIXELS,
    compensated: bool = False,
) -> Any:
    """Call `one(cut(block), counted)` for every block and add up, zone by zone: `[zone ...]`.

    Args:
        cut: takes what `one` needs out of the stacks.
        one: a sum over those pixels that are `counted`.
        zones: where to work.
        shape: of the largest of the stacks, `[... pixel]`.
        size: about so many pixels make a block for a processor, fewer where there are several zones.
        compensated: add what rounding loses between blocks at the end.
    """
    # Compensated sums are for the sake of their digits, for which blocks are short.
    blocks = divide(zones, shape[-1], size if compensated else _suited(size, shape))

    def part(i: Array) -> Any:
        block = blocks.at(i)
        return _worked(one, cut(block), block.once, zones)

    if blocks.most == 1:
        return jax.tree.map(lambda leaf: leaf[None], part(jnp.zeros((), int)))

    def step(state: tuple[Any, Any], i: Array) -> tuple[tuple[Any, Any], None]:
        total, lost = state
        zone, value = blocks.at(i).zone, jax.checkpoint(part)(i)
        if compensated:
            rest = jax.tree.map(lambda so_far, new: _rest(so_far[zone], new), total, value)
            lost = _added(lost, rest, zone)
        return (_added(total, value, zone), lost), None

    shapes = jax.eval_shape(part, jnp.zeros((), int))
    nothing = jax.tree.map(lambda leaf: jnp.zeros((zones.count, *leaf.shape), leaf.dtype), shapes)
    first = nothing, nothing if compensated else None
    total, lost = jax.lax.scan(step, first, jnp.arange(blocks.most))[0]
    return jax.tree.map(jnp.add, total, lost) if compensated else total


def _added(total: Any, value: Any, zone: Array | int) -> Any:
    """Sums `[zone ...]` with a value more for one zone."""

    def one(so_far: Array, new: Array) -> Array:
        if len(so_far) == 1:
            return so_far + new
        return jax.lax.dynamic_update_index_in_dim(so_far, so_far[zone] + new, zone, 0)

    return jax.tree.map(one, total, value)


def _rest(total: Array, value: Array) -> Array:
    """What rounding loses of a sum; of its derivative it is no part."""
    return two_sum(*jax.lax.stop_gradient((total, value)))[1]


def _worked(one: Callable[[Any, Array | None], Any], parts: Any, counted: Array | None, zones: Zones) -> Any:
    """`one`; of several zones, zeros without any work where no pixel counts.

    The parts are cut out before the branch: its derivative would fill whole stacks with zeros where nothing is done.
    """
    if zones.starts is None or counted is None:
        return one(parts, counted)
    shapes = jax.eval_shape(one, parts, counted)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.cond(jnp.any(counted), one, lambda *_: nothing, parts, counted)
