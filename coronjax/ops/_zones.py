"""Frames as rows of pixels, and the zones of pixels that are worked on one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def remove_means(
    frames: Array, used: Array | None, valid: Array | None, means: Array | None = None
) -> tuple[Array, Array, Array]:
    """Frames less their mean over the pixels used, zero elsewhere and where invalid; the means; the number of pixels.

    With `means` given, those are removed instead.
    """
    n_pixels = jnp.asarray(frames.shape[1], frames.dtype) if used is None else jnp.sum(used, dtype=frames.dtype)
    mask = None if used is None else used[None, :]
    if valid is not None:
        mask = valid[:, None] if mask is None else valid[:, None] & mask
    kept = frames if mask is None else jnp.where(mask, frames, 0)
    if means is None:
        means = jnp.sum(kept, axis=1) / jnp.maximum(n_pixels, 1)
    less = kept - means[:, None]
    return (less if mask is None else jnp.where(mask, less, 0)), means, n_pixels


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
