"""Every product of a reduction as an immutable pytree of arrays."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Float, Int

from .cube import Cube
from .ops import Registration, Resampled


class Aligned(eqx.Module):
    """The reference stack, shifted onto the first integration of each science exposure."""

    sci: Float[Array, "exp plane y x"]  # MJy/sr
    err: Float[Array, "exp plane y x"]  # MJy/sr


class Subtraction(eqx.Module):
    """What the subtraction of the star rested on."""

    n_modes: Int[Array, " exp"]  # KL modes kept
    gap: Float[Array, " exp"]  # relative gap between the last eigenvalue kept and the first dropped
    eigenvalues: Float[Array, "exp plane"]  # of the references' Gram matrix, descending


class Reduction(eqx.Module):
    """Every product of a reduction, as arrays."""

    references: Cube  # [exp int y x], outliers flagged
    science: Cube  # [exp int y x], outliers flagged
    psfstack: Cube  # [plane y x], the references in one stack, bad pixels still NaN
    psfalign: Aligned
    registration: Registration  # [exp plane]
    psfsub: Cube  # [exp int y x], the star subtracted
    subtraction: Subtraction
    i2d: Resampled | None  # None: resampling is skipped
