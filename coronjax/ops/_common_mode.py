"""The star's mean image taken apart, so that float32 can tell the faint modes from its rounding errors.

What the references share is a thousand times brighter than their differences. A reflection of the references, exact up
to rounding and neutral for the modes, gathers it in the first one; the science frames are rid of it too. The products
of what is left are then rounded relative to themselves.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._blocks import Block, sum_blocks
from ._devices import Part
from ._zones import Centred, inner, times


class CommonMode(eqx.Module):
    """How to take it apart; any values would do, so they carry no derivative."""

    normal: Array  # [reference], of the mirror, of length 1; 0: no reflection
    shares: Array  # [science], of the first reflected reference in each science frame
    spans: Array  # [reference], which references have anything of it: not those that are invalid or constant

    def reflected(self, rows: Array) -> Array:
        """References, or coefficients of them, `[reference ...]`, in the mirror; twice is as before."""
        return rows - 2 * self.normal[:, None] * times(self.normal[None], rows)


class Reflected(eqx.Module):
    """Centred references in the mirror."""

    plain: Centred
    mode: CommonMode

    @property
    def frames(self) -> Array:
        """As they were given."""
        return self.plain.frames

    def part(self, block: Block, used: Array | None) -> Array:
        """As that of `Centred`."""
        return self.mode.reflected(self.plain.part(block, used))


class Reduced(eqx.Module):
    """Centred science frames less their shares of the first reflected reference."""

    plain: Centred
    references: Reflected

    @property
    def frames(self) -> Array:
        """As they were given."""
        return self.plain.frames

    def part(self, block: Block, used: Array | None) -> Array:
        """As that of `Centred`."""
        common = self.references.part(block, used)[0]
        return self.plain.part(block, used) - self.references.mode.shares[:, None] * common


def common_mode(references: Centred, science: Centred, used: Array | None, part: Part) -> CommonMode:
    """Find it by one step of the power iteration, from the mean of the references."""

    def one(block: Block) -> tuple[Array, Array]:
        counted = block.once(used)
        frames = references.part(block, counted)
        mean = jnp.mean(frames, axis=0, keepdims=True)
        return inner(frames, mean)[:, 0], inner(science.part(block, counted), mean)[:, 0]

    along, shares = jax.lax.stop_gradient(part.add(sum_blocks(one, references.frames.shape[1], used=used)))
    length = jnp.linalg.norm(along)
    there = length > 0
    direction = jnp.where(there, along / jnp.where(there, length, 1), 0)
    sign = jnp.where(direction[0] < 0, -1, 1).astype(along.dtype)
    normal = direction.at[0].add(jnp.where(there, sign, 0))  # the sign that does not cancel
    normal = normal / jnp.where(there, jnp.linalg.norm(normal), 1)
    return CommonMode(normal, jnp.where(there, -sign * shares / jnp.where(there, length, 1), 0), along != 0)
