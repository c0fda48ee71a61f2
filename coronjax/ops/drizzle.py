"""Add exposures up to an image of the sky, one after another."""

from __future__ import annotations

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..cube import Cube
from ._contributions import detector_sums, drizzled_plane, sound, usable_weights
from ._root import root
from ._sky_flags import add_flags, init_flags
from .overlap import Overlap
from .shared_noise import SharedNoise
from .spread import spread, spread_context, squared


class DrizzleSums(eqx.Module):
    """What adds up over exposures; begin with `drizzle_init`, end with `drizzle_finish`."""

    data: Float[Array, "y x"]  # sum of share * weight * value
    weight: Float[Array, "y x"]  # sum of share * weight
    context: Int[Array, "word y x"]
    variances: tuple[Float[Array, "y x"] | None, ...]  # Poisson, read noise, flat, or of ERR where there are none of
    # these: sums of v * (share * weight)^2, or of v * omega^2 (drizzled)
    omega: Float[Array, "y x"] | None  # sum of omega, the weight of a plane in drizzled variances; None: propagated
    shared: SharedNoise  # sums of v * (share * weight of the whole exposure)^2
    flags: Float[Array, "bit y x"] | None  # weight behind every flag, then the whole weight; None: no flags
    n_planes: Int[Array, ""]  # valid integrations added so far


