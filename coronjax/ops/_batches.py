"""Work on the planes of stacks on one device, a few at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._machine import suited

_VALUES = 2**23  # of each stack that an accelerator works on at once: 80 planes of 320 x 320


def default_batch(stacks: Any, few: int) -> int:
    """Planes worked on at once where nothing else is said."""
    values = max(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(stacks))
    return suited(few, max(few, _VALUES // max(values, 1)))


def in_batches(
    one: Callable[[Any], Any], own: tuple[Any, Array | None], otherwise: Callable[[Any], Any] | None, at_once: int
) -> Any:
    """Call `one` for every plane of a pytree of stacks, or `otherwise` where the plane is not wanted.

    Args:
        one: of a plane.
        own: the stacks, and which of their planes are wanted; None: all.
        otherwise: what stands for a plane that is not.
        at_once: planes worked on together, at most.

    Returns:
        What `one` returns, stacked.
    """

    def chosen(part: tuple) -> Any:
        plane, wanted = part
        return one(plane) if otherwise is None else jax.lax.cond(wanted, one, otherwise, plane)

    several = _several(one, otherwise)
    # Differentiated, a turn is worked out again: what it makes on its way would be kept for every plane.
    planes = len(jax.tree.leaves(own)[0])
    if at_once == 1 or planes == 0:
        return jax.lax.map(jax.checkpoint(chosen), own)
    if planes <= at_once:
        return several(own)
    turns = -(-planes // at_once)
    size = -(-planes // turns)  # equal batches: one program for all of them
    parts = jax.tree.map(lambda a: lengthened(a, turns * size - planes).reshape(turns, size, *a.shape[1:]), own)
    found = jax.lax.map(jax.checkpoint(several), parts)
    return jax.tree.map(lambda a: a.reshape(turns * size, *a.shape[2:])[:planes], found)


def in_turn(
    one: Callable[[Any], Any],
    stacks: Sequence[tuple[Any, Array]],
    otherwise: Callable[[Any], Any],
    at_once: int,
) -> list[Any]:
    """As `in_batches` for several stacks of at least one plane each, one after another in one loop.

    Planes are fetched from where they lie. Where those of a stack do not fill their turns, the last turn takes some of
    the one before again.
    """
    lengths = [len(wanted) for _, wanted in stacks]
    stacks = [jax.tree.map(lambda a: lengthened(a, max(0, at_once - len(a))), stack) for stack in stacks]
    firsts = [0, *itertools.accumulate(-(-length // at_once) * at_once for length in lengths)]
    several = _several(one, otherwise)

    def turn(place: Array) -> Any:
        return several(_fetched(stacks, firsts[:-1], place, at_once))

    found = jax.lax.map(jax.checkpoint(turn), jnp.arange(0, firsts[-1], at_once))
    found = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)
    places = [_places(length, at_once) for length in lengths]
    return [_at(found, first, own) for first, own in zip(firsts[:-1], places, strict=True)]


def _places(length: int, at_once: int) -> list[tuple[int, int]]:
    """Where the planes of a stack are among what its turns return: begin and end of each run."""
    rest = length % at_once
    if length < at_once or rest == 0:
        return [(0, length)]
    end = length - rest + at_once
    return [(0, length - rest), (end - rest, end)]


def _at(found: Any, first: int, places: list[tuple[int, int]]) -> Any:
    return jax.tree.map(lambda a: jnp.concatenate([a[first + begin : first + end] for begin, end in places]), found)


def lengthened(stack: Array, spare: int) -> Array:
    """The stack with so many planes of zeros after it."""
    return jnp.pad(stack, ((0, spare), *((0, 0),) * (stack.ndim - 1))) if spare else stack


def _several(one: Callable[[Any], Any], otherwise: Callable[[Any], Any] | None) -> Callable[[tuple], Any]:
    """`one` for several planes at once, where any of them is wanted."""

    def several(parts: tuple) -> Any:
        planes, wanted = parts
        if otherwise is None:
            return jax.vmap(one)(planes)
        idle = jax.vmap(otherwise)

        def choose(found: Array, instead: Array) -> Array:
            return jax.lax.select(jax.lax.broadcast_in_dim(wanted, found.shape, (0,)), found, instead)

        def work(planes: Any) -> Any:
            # Not a `cond` of each plane: `vmap` would make it a choice and copy what planes share for each of them.
            return jax.tree.map(choose, jax.vmap(one)(planes), idle(planes))

        return jax.lax.cond(jnp.any(wanted), work, idle, planes)

    return several


def _fetched(stacks: Sequence[Any], firsts: list[int], place: Array, count: int) -> Any:
    """So many planes from a place on, counted over all stacks, the first planes of which are at `firsts`."""
    found = None
    for stack, first in zip(stacks, firsts, strict=True):
        # Before its first place and after its last one a stack is read all the same, and what is read not used.
        cut = partial(jax.lax.dynamic_slice_in_dim, start_index=place - first, slice_size=count)
        here = jax.tree.map(cut, stack)
        found = here if found is None else jax.tree.map(partial(jnp.where, place < first), found, here)
    return found
