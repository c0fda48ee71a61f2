"""One row per op: adding an op here enrols it in the contract, jit, vmap, grad, NaN and padding tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from coronjax.cube import DQ, Cube
from coronjax.ops import flag_outliers, nanmedian, repair_bad_pixels, stack_references
from coronjax.options import OutlierDetection

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """How the property tests meet an op."""

    name: str  # its name in coronjax.ops
    call: Callable[..., Any]  # call(*arguments, **numbers)
    sample: Callable[[np.random.Generator], Arguments]  # valid arguments, float64, small
    differentiable: tuple[int, ...]  # positions of the arguments that gradients are taken in
    output: Callable[[Any], Any] = lambda result: result  # the differentiable, floating part of the result
    numbers: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # traced keywords: two values, one compilation
    spoil: Callable[[Arguments], Arguments] | None = None  # put NaN and flags in: result and gradient stay finite
    pad: Callable[[Arguments], Arguments] | None = None  # add invalid planes (full of NaN) ...
    unpad: Callable[[Any], Any] = lambda result: result  # ... and cut them off the result again
    degenerate: Callable[[Arguments], Arguments] | None = None  # repeated or zero references, flat images
    tolerance: float = 1e-5  # relative, derivative against finite differences


def _cube(rng: np.random.Generator, *planes: int) -> Cube:
    shape = (*planes, 8, 9)
    sci = jnp.asarray(rng.normal(10.0, 1.0, shape))
    return Cube(sci, jnp.ones(shape), jnp.zeros(shape, jnp.uint32), jnp.ones(planes, bool), 0.1 * sci, 0.2 * sci, 0.3 * sci)


def _append_invalid(cube: Cube) -> Cube:
    """A cube with one more integration, all NaN and not valid."""
    wasted = jax.tree.map(lambda a: jnp.full_like(a[:1], jnp.nan if jnp.issubdtype(a.dtype, jnp.floating) else 0), cube)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cube, wasted)


def _spoil_pixel(cube: Cube) -> Cube:
    """A cube with one NaN pixel and one flagged pixel."""
    sci = cube.sci.at[..., 0, 3, 3].set(jnp.nan)
    dq = cube.dq.at[..., 0, 4, 5].set(DQ.DO_NOT_USE.value)
    return eqx.tree_at(lambda c: (c.sci, c.dq), cube, (sci, dq))


def _cut(array: jax.Array) -> jax.Array:
    return array[:-1]


ROWS: list[Row] = [
    Row(
        "nanmedian",
        nanmedian,
        lambda rng: (jnp.asarray(rng.normal(size=(5, 6, 7))), jnp.asarray(rng.random((5, 6, 7)) < 0.8)),
        differentiable=(0,),
        output=jnp.nan_to_num,
        spoil=lambda a: (a[0].at[0, 1, 1].set(jnp.nan), a[1]),
        pad=lambda a: (
            jnp.concatenate([a[0], jnp.full_like(a[0][:1], jnp.nan)]),
            jnp.concatenate([a[1], jnp.zeros_like(a[1][:1])]),
        ),
        degenerate=lambda a: (jnp.zeros_like(a[0]), jnp.zeros_like(a[1])),
    ),
    Row(
        "flag_outliers",
        lambda sci, cube, **numbers: flag_outliers(
            eqx.tree_at(lambda c: c.sci, cube, sci), options=OutlierDetection(**numbers)
        ),
        lambda rng: (lambda cube: (cube.sci, cube))(_cube(rng, 4)),
        differentiable=(0,),
        output=lambda result: (jnp.nan_to_num(result.cube.sci), result.median),
        numbers={"snr": (5.0, 2.5), "maskpt": (0.7, 0.4)},
        spoil=lambda a: (lambda cube: (cube.sci, cube))(_spoil_pixel(a[1])),
        pad=lambda a: (lambda cube: (cube.sci, cube))(_append_invalid(a[1])),
        unpad=lambda result: (_cut(result[0]), result[1]),
    ),
    Row(
        "stack_references",
        lambda sci, cube: stack_references(eqx.tree_at(lambda c: c.sci, cube, sci)),
        lambda rng: (lambda cube: (cube.sci, cube))(_cube(rng, 2, 3)),
        differentiable=(0,),
        output=lambda stacked: stacked.sci,
    ),
    Row(
        "repair_bad_pixels",
        repair_bad_pixels,
        lambda rng: (jnp.asarray(rng.normal(size=(9, 8))), jnp.asarray(rng.random((9, 8)) < 0.2, jnp.uint32)),
        differentiable=(0,),
        output=lambda repaired: repaired.image,
        spoil=lambda a: (a[0].at[3, 4].set(jnp.nan).at[0, 0].set(jnp.inf), a[1]),
        degenerate=lambda a: (jnp.full_like(a[0], jnp.nan), a[1]),
    ),
]
