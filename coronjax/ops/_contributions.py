"""What the integrations of one exposure add to an image of the sky: weights, values, variances."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..cube import DQ, Cube, unusable
from ._root import root
from .overlap import Overlap
from .shared_noise import SharedNoise
from .spread import spread

BAD = DQ.DO_NOT_USE.value | DQ.NON_SCIENCE.value  # every other flag is tolerated


def usable_weights(
    cube: Cube, time: Float[Array, ""], by_noise: bool
) -> tuple[Bool[Array, "*planes y x"], Float[Array, "*planes y x"]]:
    """Return which pixels take part, and their weight: inverse read-noise variance or `time`, 0 for the others."""
    usable = cube.valid[..., None, None] & ~unusable(cube) & ((cube.dq & BAD) == 0)
    if by_noise and cube.var_rnoise is not None:
        usable = usable & (cube.var_rnoise > 0) & jnp.isfinite(cube.var_rnoise)
        return usable, jnp.where(usable, 1 / jnp.where(usable, cube.var_rnoise, 1), 0)
    return usable, jnp.where(usable, time, 0)


def variances_of(cube: Cube) -> list[Float[Array, "*planes y x"]]:
    """The variances that a cube has: of Poisson noise, read noise and flat field, in this order."""
    return [v for v in (cube.var_poisson, cube.var_rnoise, cube.var_flat) if v is not None]


def sound(variance: Float[Array, "*n"], used: Bool[Array, "*n"]) -> Float[Array, "*n"]:
    """The variance where it is one: used, positive and finite; else 0."""
    return jnp.where(used & (variance > 0) & jnp.isfinite(variance), variance, 0)


def is_reached(weight: Float[Array, "*n"]) -> Bool[Array, "*n"]:
    """A weight counts when float32, in which weights are stored, can tell it from zero."""
    return weight.astype(jnp.float32) > 0


def detector_sums(
    cube: Cube,
    usable: Bool[Array, "int y x"],
    weights: Float[Array, "int y x"],
    level: Float[Array, ""],
    shared: SharedNoise | None,
) -> Float[Array, "v+2 y x"]:
    """Add up the integrations of an exposure where they lie, pixel by pixel on the detector.

    First the sums of weighted values, of weights and of each variance times squared weight. The square of ERR, less
    what is shared, stands for variances where there are none.
    """
    kinds = () if shared is None else (shared.references, shared.speckles)
    known = sum((sound(v, jnp.ones(v.shape, bool)) for v in kinds if v is not None), jnp.zeros_like(cube.sci[0]))

    @jax.checkpoint
    def contribution(plane: Cube, usable: Array, weight: Array, level: Array) -> Array:
        values = weight * (jnp.where(usable, plane.sci, 0) - level)
        noise = [weight**2 * sound(v, usable) for v in variances_of(plane) or [plane.err**2 - known]]
        return jnp.stack([values, weight, *noise])

    def add(total: Array, integration: tuple[Cube, Array, Array]) -> tuple[Array, None]:
        return total + contribution(*integration, level), None

    n_sums = 2 + max(len(variances_of(cube)), 1)
    start = jnp.zeros((n_sums, *cube.sci.shape[1:]), cube.sci.dtype)
    return jax.lax.scan(add, start, (cube, usable, weights))[0]


def drizzled_plane(
    table: Overlap,
    plane: Cube,
    usable: Bool[Array, "y_in x_in"],
    weight: Float[Array, "y_in x_in"],
    level: Float[Array, ""],
    time: Float[Array, ""],
    by_noise: bool,
) -> tuple[Float[Array, "v+2 y x"], Float[Array, "y_in x_in"], Bool[Array, "y x"]]:
    """Return what one integration adds where the roots of variances are drizzled like an image.

    First to weight, omega and each variance; then its weighted values, not yet spread; then the pixels it reaches.
    """
    values = weight * (jnp.where(usable, plane.sci, 0) - level)
    errors = [root(sound(v, usable)) for v in variances_of(plane)]
    spreads = spread(table, jnp.stack([weight] + [weight * error for error in errors]))
    reached = is_reached(spreads[0])
    variances = (spreads[1:] / jnp.where(reached, spreads[0], 1)) ** 2
    omega = jnp.where(reached, time, 0)
    if by_noise:
        noise = variances[0 if plane.var_poisson is None else 1]
        known = reached & (noise > 0)
        omega = jnp.where(known, 1 / jnp.where(known, noise, 1), 0)
    sums = jnp.concatenate([spreads[:1], omega[None], jnp.where(reached, variances, 0) * omega**2])
    return sums, values, reached
