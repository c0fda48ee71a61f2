"""The frames less their star for every number of modes: a cube for each, and hardly anything but their writing.

From one cube to the next a mode is taken off, which is one product and one difference for each value. As a product of
matrices, each value would be a sum over all references.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._blocks import Block, all_blocks, over_blocks
from ._zones import Centred, Stack, times

_PIXELS = 2048  # of a block, whose frames and modes stay in the cache while they are used


class Weighted(eqx.Module):
    """The star as sums of references, for each number of modes."""

    mixing: Array  # [frame science], frames that are wanted, as sums of science frames
    weights: Array  # [number frame reference]


class Expanded(eqx.Module):
    """The same star as sums of modes. Says nothing that `Weighted` does not, so that it carries no derivative."""

    modes: Array  # [mode reference], of which references they are made
    strengths: Array  # [mode frame]
    numbers: Array  # [number], of leading modes


@jax.custom_jvp
def cubes(
    aims: Centred, references: Stack, used: Array | None, star: Weighted, modes: Expanded, into: Array | None
) -> Array:
    """The residuals, `[number frame pixel]`; their derivative is that of the matrix product, `matrix_product`.

    `into` is an array to write them into.
    """

    def sums() -> Array:
        return matrix_product(aims, references, used, star, size=references.frames.shape[1])

    def steps() -> Array:
        return _mode_by_mode(aims, references, used, star, modes, into)

    return jax.lax.platform_dependent(cpu=steps, default=sums)  # elsewhere a loop of small steps is the slower one


@cubes.defjvp
def _cubes_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    def sums(aims: Centred, references: Stack, used: Array | None, star: Weighted, *_: object) -> Array:
        return matrix_product(aims, references, used, star, size=references.frames.shape[1])

    return cubes(*primals), jax.jvp(sums, primals, tangents)[1]


def matrix_product(
    aims: Stack, references: Stack, used: Array | None, star: Weighted, *, size: int | None = None
) -> Array:
    """The residuals as a matrix product, in blocks of so many pixels."""
    weights = star.weights
    # The difference is part of the product: it would be another pass over all that is returned.
    less = jnp.concatenate([jnp.broadcast_to(star.mixing, (len(weights), *star.mixing.shape)), -weights], axis=-1)

    def one(block: Block) -> Array:
        inside = block.of(used)
        frames = jnp.concatenate([aims.part(block, inside), references.part(block, inside)])
        return times(less.reshape(-1, len(frames)), frames).reshape(*weights.shape[:2], -1)

    given = {} if size is None else {"size": size}
    return over_blocks(one, references.frames.shape[1], used=used, **given)


def _mode_by_mode(
    aims: Centred, references: Stack, used: Array | None, star: Weighted, modes: Expanded, into: Array | None
) -> Array:
    n_pixels = references.frames.shape[1]
    order = jnp.argsort(modes.numbers)
    blocks, block_of = all_blocks(n_pixels, _PIXELS)

    def fill(i: Array, found: Array) -> Array:
        block = block_of(i)
        inside = block.of(used)
        images = times(modes.modes, references.part(block, inside))

        def without(k: Array, left: Array) -> Array:
            return left - modes.strengths[k][:, None] * images[k]

        def write(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            found, left, taken = state
            number = modes.numbers[order[i]]
            left = jax.lax.fori_loop(taken, number, without, left)
            start = 0 if block.start is None else block.start
            return jax.lax.dynamic_update_slice(found, left[None], (order[i], 0, start)), left, number

        first = (found, times(star.mixing, aims.part(block, inside)), jnp.zeros_like(order[0]))
        return jax.lax.fori_loop(0, len(order), write, first)[0]

    if into is None:
        into = jnp.zeros((len(order), len(star.mixing), n_pixels), aims.frames.dtype)
    return jax.lax.fori_loop(0, blocks, fill, into)
