"""Rows of the way to the sky image, and of apertures on it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from coronjax.cube import Cube
from coronjax.ops import (
    Overlap,
    SharedNoise,
    aperture_mask,
    at_apertures,
    correlation_factors,
    overlap,
    resample,
    spread,
)
from coronjax.options import Resample

from .row import Arguments, Row
from .samples import append_invalid, sample_cube, spoil_pixel


def _map(rng: np.random.Generator) -> jax.Array:
    """Where the pixels of an 8 x 9 image fall on an output: turned, bent and moved a little."""
    (y, x), (angle, bend) = jnp.mgrid[:8, :9].astype(float), 0.1 * rng.normal(size=2)
    turned = jnp.stack([x + angle * y + bend * x * y / 9, y - angle * x], -1)
    return turned + jnp.asarray(rng.uniform(0.1, 0.9, 2))


def _exposures(rng: np.random.Generator) -> Arguments:
    cube = sample_cube(rng, 2, 3)
    shared = SharedNoise(*jnp.asarray(rng.uniform(0.5, 2, (2, 2, 8, 9))))
    return cube.sci, jnp.stack([_map(rng), _map(rng)]), cube, shared


def _resample(sci: jax.Array, maps: jax.Array, cube: Cube, shared: SharedNoise, **numbers: Any) -> Any:
    cube, zero = eqx.tree_at(lambda c: c.sci, cube, sci), jnp.zeros(len(sci))
    ratio = numbers.pop("pixel_scale_ratio", 1.0)
    return resample(
        cube,
        maps,
        output_shape=(9, 10),
        exposure_times=zero,
        background=zero,
        pixel_scale_ratio=ratio,
        options=Resample(**numbers),
        window=5,
        shared=shared,
    )


def _apertures(rng: np.random.Generator) -> Arguments:
    """What a turned image gives to the pixels around one aperture; its noise; weight and variance of the output."""
    (y, x), angle = jnp.mgrid[:15, :15].astype(float), 0.1 * rng.normal()
    turned = jnp.stack([x + angle * y, y - angle * x], -1) - 0.5 + jnp.asarray(rng.uniform(0, 0.5, 2))
    table = at_apertures(overlap(turned, output_shape=(13, 14), window=4))
    arrays = (jnp.asarray(rng.uniform(0.5, 2, shape)) for shape in ((1, 15, 15), (13, 14), (13, 14)))
    return jax.tree.map(lambda a: a[None], table), *arrays


def _pad_integrations(arguments: Arguments) -> Arguments:
    """One more integration for each exposure, all NaN and not valid."""
    padded = jax.vmap(append_invalid)(arguments[2])
    return padded.sci, arguments[1], padded, arguments[3]


ROWS: list[Row] = [
    Row(
        "overlap",
        jax.jit(lambda positions, pixfrac=1.0: overlap(positions, output_shape=(9, 10), pixfrac=pixfrac, window=4)),
        lambda rng: (_map(rng),),
        differentiable=(0,),
        output=lambda table: table.share,
        numbers={"pixfrac": (1.0, 0.6)},
        spoil=lambda a: (a[0].at[2, 3].set(jnp.nan),),
        degenerate=lambda a: (jnp.zeros_like(a[0]),),
    ),
    Row(
        "spread",
        lambda table, values: spread(table, values),
        lambda rng: (overlap(_map(rng), output_shape=(9, 10), window=4), jnp.asarray(rng.normal(size=(2, 8, 9)))),
        differentiable=(1,),
    ),
    Row(
        "resample",
        jax.jit(_resample),  # its scans would be compiled anew at every call
        _exposures,
        differentiable=(0, 1),
        output=lambda r: [
            jnp.nan_to_num(a)
            for a in (r.sci, r.err, r.weight, r.var_poisson, r.var_rnoise, r.var_flat, r.var_references, r.var_speckles)
        ],
        numbers={"pixfrac": (1.0, 0.7), "fillval": (0.0, 5.0), "pixel_scale_ratio": (1.0, 2.0)},
        spoil=lambda a: (lambda cube: (cube.sci, a[1], cube, jax.tree.map(lambda v: v.at[0, 2, 2].set(jnp.nan), a[3])))(
            spoil_pixel(a[2])
        ),
        pad=_pad_integrations,
        degenerate=lambda a: jax.tree.map(jnp.zeros_like, a),
    ),
    Row(
        "aperture_mask",
        lambda position, radius: aperture_mask((8, 9), position, radius),
        lambda rng: (jnp.asarray(rng.uniform(3, 5, 2)), jnp.asarray(rng.uniform(1, 3))),
        differentiable=(0, 1),
        degenerate=lambda a: (jnp.array([3.5, 4.0]), jnp.array(0.5)),
    ),
    Row(
        "at_apertures",
        lambda share: at_apertures(Overlap(jnp.zeros(share.shape, int), share, jnp.zeros((), int))),
        lambda rng: (jnp.asarray(rng.random((2, 14, 13))),),
        differentiable=(0,),
        output=lambda table: table.share,
    ),
    Row(
        "correlation_factors",
        correlation_factors,
        _apertures,
        differentiable=(1, 2, 3),
        degenerate=lambda a: (a[0], *(jnp.zeros_like(array) for array in a[1:])),
        output=jnp.nan_to_num,
    ),
]
