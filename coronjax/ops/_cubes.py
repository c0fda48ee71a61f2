"""The frames less their star for every number of modes: a cube for each, and hardly anything but their writing.

From one cube to the next a mode is taken off, which is one product and one difference for each value. As a product of
matrices, each value would be a sum over all references.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._blocks import Block, Zones, divide, over_blocks
from ._zones import Centred, Stack, times

_PIXELS = 2048  # of a block, whose frames and modes stay in the cache while they are used


class Weighted(eqx.Module):
    """The star as sums of references, for each number of modes."""

    mixing: Array  # [frame science], frames that are wanted, as sums of science frames
    weights: Array  # [zone number frame reference]


class Expanded(eqx.Module):
    """The same star as sums of modes. Says nothing that `Weighted` does not, so that it carries no derivative."""

    modes: Array  # [zone mode reference], of which references they are made
    strengths: Array  # [zone mode frame]
    numbers: Array  # [zone number], of leading modes


@jax.custom_jvp
def cubes(aims: Centred, references: Stack, zones: Zones, star: Weighted, modes: Expanded, into: Array | None) -> Array:
    """The residuals, `[number frame pixel]`; their derivative is that of the matrix product, `matrix_product`.

    `into` is an array to write them into.
    """

    def sums() -> Array:
        return matrix_product(aims, references, zones, star, size=references.frames.shape[1])

    def steps() -> Array:
        return _mode_by_mode(aims, references, zones, star, modes, into)

    return jax.lax.platform_dependent(cpu=steps, default=sums)  # elsewhere a loop of small steps is the slower one


@cubes.defjvp
def _cubes_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    def sums(aims: Centred, references: Stack, zones: Zones, star: Weighted, *_: object) -> Array:
        return matrix_product(aims, references, zones, star, size=references.frames.shape[1])

    return cubes(*primals), jax.jvp(sums, primals, tangents)[1]


def matrix_product(aims: Stack, references: Stack, zones: Zones, star: Weighted, *, size: int | None = None) -> Array:
    """The residuals as a matrix product, in blocks of so many pixels."""
    n_zones, n_numbers, n_frames, _ = star.weights.shape
    # The difference is part of the product: it would be another pass over all that is returned.
    mixing = jnp.broadcast_to(star.mixing, (n_zones, n_numbers, *star.mixing.shape))
    less = jnp.concatenate([mixing, -star.weights], axis=-1).reshape(n_zones, n_numbers * n_frames, -1)

    def cut(block: Block) -> tuple[Array, Stack, Stack]:
        return less[block.zone], aims.cut(block), references.cut(block)

    def one(part: tuple[Array, Stack, Stack], inside: Array | None) -> Array:
        frames = jnp.concatenate([part[1].values(inside), part[2].values(inside)])
        return times(part[0], frames).reshape(n_numbers, n_frames, -1)

    given = {} if size is None else {"size": size}
    return over_blocks(cut, one, zones, references.frames.shape, **given)


def _mode_by_mode(
    aims: Centred, references: Stack, zones: Zones, star: Weighted, modes: Expanded, into: Array | None
) -> Array:
    n_pixels = references.frames.shape[1]
    n_numbers, n_frames = star.weights.shape[1:3]
    blocks = divide(zones, n_pixels, _PIXELS)

    def fill(i: Array, found: Array) -> Array:
        block = blocks.at(i)
        numbers, strengths = modes.numbers[block.zone], modes.strengths[block.zone]
        order = jnp.argsort(numbers)
        images = times(modes.modes[block.zone], references.cut(block).values(block.inside))

        def without(k: Array, left: Array) -> Array:
            return left - strengths[k][:, None] * images[k]

        def write(turn: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            found, left, taken = state
            number = numbers[order[turn]]
            left = jax.lax.fori_loop(taken, number, without, left)
            return _written(found, order[turn], block, left), left, number

        first = (found, times(star.mixing, aims.cut(block).values(block.inside)), jnp.zeros_like(order[0]))
        return jax.lax.fori_loop(0, len(order), write, first)[0]

    if into is None:
        into = jnp.zeros((n_numbers, n_frames, n_pixels), aims.frames.dtype)
    if zones.inside is not None or zones.starts is not None:
        into = jnp.full_like(into, jnp.nan)
    return jax.lax.fori_loop(0, blocks.used, fill, into)


def _written(cubes: Array, number: Array, block: Block, frames: Array) -> Array:
    """Cubes `[number frame pixel]` with the pixels of a block in one of them."""
    at = (number, 0, 0 if block.start is None else block.start)
    part = frames[None]
    if block.inside is not None:
        part = jnp.where(block.inside, part, jax.lax.dynamic_slice(cubes, at, part.shape))
    return jax.lax.dynamic_update_slice(cubes, part, at)
