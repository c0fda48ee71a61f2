"""KLIP: subtract the star with the leading Karhunen-Loeve modes of reference images, as gram -> weights -> apply.

Derivatives are of first order, forward and reverse, with the choice of the modes held fixed. For zones see `gram`.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..options import Klip
from ._blocks import Block, Zones, over_blocks
from ._common_mode import CommonMode, Reduced, Reflected, common_mode
from ._devices import Part, by_pixels
from ._dual import dual, fewer_pixels
from ._sums import sum_of_planes
from ._zones import Centred, Stack, centre, each_zone, flat, hide_invalid, inner_products, times, zone_by_zone
from .gram import Gram
from .klip_weights import Weights, weights_of, with_diagnostics, zone_weights
from .subspace import first_left, left_over, scatter, subspace


class KlipResult(eqx.Module):
    """Star-subtracted frames and how the subtraction went; diagnostics as in `Weights`."""

    residual: Float[Array, "t y x"]  # unit of the input; NaN outside every zone and in invalid frames
    error: Float[Array, "y x"] | None  # unit of the input; None where it was not asked for
    weights: Float[Array, "z t k"]  # of each reference in each science frame
    n_modes: Int[Array, "*z_t"]
    gap: Float[Array, "*z_t"]
    eigenvalues: Float[Array, "*z_t k"]


def subtract(
    science: Float[Array, "t y x"],
    references: Float[Array, "k y x"],
    weights: Float[Array, "z t k"],
    *,
    zones: Bool[Array, "z y x"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
    valid_science: Bool[Array, " t"] | None = None,
    whole: Gram | None = None,
) -> Float[Array, "t y x"]:
    r"""Subtract the weighted references and the zone means; linear in the science frames at fixed weights.

    $$ d_t = t - \bar t - \sum_k w_{tk} (r_k - \bar r_k) $$

    Args:
        science: science frames.
        references: reference frames, same unit.
        weights: of each reference in each science frame, see `klip_weights`.
        zones: pixels of each zone, one in several belongs to the last; by default one zone of all pixels.
        valid_references: false for padding.
        valid_science: false for padding.
        whole: the Gram matrix of all pixels, whose means are removed; needed where `science` is a block of pixels.

    Returns:
        Residuals; NaN outside every zone and in invalid frames.

    Example:
        >>> frames = jnp.array([[[0.0, 2.0]]])
        >>> subtract(3 * frames, frames, jnp.array([[[3.0]]])).tolist()
        [[[0.0, 0.0]]]
    """
    means = (None, None) if whole is None else (whole.reference_means, whole.science_means)

    def own(images: tuple, zones: Zones, shared: tuple, part: Part) -> tuple[Array, None]:
        weights, means, valid_references, valid_science = shared

        def centred(images: Array, valid: Array | None, mean: Array | None) -> Centred:
            return centre(flat(images), zones, valid, part)[0] if mean is None else Centred(flat(images), mean, valid)

        aims = centred(images[0], valid_science, means[1])
        stars = centred(images[1], valid_references, means[0])
        residual = _images(zones, _Star(weights, stars, aims))[0]
        return hide_invalid(residual, valid_science).reshape(images[0].shape), None

    shared = weights, means, valid_references, valid_science
    return by_pixels(zone_by_zone(own), ((science, references), zones), shared)[0]


def klip(
    science: Float[Array, "t y x"],
    references: Float[Array, "k y x"],
    *,
    options: Klip,
    fit: Bool[Array, "y x"] | None = None,
    zones: Bool[Array, "z y x"] | None = None,
    eligible: Bool[Array, "t k"] | None = None,
    valid_science: Bool[Array, " t"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
    error: bool = True,
) -> KlipResult:
    """Subtract the star from the integrations of one exposure.

    The modes are computed once per exposure, from the references alone, unless `eligible` tells the frames apart.

    Args:
        science: integrations, finite where `zones` and `valid_science` hold, MJy/sr.
        references: reference frames registered to them, finite likewise, MJy/sr.
        options: `truncate`, the number of modes kept.
        fit: pixels that decide means and weights, see `fit_pixels`; the star is subtracted everywhere. By default all.
        zones: pixels of each zone, one in several belongs to the last; by default one zone of all pixels.
        eligible: which references each integration may use; by default all.
        valid_science: false for padding.
        valid_references: false for padding.
        error: also compute `residual_error`, from all valid references. Static.

    Returns:
        `KlipResult`.

    Example:
        >>> frames = jnp.array([[[0.0, 2.0], [4.0, 1.0]]])
        >>> abs(klip(3 * frames + 1, frames, options=Klip()).residual).round(6).tolist()
        [[[0.0, 0.0], [0.0, 0.0]]]

    Source: klip step of calwebb_coron3, jwst 3.0.0, which Soummer, Pueyo & Larkin (2012), ApJ 755, L28, describe.
    """

    def own(images: tuple, zones: Zones, shared: tuple, part: Part) -> tuple[tuple, Weights]:
        truncate, eligible, valid_science, valid_references = shared
        counted = zones.only(None if images[2] is None else images[2].reshape(-1))
        stars = centre(flat(images[1]), counted, valid_references, part)[0]
        aims = centre(flat(images[0]), counted, valid_science, part)[0]
        star, found = _fitted(zones, counted, aims, stars, truncate, eligible, options.max_modes, part, error=error)
        residual, noise = _images(zones, star)
        residual = hide_invalid(residual, valid_science).reshape(images[0].shape)
        return (residual, None if noise is None else noise.reshape(residual.shape[1:])), found

    shared = options.truncate, eligible, valid_science, valid_references
    (residual, noise), found = by_pixels(zone_by_zone(own), ((science, references, fit), zones), shared)
    return KlipResult(residual, noise, found.weights, found.n_modes, found.gap, found.eigenvalues)


class _Star(eqx.Module):
    """What the star's images, and those of the error, are made of."""

    weights: Array  # [zone science reference], of the references as in `stars`
    stars: Stack
    aims: Stack
    left: Array | None = None  # [zone reference reference], from `left_over`; None: no error, or it is there already
    error: Array | None = None  # [pixel]

    def cut(self, block: Block) -> _Star:
        """Of one zone and the pixels of a block."""
        left = None if self.left is None else self.left[block.zone]
        return _Star(self.weights[block.zone], self.stars.cut(block), self.aims.cut(block), left)


