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

from ._blocks import Block, Zones, sum_blocks
from ._devices import Part
from ._zones import Centred, inner, times


class CommonMode(eqx.Module):
    """How to take it apart; any values would do, so they carry no derivative. `[zone ...]`, or of one zone."""

    normal: Array  # [... reference], of the mirror, of length 1; 0: no reflection
    shares: Array  # [... science], of the first reflected reference in each science frame
    spans: Array  # [... reference], which references have anything of it: not those that are invalid or constant

    def of(self, zone: Array | int) -> CommonMode:
        """That of one zone."""
        return jax.tree.map(lambda leaf: leaf[zone], self)

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

    def cut(self, block: Block) -> Reflected:
        """As that of `Stack`."""
        return Reflected(self.plain.cut(block), self.mode.of(block.zone))

    def values(self, counted: Array | None) -> Array:
        """As that of `Stack`."""
        return self.mode.reflected(self.plain.values(counted))


class Reduced(eqx.Module):
    """Centred science frames less their shares of the first reflected reference."""

    plain: Centred
    references: Reflected

    @property
    def frames(self) -> Array:
        """As they were given."""
        return self.plain.frames

    def cut(self, block: Block) -> Reduced:
        """As that of `Stack`."""
        return Reduced(self.plain.cut(block), self.references.cut(block))

    def values(self, counted: Array | None) -> Array:
        """As that of `Stack`."""
        common = self.references.values(counted)[0]
        return self.plain.values(counted) - self.references.mode.shares[:, None] * common


def common_mode(references: Centred, science: Centred, zones: Zones, part: Part) -> CommonMode:
    """Find that of each zone by one step of the power iteration, from the mean of the references."""

    def cut(block: Block) -> tuple[Centred, Centred]:
        return references.cut(block), science.cut(block)

    def one(parts: tuple[Centred, Centred], counted: Array | None) -> tuple[Array, Array]:
        frames = parts[0].values(counted)
        mean = jnp.mean(frames, axis=0, keepdims=True)
        return inner(frames, mean)[:, 0], inner(parts[1].values(counted), mean)[:, 0]

    sums = part.add(sum_blocks(cut, one, zones, references.frames.shape))
    return jax.vmap(_mode)(*jax.lax.stop_gradient(sums))


def _mode(along: Array, shares: Array) -> CommonMode:
    """From the products of the references, and of the science frames, with the mean reference."""
    length = jnp.linalg.norm(along)
    there = length > 0
    direction = jnp.where(there, along / jnp.where(there, length, 1), 0)
    sign = jnp.where(direction[0] < 0, -1, 1).astype(along.dtype)
    normal = direction.at[0].add(jnp.where(there, sign, 0))  # the sign that does not cancel
    normal = normal / jnp.where(there, jnp.linalg.norm(normal), 1)
    return CommonMode(normal, jnp.where(there, -sign * shares / jnp.where(there, length, 1), 0), along != 0)
