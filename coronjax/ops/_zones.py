"""Frames as rows of pixels, and the zones of pixels that are worked on one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._blocks import Block, Zones, sum_blocks
from ._devices import Part
from ._machine import suited

_WHOLE = 200  # references up to which the symmetry of their products is not worth several matrix products
_WHOLE_ON_ACCELERATORS = 500  # likewise
_DEPTH = 4  # halvings of the references, at most: each saves half as much as the one before
_CACHED = 2**20  # values of a block that stay in the processor's cache
_SHORT = 1024  # pixels of a block in float32


class Stack(Protocol):
    """Frames of which parts are made as they are needed."""

    @property
    def frames(self) -> Array:
        """As they were given, [frame pixel]."""

    def cut(self, block: Block) -> Self:
        """The part of a block, for its zone alone."""

    def values(self, counted: Array | None) -> Array:
        """Of such a part, what is worked on: 0 but for the pixels counted."""


class Centred(eqx.Module):
    """Frames `[frame pixel]` less their means over the pixels that decide; what is invalid or unused is 0."""

    frames: Array
    means: Array  # [zone frame]; [frame] of a part
    valid: Array | None  # [frame]

    def cut(self, block: Block) -> Centred:
        """As that of `Stack`."""
        return Centred(block.of(self.frames), self.means[block.zone], self.valid)

    def values(self, counted: Array | None) -> Array:
        """As that of `Stack`."""
        mask = _mask(counted, self.valid)
        if mask is None:
            return self.frames - self.means[:, None]
        return jnp.where(mask, jnp.where(mask, self.frames, 0) - self.means[:, None], 0)


class _Halves(eqx.Module):
    """Products of two halves of the frames, each with itself and one with the other."""

    first: Array | _Halves
    between: Array
    second: Array | _Halves


class Place(eqx.Module):
    """Memory for a result: an array whose values do not matter."""

    memory: Array


def centre(frames: Array, zones: Zones, valid: Array | None, part: Part) -> tuple[Centred, Array]:
    """Take the means over each zone; and its number of pixels. Of all parts."""
    if zones.inside is None and zones.starts is None:
        n_pixels = jnp.full(1, frames.shape[1], frames.dtype)
        total = jnp.sum(frames, axis=1)[None]
        if valid is not None:  # masked after the sum: before it, the compiler would write a second stack
            total = jnp.where(valid, total, 0)
    else:

        def one(pixels: Array, counted: Array | None) -> tuple[Array, Array]:
            assert counted is not None  # for mypy: there are zones
            mask = counted[None] if valid is None else valid[:, None] & counted[None]
            return jnp.sum(jnp.where(mask, pixels, 0), axis=1), jnp.sum(counted, dtype=frames.dtype)

        total, n_pixels = sum_blocks(lambda block: block.of(frames), one, zones, frames.shape)
    total, n_pixels = part.add((total, n_pixels))
    return Centred(frames, total / jnp.maximum(n_pixels, 1)[:, None], valid), n_pixels


def _mask(used: Array | None, valid: Array | None) -> Array | None:
    if used is None or valid is None:
        return used[None, :] if used is not None else None if valid is None else valid[:, None]
    return valid[:, None] & used[None, :]


def inner_products(references: Stack, science: Stack, zones: Zones, part: Part) -> tuple[Array, Array]:
    """Products of the references with each other, and with the science frames, over each zone: `[zone ...]`."""

    def cut(block: Block) -> tuple[Stack, Stack]:
        return references.cut(block), science.cut(block)

    def one(parts: tuple[Stack, Stack], counted: Array | None) -> tuple[Array | _Halves, Array]:
        frames = parts[0].values(counted)
        return _each_pair_once(frames), inner(frames, parts[1].values(counted))

    shape = references.frames.shape
    # The longer a sum in float32, the more its rounding errors are: in short blocks they do not reach the faint modes.
    single = references.frames.dtype == jnp.float32
    size = max(512, min(_SHORT if single else 8192, _CACHED // shape[0]))
    products, cross = sum_blocks(cut, one, zones, shape, size=size, compensated=single)
    products, cross = part.add((products, cross))
    return jax.vmap(_mirrored)(products), cross


def _each_pair_once(frames: Array, depth: int = _DEPTH) -> Array | _Halves:
    """The products of the rows with each other, each pair once, or nearly: of halves, in turn, and between them."""
    if depth == 0 or len(frames) <= suited(_WHOLE, _WHOLE_ON_ACCELERATORS):
        return inner(frames, frames)
    first, second = jnp.split(frames, [len(frames) // 2])
    return _Halves(_each_pair_once(first, depth - 1), inner(first, second), _each_pair_once(second, depth - 1))


def _mirrored(products: Array | _Halves) -> Array:
    """The symmetric matrix of which the products are one half."""
    if not isinstance(products, _Halves):
        return products
    first, between, second = _mirrored(products.first), products.between, _mirrored(products.second)
    return jnp.block([[first, between], [between.T, second]])


def zone_by_zone(
    work: Callable[[Any, Zones, Any, Part], tuple[Any, Any]],
) -> Callable[[tuple[Any, Array | None], Any, Part], tuple[Any, Any]]:
    """Work for `by_pixels` on images and zones `[zone y x] | None`; several zones are brought together and taken back.

    The blocks of a zone are then few: all zones together cost little more than one. Images that are `Place`s are only
    memory, in whatever order.
    """

    def sorted_work(given: tuple[Any, Array | None], shared: Any, part: Part) -> tuple[Any, Any]:
        images, zones = given
        if zones is None:
            return work(images, Zones(None if part.real is None else part.real.reshape(-1)), shared, part)
        if len(zones) == 1:
            return work(images, Zones(zones.reshape(-1)), shared, part)
        # Constant zones would be sorted by the compiler itself, which takes it ten times as long as all else.
        order, starts = _in_order(flat(jax.lax.optimization_barrier(zones)))
        back = jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype), unique_indices=True)

        def moved(image: Array | Place) -> Array | Place:
            return image if isinstance(image, Place) else _moved(image, order, back)

        sorted_images = jax.tree.map(moved, images, is_leaf=lambda image: isinstance(image, Place))
        found, rest = work(sorted_images, Zones(None, starts), shared, part)
        return jax.tree.map(lambda image: _moved(image, back, order), found), rest

    return sorted_work


def _in_order(inside: Array) -> tuple[Array, Array]:
    """The pixels zone by zone, those of no zone last; and where in this order each zone begins, and the rest."""
    n_zones, n_pixels = inside.shape
    last = jnp.max(jnp.where(inside, jnp.arange(n_zones)[:, None], -1), axis=0)
    zone = jnp.where(last < 0, n_zones, last)
    starts = jnp.cumsum(jnp.sum(zone == jnp.arange(-1, n_zones)[:, None], axis=1))
    if (n_zones + 1) * n_pixels > jnp.iinfo(jnp.int32).max:
        return jnp.argsort(zone), starts
    # Zone and pixel in one number: sorted five times as fast as a pair.
    both = zone.astype(jnp.int32) * n_pixels + jnp.arange(n_pixels, dtype=jnp.int32)
    return jax.lax.sort(both) % n_pixels, starts


def _moved(image: Array, order: Array, back: Array) -> Array:
    """The pixels of an image `[... y x]` in another order, from which `back` leads back.

    The inverse of a permutation is its transpose: solved for as a linear equation, its derivative is another gather,
    where that of indexing adds up pixel by pixel.
    """
    if not jnp.issubdtype(image.dtype, jnp.inexact):
        return _taken(image, order)
    return jax.lax.custom_linear_solve(
        lambda moved: _taken(moved, back),
        image,
        solve=lambda _, image: _taken(image, order),
        transpose_solve=lambda _, moved: _taken(moved, back),
    )


def _taken(image: Array, order: Array) -> Array:
    rows = image.reshape(-1, image.shape[-2] * image.shape[-1])
    # With an index for each row: for rows as a whole the compiler would write a transposed stack first.
    found = jnp.take_along_axis(rows, jnp.broadcast_to(order, rows.shape), axis=1, mode="promise_in_bounds")
    return found.reshape(image.shape)


def each_zone(one_zone: Callable[..., Any], *per_zone: Any) -> Any:
    """Call `one_zone(*per_zone[z])` for each zone and stack its results `[zone ...]`."""
    if len(jax.tree.leaves(per_zone)[0]) == 1:
        found = one_zone(*jax.tree.map(lambda leaf: leaf[0], per_zone))
        return jax.tree.map(lambda leaf: leaf[None], found)
    return jax.lax.map(lambda given: one_zone(*given), per_zone)


def hide_invalid(frames: Array, valid: Array | None) -> Array:
    """Frames `[frame pixel]` with NaN in those that are not valid."""
    return frames if valid is None else jnp.where(valid[:, None], frames, jnp.nan)


def as_images(frames: Array) -> Array:
    """Rows of pixels `[frame pixel]` as images of one column; images as they are."""
    return frames[..., None] if frames.ndim == 2 else frames


def flat(frames: Array) -> Array:
    """Images `[frame y x]` as rows of pixels `[frame pixel]`."""
    return frames.reshape(len(frames), -1)


def inner(a: Array, b: Array) -> Array:
    """Products of the rows of two stacks. The references come first: the other order is several times slower."""
    return jax.lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision="highest")


def times(weights: Array, frames: Array) -> Array:
    """Sums of frames with weights `[sum frame]`, in full precision on every device."""
    return jnp.matmul(weights, frames, precision="highest")
