"""Frames as rows of pixels, and the zones of pixels that are worked on one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._blocks import Block, sum_blocks


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


def centre(frames: Array, used: Array | None, valid: Array | None) -> tuple[Centred, Array]:
    """Take the means over the pixels used; and their number."""
    n_pixels = jnp.asarray(frames.shape[1], frames.dtype) if used is None else jnp.sum(used, dtype=frames.dtype)
    mask = _mask(used, valid)
    total = jnp.sum(frames if mask is None else jnp.where(mask, frames, 0), axis=1)
    return Centred(frames, total / jnp.maximum(n_pixels, 1), valid), n_pixels


def _mask(used: Array | None, valid: Array | None) -> Array | None:
    if used is None or valid is None:
        return used[None, :] if used is not None else None if valid is None else valid[:, None]
    return valid[:, None] & used[None, :]


def inner_products(references: Centred, science: Centred, used: Array | None) -> tuple[Array, Array]:
    """Products of the references with each other, and with the science frames, over the pixels used."""

    def one(block: Block) -> tuple[Array, Array]:
        counted = block.once(used)
        frames = references.part(block, counted)
        return inner(frames, frames), inner(frames, science.part(block, counted))

    return sum_blocks(one, references.frames.shape[1])


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


def flat(frames: Array) -> Array:
    """Images `[frame y x]` as rows of pixels `[frame pixel]`."""
    return frames.reshape(len(frames), -1)


def inner(a: Array, b: Array) -> Array:
    """Products of the rows of two stacks. The references come first: the other order is several times slower."""
    return jax.lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision="highest")


def times(weights: Array, frames: Array) -> Array:
    """Sums of frames with weights `[sum frame]`, in full precision on every device."""
    return jnp.matmul(weights, frames, precision="highest")
