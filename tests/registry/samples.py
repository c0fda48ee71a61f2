"""Samples that rows of several subjects are made of."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from coronjax.cube import DQ, Cube

from .row import Arguments


def sample_cube(rng: np.random.Generator, *planes: int) -> Cube:
    shape = (*planes, 8, 9)
    sci = jnp.asarray(rng.normal(10.0, 1.0, shape))
    return Cube(
        sci, jnp.ones(shape), jnp.zeros(shape, jnp.uint32), jnp.ones(planes, bool), 0.1 * sci, 0.2 * sci, 0.3 * sci
    )


def append_invalid(cube: Cube) -> Cube:
    """A cube with one more integration, all NaN and not valid."""
    wasted = jax.tree.map(lambda a: jnp.full_like(a[:1], jnp.nan if jnp.issubdtype(a.dtype, jnp.floating) else 0), cube)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cube, wasted)


def spoil_pixel(cube: Cube) -> Cube:
    """A cube with one NaN pixel and one flagged pixel."""
    sci = cube.sci.at[..., 0, 3, 3].set(jnp.nan)
    dq = cube.dq.at[..., 0, 4, 5].set(DQ.DO_NOT_USE.value)
    return eqx.tree_at(lambda c: (c.sci, c.dq), cube, (sci, dq))


def cut(array: jax.Array) -> jax.Array:
    return array[:-1]


def sample_stars(rng: np.random.Generator, planes: int = 0) -> Arguments:
    """Target (or a stack of them), moving image and weight of a registration."""
    y, x = np.mgrid[:24, :23] - 11.5
    star = 100.0 * np.exp(-(x**2 + y**2) / 9) + 10.0 * np.exp(-np.abs(x - y)) / (1 + np.hypot(x, y))
    shape = (planes or 1, *star.shape)
    targets = 1.5 * np.roll(star, (1, 0), (0, 1)) + 0.5 * rng.normal(size=shape)
    moving, weight = star + 0.5 * rng.normal(size=star.shape), 0.2 + 0.8 * rng.random(star.shape)
    return jnp.asarray(targets if planes else targets[0]), jnp.asarray(moving), jnp.asarray(weight)
