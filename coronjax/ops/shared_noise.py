"""The noise that all integrations of an exposure have in common, which no averaging over them makes smaller."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Float


class SharedNoise(eqx.Module):
    """Variances of what was subtracted from every integration of an exposure alike, or left in all of them.

    Exposures are independent of each other. None: there is none of that kind. Where not finite or negative, 0.

    Example:
        >>> SharedNoise(references=jnp.ones((2, 4, 4))).speckles is None
        True
    """

    references: Float[Array, "*exp y x"] | None = None  # (MJy/sr)^2; the references' noise, independent in each pixel
    speckles: Float[Array, "*exp y x"] | None = None  # (MJy/sr)^2; residual speckles, alike within a resolution element
