"""Weights of the references that project science frames on the leading Karhunen-Loeve modes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .gram import Gram
from .spectral import eigenvalues, spectral_times
from .subspace import Subspace, subspace


class Weights(eqx.Module):
    """What multiplies each reference to make the star in each science frame.

    `[t]` is absent from the diagnostics where all science frames share their references.
    """

    weights: Float[Array, "z t k"]
    eigenvalues: Float[Array, "*z_t k"]  # of the Gram matrix, descending; NaN: not found
    # (Last kept - first dropped) / last kept eigenvalue; 1: nothing was cut through; NaN: the first dropped is unknown.
    gap: Float[Array, "*z_t"]
    n_modes: Int[Array, "*z_t"]  # modes kept: truncate, or the references' rank, or those found, if less


def klip_weights(
    gram: Gram,
    *,
    truncate: Int[Array, ""] | int,
    eligible: Bool[Array, "t k"] | None = None,
    max_modes: int | None = None,
) -> Weights:
    r"""Weights of the references that project each science frame on the leading modes.

    $$ w_t = V_K \Lambda_K^{-1} V_K^T B_t, \qquad G = V \Lambda V^T $$

    Args:
        gram: inner products of the frames.
        truncate: modes kept. Traced: neither a change nor a sweep under `vmap` decomposes or compiles again.
            More than the rank of the references means all of them; 0 leaves the removal of the means.
        eligible: which references each science frame may use (self-exclusion, rotation). Each frame then has a
            decomposition of its own; by default all share one.
        max_modes: as in `Klip`. Static.

    Returns:
        `Weights`. Invalid, ineligible and constant references have weight zero.

    Example:
        >>> from coronjax.ops.gram import gram
        >>> frames = jnp.array([[[0.0, 2.0, 4.0]]])
        >>> klip_weights(gram(frames, 3 * frames), truncate=1).weights.tolist()
        [[[3.0]]]

    Source: Soummer, Pueyo & Larkin (2012), ApJ 755, L28.
    """

    def one_zone(products: Array, cross: Array) -> Weights:
        return zone_weights(products, cross, truncate, eligible, max_modes)

    return jax.vmap(one_zone)(gram.products, gram.cross)


def weights_of(space: Subspace, cross: Array) -> Weights:
    """The weights of one zone, [t k], and the diagnostics they share."""
    product = spectral_times(space.spectrum, space.kept, cross, function="inverse", tolerance=space.tolerance)
    weights = jnp.where(space.usable[:, None], product, 0).T
    return with_diagnostics(weights, eigenvalues(space.spectrum), jnp.sum(space.kept))


def with_diagnostics(weights: Array, values: Array, n_modes: Array) -> Weights:
    """Weights with the gap between the last of the modes kept and the first of the others."""
    padded = jnp.append(jnp.maximum(values, 0), 0)
    last = jnp.where(n_modes > 0, padded[jnp.maximum(n_modes - 1, 0)], 1)
    gap = jnp.where(n_modes > 0, (last - padded[n_modes]) / last, 1)
    return Weights(weights, values, gap, n_modes)


def zone_weights(
    products: Array, cross: Array, truncate: Array | int, eligible: Array | None, max_modes: int | None
) -> Weights:
    """The weights of one zone; of frames that do not share their references, from a decomposition of each."""
    if eligible is None:
        return weights_of(subspace(products, truncate, max_modes=max_modes), cross)

    def one_frame(target: Array, allowed: Array) -> Weights:
        found = weights_of(subspace(products, truncate, allowed, max_modes=max_modes), target[:, None])
        return eqx.tree_at(lambda w: w.weights, found, found.weights[0])

    return jax.vmap(one_frame)(cross.T, eligible)
