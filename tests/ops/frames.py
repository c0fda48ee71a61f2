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


def by_the_book(science, references, truncate):
    """Karhunen-Loeve projection with normalised eigenimages of the covariance matrix of the references."""
    frames = np.asarray(references, float).reshape(len(references), -1)
    frames = frames - frames.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.cov(frames))
    images = vectors[:, np.argsort(values)[::-1]].T @ frames
    images = (images / np.linalg.norm(images, axis=1, keepdims=True))[:truncate]
    targets = np.asarray(science, float).reshape(len(science), -1)
    residual = [t - t.mean() - images.T @ (images @ t) for t in targets]
    left = [r - images.T @ (images @ r) for r in frames]
    return np.reshape(residual, science.shape), np.std(left, axis=0).reshape(science.shape[1:])
