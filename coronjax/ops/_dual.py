"""KLIP of fewer pixels than references: from the pixels' products over the references, in place of the references'.

$$ F^T F = Z \\Lambda Z^T, \\qquad v_k = F z_k / \\sqrt{\\lambda_k}, \\qquad
   w_t = V_K \\Lambda_K^{-1} V_K^T F t = F\\, Z_K \\Lambda_K^{-1} Z_K^T t $$

for centred references in the rows of $F$: the smaller of two eigenproblems with the same eigenvalues but for zeros.
Where the rank does not change the two sides are one function of $F$, and have one derivative.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._root import root
from ._zones import Stack, times
from .spectral import eigenvalues, n_pairs, spectral_times
from .subspace import Subspace, subspace


class Dual(eqx.Module):
    """What is found from the pixels' side."""

    weights: Float[Array, "t k"]
    eigenvalues: Float[Array, " k"]  # those of the references' products
    n_modes: Int[Array, ""]
    error: Float[Array, " pixel"] | None


def fewer_pixels(n_references: int, n_pixels: int) -> bool:
    """Whether the pixels' side is clearly the cheaper one: at most 0.4 times the eigenproblem."""
    return 4 * n_pixels <= 3 * n_references


def dual(
    used: Bool[Array, " pixel"] | None,
    counted: Bool[Array, " pixel"] | None,
    aims: Stack,
    stars: Stack,
    truncate: Array | int,
    max_modes: int | None,
    *,
    valid: Bool[Array, " k"] | None,
    error: bool,
) -> Dual:
    """Weights of the science frames `aims` of one zone, and the error where it is asked for, from those `counted`."""
    n_references = len(stars.frames)
    frames, targets = stars.values(counted), aims.values(counted)
    space = subspace(times(frames.T, frames), truncate, max_modes=max_modes)
    shares = spectral_times(space.spectrum, space.kept, targets.T, function="inverse", tolerance=space.tolerance)
    usable = jnp.sum(jax.lax.stop_gradient(frames) ** 2, axis=1) > 0
    weights = jnp.where(usable[:, None], times(frames, shares), 0).T
    wanted = n_pairs(n_references, None if max_modes is None else max_modes + 1)
    values = eigenvalues(space.spectrum)[:wanted]
    values = jnp.pad(values, (0, wanted - len(values)))
    noise = None
    if error:
        everywhere = frames if counted is used else stars.values(used)
        noise = _scatter(_left(space, frames, everywhere), valid)
    return Dual(weights, values, jnp.sum(space.kept), noise)


def _left(space: Subspace, frames: Array, everywhere: Array) -> Array:
    """What the kept modes leave of the references, `[reference pixel]`, on all pixels."""
    spectrum, tolerance = space.spectrum, space.tolerance
    if everywhere is not frames:
        inside = spectral_times(
            spectrum, space.kept, times(frames.T, everywhere), function="inverse", tolerance=tolerance
        )
        left = everywhere - times(frames, inside)
    elif len(space.kept) < frames.shape[1]:  # of the dropped modes most are unknown
        held = spectral_times(spectrum, space.kept, frames.T, function="projector", tolerance=0.0)
        return frames - held.T
    else:
        left = spectral_times(spectrum, ~space.kept, frames.T, function="projector", tolerance=tolerance).T
    # Nothing is left where all modes are kept, not even rounding errors.
    # Values that are NaN are those of modes that were not found, but are there.
    return jnp.where(jnp.any(~space.kept & ~(spectrum.values <= tolerance)), left, 0)


def _scatter(left: Array, valid: Array | None) -> Array:
    """Standard deviation over the valid references."""
    count = len(left) if valid is None else jnp.maximum(jnp.sum(valid), 1)
    counted = jnp.ones((len(left), 1), left.dtype) if valid is None else valid[:, None].astype(left.dtype)
    about = counted * (left - jnp.sum(counted * left, axis=0) / count)
    return root(jnp.sum(about**2, axis=0) / count)
