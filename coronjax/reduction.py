"""Every product of a reduction as an immutable pytree of arrays."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, UInt32

from .cube import Cube
from .ops import Registration, Resampled, SharedNoise


class Aligned(eqx.Module):
    """The reference stack, shifted onto the first integration of each science exposure."""

    sci: Float[Array, "exp plane y x"]  # MJy/sr
    err: Float[Array, "exp plane y x"]  # MJy/sr
    # Flags of what a pixel is made of; FLUX_ESTIMATED: of repaired pixels. None: they are not followed.
    dq: UInt32[Array, "exp plane y x"] | None


class Subtraction(eqx.Module):
    """What the subtraction of the star rested on."""

    weights: Float[Array, "exp int plane"]  # of each reference plane in the model of each integration
    n_modes: Int[Array, " exp"]  # KL modes kept
    gap: Float[Array, " exp"]  # relative gap between the last eigenvalue kept and the first dropped, if known
    eigenvalues: Float[Array, "exp plane"]  # of the references' Gram matrix, descending; NaN: not found
    fitted: Bool[Array, "exp y x"]  # pixels that decided the weights


class Reduction(eqx.Module):
    """Every product of a reduction, as arrays."""

    references: Cube  # [exp int y x], outliers flagged
    science: Cube  # [exp int y x], outliers flagged
    used_references: Bool[Array, " plane"]  # planes of the stack that were used
    psfalign: Aligned
    registration: Registration  # [exp plane]
    psfsub: Cube  # [exp int y x], the star subtracted
    shared: SharedNoise | None  # [exp y x], what all integrations of an exposure have in common; None: not propagated
    subtraction: Subtraction
    i2d: Resampled | None  # None: resampling is skipped

    @property
    def psfstack(self) -> Cube:
        """The references in one stack `[plane y x]`, bad pixels still NaN; valid: planes that were used.

        Made when asked for: as a field it would be a second copy of the references in memory.
        """

        def joined(array: Array) -> Array:
            return array.reshape(*array.shape[:-4], -1, *array.shape[-2:])

        sci, err, dq = (joined(array) for array in (self.references.sci, self.references.err, self.references.dq))
        return Cube(sci, err, dq, self.used_references)
