"""Frames of one star for the tests of KLIP, and its steps compiled: one by one their operations take longer."""

import jax
import jax.numpy as jnp
import numpy as np

from coronjax import ops
from coronjax.options import Klip

gram, klip_weights, subtract, modes, residual_error = (
    jax.jit(step) for step in (ops.gram, ops.klip_weights, ops.subtract, ops.modes, ops.residual_error)
)
klip = jax.jit(ops.klip, static_argnames="error")
klip_sweep = jax.jit(ops.klip_sweep, static_argnames="combine")


def scene(n_references=8, n_science=3, shape=(15, 17), seed=0, noise=0.1):
    """A common star, a few wandering aberrations and noise."""
    rng = np.random.default_rng(seed)
    star = 10 * rng.random(shape) ** 4 + 3
    aberrations = rng.normal(size=(3, *shape)) * star / 5
    frames = star + np.tensordot(rng.normal(size=(n_references + n_science, 3)), aberrations, 1)
    frames = frames + noise * rng.normal(size=frames.shape)
    return jnp.asarray(frames[n_references:]), jnp.asarray(frames[:n_references])


def run_klip(science, references, truncate, **masks):
    return klip(science, references, options=Klip(truncate=jnp.asarray(truncate)), **masks)
