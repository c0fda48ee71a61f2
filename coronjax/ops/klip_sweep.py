"""KLIP for many numbers of modes at the price of little more than one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._blocks import Zones
from ._common_mode import Reduced, Reflected, common_mode
from ._cubes import Expanded, Weighted, cubes, matrix_product
from ._devices import Part, by_pixels
from ._zones import Centred, Place, Stack, centre, each_zone, flat, inner_products, times, zone_by_zone
from .klip_weights import weights_of
from .subspace import Subspace, first_left, subspace


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
    into: Float[Array, "n t y x"] | None = None,
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
        zones: pixels of each zone, one in several belongs to the last; by default one zone of all pixels.
        valid_science: false for padding.
        valid_references: false for padding.
        into: an array of the result's shape and dtype, for `combine=False`, whose values do not matter: memory for the
            cubes. It saves the most for one zone on a CPU, where more frames are asked for than there are references.
            Most of the time of many cubes goes into getting fresh memory. A compiled function to which an
            earlier result is donated writes the next one over it:
            `sweep = jax.jit(partial(klip_sweep, combine=False), donate_argnames="into")`.

    Returns:
        Residuals, in the order of `truncates`; NaN outside every zone, and in invalid frames.

    Raises:
        ValueError: `truncates` are no integers; `into` does not have the form of the result.

    Example:
        >>> frames = jnp.array([[[0.0, 2.0], [4.0, 1.0]]])
        >>> abs(klip_sweep(3 * frames, frames, jnp.array([0, 1]))[1]).round(6).tolist()
        [[0.0, 0.0], [0.0, 0.0]]

    Source: Soummer, Pueyo & Larkin (2012), ApJ 755, L28.
    """
    _check(science, truncates, combine, into)
    place = None if into is None else Place(into)
    own = partial(_residuals, combine=combine)
    shared = truncates, valid_science, valid_references
    return by_pixels(zone_by_zone(own), ((science, references, fit, place), zones), shared)[0]


def _check(science: Array, truncates: Array, combine: bool, into: Array | None) -> None:
    if not jnp.issubdtype(jnp.result_type(truncates), jnp.integer):
        raise ValueError(f"truncates are whole numbers, not {jnp.result_type(truncates).name}")
    form = (len(truncates), *science.shape), jnp.result_type(science)
    if into is not None and combine:
        raise ValueError("into is a place for cubes, of combine=False")
    if into is not None and (into.shape, into.dtype) != form:
        raise ValueError(f"into is {into.dtype} {into.shape} where the cubes are {form[1]} {form[0]}")


def _residuals(images: tuple, zones: Zones, shared: tuple, part: Part, *, combine: bool) -> tuple[Array, None]:
    """The residuals `[number ... y x]` of a part of the pixels."""
    targets, frames = flat(images[0]), flat(images[1])
    truncates, valid_science, valid_references = shared
    counted = zones.only(None if images[2] is None else images[2].reshape(-1))
    valid = jnp.ones(len(targets), bool) if valid_science is None else valid_science
    share = jnp.where(valid, 1 / jnp.maximum(jnp.sum(valid), 1), 0).astype(targets.dtype)[None]
    mixing = share if combine else jnp.eye(len(targets), dtype=targets.dtype)
    plain = centre(frames, counted, valid_references, part)[0]
    aims = centre(targets, counted, valid_science, part)[0]
    stars, reduced, shares = _in_mirror(plain, aims, counted, mixing, part)
    # Images of the modes are as many as the references: worth while for more frames than that.
    by_modes = len(truncates) * len(mixing) > len(frames)
    one_zone = partial(_star, mixing=mixing, truncates=truncates, by_modes=by_modes)
    weights, modes = each_zone(one_zone, *inner_products(stars, reduced, counted, part), shares)
    star = Weighted(mixing, weights)
    if modes is None:
        residual = matrix_product(reduced, stars, zones, star)
    else:
        place = images[3] and images[3].memory.reshape(len(truncates), *targets.shape)
        residual = cubes(aims, stars, zones, star, modes, place)
    if combine:
        return residual.reshape(len(truncates), *images[0].shape[1:]), None
    if valid_science is not None:
        residual = jnp.where(valid_science[:, None], residual, jnp.nan)
    return residual.reshape(len(truncates), *images[0].shape), None


def _star(
    products: Array, cross: Array, shares: Array | None, *, mixing: Array, truncates: Array, by_modes: bool
) -> tuple[Array, Expanded | None]:
    """Weights of the references in the star of a zone, for each number of modes, and the modes themselves if wanted."""
    mixed = times(mixing, cross.T).T
    space = subspace(products, 0, graded=shares is not None)
    weights = jax.vmap(lambda truncate: _weights(space.with_modes(truncate), mixed, shares))(truncates)
    if not by_modes:
        return weights, None
    if shares is not None:
        weights = weights.at[..., :1].add(shares)
    return weights, _expanded(space, mixed, shares, truncates)


def _in_mirror(
    references: Centred, science: Centred, zones: Zones, mixing: Array, part: Part
) -> tuple[Stack, Stack, Array | None]:
    """References, frames and the mixed frames' shares as float32 needs them, see `klip`; float64 takes all as it is."""
    if references.frames.dtype != jnp.float32:
        return references, science, None
    mode = common_mode(references, science, zones, part)
    stars = Reflected(references, mode)
    return stars, Reduced(science, stars), times(mixing, mode.shares[..., None])


def _weights(space: Subspace, mixed: Array, shares: Array | None) -> Array:
    """Of the references in the frames `[frame reference]`, less those frames' shares of the first one, if any."""
    weights = weights_of(space, mixed).weights
    return weights if shares is None else weights - shares * first_left(space)


def _expanded(space: Subspace, mixed: Array, shares: Array | None, truncates: Array) -> Expanded:
    """The star mode by mode, for products `[reference frame]` of the references with the frames less their shares."""
    spectrum = jax.lax.stop_gradient(space.spectrum)
    there = spectrum.values > spectrum.tolerance
    along = times(spectrum.vectors.T, jax.lax.stop_gradient(mixed))
    strengths = along / jnp.where(there, spectrum.values, 1)[:, None]
    if shares is not None:
        strengths = strengths + times(spectrum.vectors[0][:, None], jax.lax.stop_gradient(shares).T)
    strengths = jnp.where(there[:, None], strengths, 0)
    modes = jnp.where(space.usable, spectrum.vectors.T, 0)
    return Expanded(modes, strengths, jnp.clip(truncates, 0, jnp.sum(there)))