def _images(zones: Zones, star: _Star) -> tuple[Array, Array | None]:
    """Residual and, where it is asked for, error; NaN outside every zone."""

    def one(part: _Star, inside: Array | None) -> tuple[Array, Array | None]:
        frames = part.stars.values(inside)
        noise = None if part.left is None else scatter(part.left, frames)
        return part.aims.values(inside) - times(part.weights, frames), noise

    residual, noise = over_blocks(star.cut, one, zones, star.stars.frames.shape)
    return residual, noise if star.error is None else star.error


def _fitted(
    zones: Zones,
    counted: Zones,
    aims: Centred,
    stars: Centred,
    truncate: Array | int,
    eligible: Array | None,
    max_modes: int | None,
    part: Part,
    *,
    error: bool,
) -> tuple[_Star, Weights]:
    """The star of every zone, and its weights for the references as they were given."""
    if eligible is None and max_modes is None and stars.frames.dtype == jnp.float32:
        return _in_single(counted, aims, stars, truncate, part, error=error)
    if eligible is None and not part.names and _from_pixels(stars.frames):
        return _in_dual(zones, counted, aims, stars, truncate, max_modes, error=error)

    def one_zone(products: Array, cross: Array) -> tuple[Weights, Array | None]:
        space = subspace(products, truncate, max_modes=max_modes)
        if eligible is None:
            found = weights_of(space, cross)
        else:
            found = zone_weights(products, cross, truncate, eligible, max_modes)
        return found, left_over(space, stars.valid) if error else None

    found, left = each_zone(one_zone, *inner_products(stars, aims, counted, part))
    return _Star(found.weights, stars, aims, left), found


def _from_pixels(frames: Array) -> bool:
    """Whether the pixels' side is taken; float32 needs what `_in_single` does on the references'."""
    return fewer_pixels(*frames.shape) and frames.dtype == jnp.float64


def _in_dual(
    zones: Zones,
    counted: Zones,
    science: Centred,
    references: Centred,
    truncate: Array | int,
    max_modes: int | None,
    *,
    error: bool,
) -> tuple[_Star, Weights]:
    """All zones from the side of the pixels, which are few."""
    n_pixels = references.frames.shape[1]

    def one_zone(zone: Array) -> tuple[Weights, Array | None]:
        used = zones.whole(zone, n_pixels)
        deciding = used if counted is zones else counted.whole(zone, n_pixels)
        side = dual(
            *(used.inside, deciding.inside, science.cut(used), references.cut(used), truncate, max_modes),
            valid=references.valid,
            error=error,
        )
        noise = side.error if used.inside is None or side.error is None else jnp.where(used.inside, side.error, 0)
        return with_diagnostics(side.weights, side.eigenvalues, side.n_modes), noise

    found, noise = each_zone(one_zone, jnp.arange(zones.count))
    if noise is not None:
        together = sum_of_planes(noise)
        noise = over_blocks(lambda block: block.of(together), lambda part, _: part, zones, together.shape)
    return _Star(found.weights, references, science, error=noise), found


def _in_single(
    zones: Zones, science: Centred, references: Centred, truncate: Array | int, part: Part, *, error: bool
) -> tuple[_Star, Weights]:
    """All zones in float32, whose rounding errors the common mode would make as large as the faint modes."""
    common = common_mode(references, science, zones, part)
    stars = Reflected(references, common)
    aims = Reduced(science, stars)

    def one_zone(products: Array, cross: Array, mode: CommonMode) -> tuple[Weights, Array, Array | None]:
        space = subspace(products, truncate, graded=True)
        found = weights_of(space, cross)
        # The common mode itself leaves what the dropped modes have of it.
        weights = found.weights - mode.shares[:, None] * first_left(space)
        left = left_over(space, references.valid, mode) if error else None
        whole = mode.reflected(weights.at[:, 0].add(mode.shares).T).T
        return eqx.tree_at(lambda w: w.weights, found, jnp.where(mode.spans, whole, 0)), weights, left

    found, weights, left = each_zone(one_zone, *inner_products(stars, aims, zones, part), common)
    return _Star(weights, stars, aims, left), found
