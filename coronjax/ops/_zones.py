"""Frames as rows of pixels, and the zones of pixels that are worked on one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._blocks import Block, sum_blocks
from ._devices import Part

_WHOLE = 256  # references up to which the symmetry of their products is not worth a second matrix product
_STRIPS = 4  # more of them save products and lose the speed of large ones
_CACHED = 2**20  # values of a block that stay in the processor's cache
_SHORT = 1024  # pixels of a block in float32


class Stack(Protocol):
    """Frames of which parts are made as they are needed."""

    @property
    def frames(self) -> Array:
        """As they were given, [frame pixel]."""

    def part(self, block: Block, used: Array | None) -> Array:
        """What is worked on, on a block, of whose pixels those `used` count."""


class Centred(eqx.Module):
    """Frames `[frame pixel]` less their means over the pixels that decide; what is invalid or unused is 0."""

    frames: Array
    means: Array  # [frame]
    valid: Array | None  # [frame]

    def part(self, block: Block, used: Array | None) -> Array:
        """The centred frames on a block, of whose pixels those `used` count."""
        frames, mask = block.of(self.frames), _mask(used, self.valid)
        if mask is None:
            return frames - self.means[:, None]
        return jnp.where(mask, jnp.where(mask, frames, 0) - self.means[:, None], 0)


def centre(frames: Array, used: Array | None, valid: Array | None, part: Part) -> tuple[Centred, Array]:
    """Take the means over the pixels used; and their number. Of all parts."""
    if used is None:
        n_pixels = jnp.asarray(frames.shape[1], frames.dtype)
        total = jnp.sum(frames, axis=1)
        if valid is not None:  # masked after the sum: before it, the compiler would write a second stack
            total = jnp.where(valid, total, 0)
    else:
        n_pixels = jnp.sum(used, dtype=frames.dtype)

        def one(block: Block) -> Array:
            mask = _mask(block.once(used), valid)
            assert mask is not None  # for mypy: there are pixels used
            return jnp.sum(jnp.where(mask, block.of(frames), 0), axis=1)

        total = sum_blocks(one, frames.shape[1], used=used)
    total, n_pixels = part.add((total, n_pixels))
    return Centred(frames, total / jnp.maximum(n_pixels, 1), valid), n_pixels


def _mask(used: Array | None, valid: Array | None) -> Array | None:
    if used is None or valid is None:
        return used[None, :] if used is not None else None if valid is None else valid[:, None]
    return valid[:, None] & used[None, :]


def inner_products(references: Stack, science: Stack, used: Array | None, part: Part) -> tuple[Array, Array]:
    """Products of the references with each other, and with the science frames, over the pixels used of all parts."""

    def one(block: Block) -> tuple[list[Array], Array]:
        counted = block.once(used)
        frames = references.part(block, counted)
        return _upper_strips(frames), inner(frames, science.part(block, counted))

    n_references, n_pixels = references.frames.shape
    # The longer a sum in float32, the more its rounding errors are: in short blocks they do not reach the faint modes.
    single = references.frames.dtype == jnp.float32
    size = max(512, min(_SHORT if single else 8192, _CACHED // n_references))
    strips, cross = sum_blocks(one, n_pixels, size=size, used=used, compensated=single)
    strips, cross = part.add((strips, cross))
    return _mirrored(strips), cross


def _upper_strips(frames: Array) -> list[Array]:
    """The products of the rows with each other, in strips of rows from the diagonal on: each pair once, or nearly."""
    height = len(frames) if len(frames) <= _WHOLE else -(-len(frames) // _STRIPS)
    return [inner(frames[i : i + height], frames[i:]) for i in range(0, len(frames), height)]


def _mirrored(strips: list[Array]) -> Array:
    """The symmetric matrix of which the strips are one half."""
    if len(strips) == 1:
        return strips[0]
    size = strips[0].shape[1]
    upper = jnp.concatenate([jnp.pad(strip, ((0, 0), (size - strip.shape[1], 0))) for strip in strips])
    return jnp.triu(upper) + jnp.triu(upper, 1).T


def zone_by_zone(work: Callable[[Any, Any, Part], tuple[Any, Any]]) -> Callable[[Any, Any, Part], tuple[Any, Any]]:
    """Work for `by_pixels`, whose last image is the zones: pixels of one zone are brought together and taken back.

    A zone then lies in few blocks, and the others are left out: all zones together cost little more than one.
    """

    def sorted_work(images: Any, shared: Any, part: Part) -> tuple[Any, Any]:
        zones = images[-1]
        if zones is None or len(zones) == 1:
            return work(images, shared, part)
        inside = flat(zones)
        order = jnp.argsort(jnp.where(jnp.any(inside, axis=0), jnp.argmax(inside, axis=0), len(inside)))
        found, rest = work(jax.tree.map(lambda image: _taken(image, order), images), shared, part)
        back = jnp.zeros_like(order).at[order].set(jnp.arange(len(order)), unique_indices=True)
        return jax.tree.map(lambda image: _taken(image, back), found), rest

    return sorted_work


def _taken(image: Array, order: Array) -> Array:
    """The pixels of an image `[... y x]` in another order."""
    rows = image.reshape(*image.shape[:-2], -1)
    return rows.at[..., order].get(unique_indices=True, mode="promise_in_bounds").reshape(image.shape)


def each_zone(one_zone: Callable[..., tuple[Any, Any]], zones: Array | None, empty: Any, *per_zone: Any) -> Any:
    """Call `one_zone(used, *per_zone[z])` for each zone; lay its images into `empty`, stack its other results."""
    if zones is None or len(zones) == 1:
        used = None if zones is None else zones.reshape(-1)
        images, rest = one_zone(used, *jax.tree.map(lambda leaf: leaf[0], per_zone))
        if used is not None:
            images = jax.tree.map(lambda image, blank: jnp.where(used, image, blank), images, empty)
        return images, jax.tree.map(lambda leaf: leaf[None], rest)

    def step(so_far: Any, inputs: tuple) -> tuple[Any, Any]:
        images, rest = one_zone(*inputs)
        return jax.tree.map(lambda image, old: jnp.where(inputs[0], image, old), images, so_far), rest

    return jax.lax.scan(step, empty, (flat(zones), *per_zone))


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