def drizzle_init(
    output_shape: tuple[int, int],
    like: Cube,
    *,
    n_planes: int,
    shared: SharedNoise | None = None,
    variances: Literal["propagated", "drizzled"] = "propagated",
    flags: bool = False,
) -> DrizzleSums:
    """Begin an accumulation in which nothing has been observed.

    Args:
        output_shape: rows and columns of the output.
        like: a cube with the dtype, and the variances, of those to be added.
        n_planes: the most integrations that will be added; one word of the context holds 32.
        shared: which kinds of shared noise will be added; the numbers do not matter.
        variances: how they add up, see `resample`.
        flags: add up flags as well.

    Returns:
        `DrizzleSums` full of zeros.

    Example:
        >>> drizzle_init((2, 3), Cube(*(jnp.ones((1, 4, 4)),) * 4), n_planes=40).context.shape
        (2, 2, 3)
    """
    zero = jnp.zeros(output_shape, like.sci.dtype)
    shared = SharedNoise() if shared is None else shared
    sums = [None if v is None else zero for v in (like.var_poisson, like.var_rnoise, like.var_flat)]
    only_err = variances == "propagated" and all(total is None for total in sums)
    return DrizzleSums(
        data=zero,
        weight=zero,
        context=jnp.zeros((-(-n_planes // 32), *output_shape), jnp.int32),
        variances=(*sums, zero if only_err else None),
        omega=zero if variances == "drizzled" else None,
        shared=jax.tree.map(lambda _: zero, shared),
        flags=init_flags(output_shape) if flags else None,
        n_planes=jnp.zeros((), jnp.int32),
    )


def drizzle_add(
    sums: DrizzleSums,
    table: Overlap,
    cube: Cube,
    *,
    exposure_time: float | Float[Array, ""] = 1.0,
    background: float | Float[Array, ""] = 0.0,
    shared: SharedNoise | None = None,
    weight_type: Literal["ivm", "exptime"] = "ivm",
) -> DrizzleSums:
    """Add the integrations of one exposure.

    Args:
        sums: what was added before.
        table: the exposure's geometry, from `overlap`.
        cube: its integrations [int y x], MJy/sr.
        exposure_time: their weight for `exptime`, s.
        background: level to subtract, MJy/sr.
        shared: noise that its integrations share [y x], of the kinds given to `drizzle_init`.
        weight_type: see `resample`.

    Returns:
        The sums with this exposure in them.

    Example:
        >>> cube = Cube(*(jnp.ones((1, 2, 2)),) * 2, jnp.zeros((1, 2, 2), jnp.uint32), jnp.ones(1, bool))
        >>> y, x = jnp.mgrid[:2, :2]
        >>> table = overlap(jnp.stack([x, y], -1) * 1.0, output_shape=(2, 2), window=1)
        >>> float(drizzle_add(drizzle_init((2, 2), cube, n_planes=1), table, cube).weight.sum())
        4.0
    """
    return add_exposure(*(sums, table, cube, exposure_time, background), shared=shared, weight_type=weight_type)[0]


def add_exposure(
    sums: DrizzleSums,
    table: Overlap,
    cube: Cube,
    exposure_time: float | Float[Array, ""],
    background: float | Float[Array, ""],
    *,
    shared: SharedNoise | None,
    weight_type: Literal["ivm", "exptime"],
) -> tuple[DrizzleSums, Float[Array, "y_in x_in"]]:
    """Do as `drizzle_add` does, and return the variance of the weighted sum of the integrations on the detector."""
    level = jnp.asarray(background, cube.sci.dtype)
    time = jnp.asarray(1.0 if weight_type == "ivm" else exposure_time, cube.sci.dtype)
    by_noise = weight_type == "ivm" and cube.var_rnoise is not None
    usable, weights = usable_weights(cube, time, by_noise)
    total = detector_sums(cube, usable, weights, level, shared)
    if sums.omega is None:
        sums = _add_propagated(sums, table, total, usable, cube.valid)
    else:
        sums = _add_drizzled(sums, table, (cube, usable, weights), level, time, by_noise)
    added = sums.shared if shared is None else _add_shared(sums.shared, table, shared, total[1])
    flags = None if sums.flags is None else add_flags(sums.flags, table, cube.dq, cube.valid, weights)
    return dataclasses.replace(sums, shared=added, flags=flags), total[2:].sum(0)


def _add_propagated(
    sums: DrizzleSums,
    table: Overlap,
    total: Float[Array, "v+2 y_in x_in"],
    usable: Bool[Array, "int y_in x_in"],
    valid: Bool[Array, " int"],
) -> DrizzleSums:
    """The integrations share one geometry, so they are added before they are spread; variances by squared shares."""
    data, weight = spread(table, total[:2])
    more = iter(spread(squared(table), total[2:]))
    return dataclasses.replace(
        sums,
        data=sums.data + data,
        weight=sums.weight + weight,
        context=sums.context | spread_context(table, usable, valid, sums.n_planes, len(sums.context)),
        variances=tuple(None if own is None else own + next(more) for own in sums.variances),
        n_planes=sums.n_planes + valid.sum(dtype=sums.n_planes.dtype),
    )


def _add_drizzled(
    sums: DrizzleSums,
    table: Overlap,
    integrations: tuple[Cube, Bool[Array, "int y_in x_in"], Float[Array, "int y_in x_in"]],
    level: Array,
    time: Array,
    by_noise: bool,
) -> DrizzleSums:
    """One integration after another: each has its own variances and its own weight in the mean of them."""
    present = [i for i, total in enumerate(sums.variances) if total is not None]

    @jax.checkpoint
    def contribution(plane: Cube, usable: Array, weight: Array) -> tuple[Array, Array, Array]:
        return drizzled_plane(table, plane, usable, weight, level, time, by_noise)

    def add(carry: tuple, integration: tuple[Cube, Array, Array]) -> tuple[tuple, None]:
        plane, (total, weighted, context, n) = integration[0], carry
        more, value, reached = contribution(*integration)
        bit = jax.lax.bitcast_convert_type(jnp.uint32(1) << (n % 32).astype(jnp.uint32), jnp.int32)
        context = context.at[n // 32].set(context[n // 32] | jnp.where(reached, bit, 0))
        return (total + more, weighted + value, context, n + plane.valid.astype(n.dtype)), None

    omega = jnp.zeros_like(sums.weight) if sums.omega is None else sums.omega
    before = jnp.stack([sums.weight, omega] + [total for total in sums.variances if total is not None])
    start = (before, jnp.zeros_like(integrations[0].sci[0]), sums.context, sums.n_planes)
    (total, weighted, context, n), _ = jax.lax.scan(add, start, integrations)
    variances = dict(zip(present, total[2:], strict=True))
    # The planes share one geometry, so their weighted values are added before they are spread.
    return dataclasses.replace(
        sums,
        data=sums.data + spread(table, weighted),
        weight=total[0],
        context=context,
        variances=tuple(variances.get(i) for i in range(4)),
        omega=total[1],
        n_planes=n,
    )


def _add_shared(sums: SharedNoise, table: Overlap, shared: SharedNoise, weight: Float[Array, "y x"]) -> SharedNoise:
    """What all integrations share counts with the weight of the whole exposure."""
    used: Bool[Array, "y x"] = weight > 0
    references, speckles = sums.references, sums.speckles
    if references is not None and shared.references is not None:
        variance = sound(shared.references.astype(weight.dtype), used)
        references = references + spread(squared(table), weight**2 * variance)
    if speckles is not None and shared.speckles is not None:
        # Alike in neighbouring pixels: their roots add up.
        speckles = speckles + spread(table, weight * root(sound(shared.speckles.astype(weight.dtype), used))) ** 2
    return SharedNoise(references, speckles)
