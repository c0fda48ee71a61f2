"""KLIP for many numbers of modes at the price of little more than one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._cubes import Expanded, Weighted, cubes, matrix_product
from ._devices import Part, by_pixels
from ._zones import centre, each_zone, flat, inner_products, times, zone_by_zone
from .klip import weights_of
from .subspace import Subspace, subspace


def klip_sweep(
    science: Float[Array, "t y x"],
    references: Float[Array, "k y x"],
    truncates: Int[Array, " n"],
    *,
    combine: bool = True,
    fit: Bool[Array, "y x"] | None = None,
    zones: Bool[Array, "z y x"] | None = None,
    valid_science: Bool[Array, " t"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
) -> Float[Array, "n y x"] | Float[Array, "n t y x"]:
    r"""Subtract the star with each of several numbers of modes.

    $$ d_{K} = \frac{1}{T} \sum_t \Big( t - \bar t - \sum_k w^{(K)}_{tk} (r_k - \bar r_k) \Big) $$

    One Gram matrix, one decomposition. The mean over the frames is taken of the weights, before any image is made.
    Without it, each cube is the one before less a mode.

    Args:
        science: integrations, as in `klip`.
        references: reference frames, as in `klip`.
        truncates: numbers of modes. Traced.
        combine: the mean over the valid science frames; otherwise every frame. Static.
        fit: pixels that decide, as in `klip`.
        zones: pixels of each zone; by default one zone of all pixels.
        valid_science: false for padding.
        valid_references: false for padding.

    Returns:
        Residuals, in the order of `truncates`; NaN outside every zone, and in invalid frames.

    Raises:
        ValueError: `truncates` are no integers.

    Example:
        >>> frames = jnp.array([[[0.0, 2.0], [4.0, 1.0]]])
        >>> klip_sweep(3 * frames, frames, jnp.array([0, 1]))[1].round(6).tolist()
        [[0.0, 0.0], [0.0, 0.0]]

    Source: Soummer, Pueyo & Larkin (2012), ApJ 755, L28.
    """

    def own(images: tuple, shared: tuple, part: Part) -> tuple[Array, None]:
        targets, frames = flat(images[0]), flat(images[1])
        truncates, valid_science, valid_references = shared
        deciding = None if images[2] is None else images[2].reshape(-1)
        valid = jnp.ones(len(targets), bool) if valid_science is None else valid_science
        share = jnp.where(valid, 1 / jnp.maximum(jnp.sum(valid), 1), 0).astype(targets.dtype)[None]
        mixing = share if combine else jnp.eye(len(targets), dtype=targets.dtype)

        def one_zone(used: Array | None) -> tuple[Array, None]:
            counted = deciding if used is None else used if deciding is None else deciding & used
            stars = centre(frames, counted, valid_references, part)[0]
            aims = centre(targets, counted, valid_science, part)[0]
            products, cross = inner_products(stars, aims, counted, part)
            mixed = times(mixing, cross.T).T
            space = subspace(products, 0)
            weights = jax.vmap(lambda truncate: weights_of(space.with_modes(truncate), mixed).weights)(truncates)
            star = Weighted(mixing, weights)
            # Images of the modes are as many as the references: worth while for more frames than that.
            if len(truncates) * len(mixing) > len(frames):
                return cubes(aims, stars, used, star, _expanded(space, mixed, truncates)), None
            return matrix_product(aims, stars, used, star), None

        empty = jnp.full((len(truncates), len(mixing), frames.shape[1]), jnp.nan, targets.dtype)
        residual = each_zone(one_zone, part.zones(images[3]), empty)[0]
        if combine:
            return residual.reshape(len(truncates), *images[0].shape[1:]), None
        if valid_science is not None:
            residual = jnp.where(valid_science[:, None], residual, jnp.nan)
        return residual.reshape(len(truncates), *images[0].shape), None

    if not jnp.issubdtype(jnp.result_type(truncates), jnp.integer):
        raise ValueError(f"truncates are whole numbers, not {jnp.result_type(truncates).name}")
    shared = truncates, valid_science, valid_references
    return by_pixels(zone_by_zone(own), (science, references, fit, zones), shared)[0]


def _expanded(space: Subspace, mixed: Array, truncates: Array) -> Expanded:
    """The star mode by mode, for products `[reference frame]` of the references with the frames."""
    spectrum = jax.lax.stop_gradient(space.spectrum)
    there = spectrum.values > spectrum.tolerance
    shares = times(spectrum.vectors.T, jax.lax.stop_gradient(mixed))
    strengths = jnp.where(there[:, None], shares / jnp.where(there, spectrum.values, 1)[:, None], 0)
    modes = jnp.where(space.usable, spectrum.vectors.T, 0)
    return Expanded(modes, strengths, jnp.clip(truncates, 0, jnp.sum(there)))
