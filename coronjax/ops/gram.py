"""Inner products of reference and science frames, zone by zone: all that KLIP needs to know about the pixels.

A zone is a set of pixels, one boolean image, that is subtracted on its own; `None` stands for one zone that holds
every pixel. Zones should not share pixels: one that lies in several belongs to the last of them. Values outside every
zone and of invalid frames are never looked at, NaN included.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from ._blocks import Zones
from ._devices import Part, by_pixels
from ._zones import as_images, centre, flat, inner_products, zone_by_zone


class Gram(eqx.Module):
    """Inner products of reference and science frames over the pixels of each zone, zone means removed.

    A monoid: `init_gram` is its unit and `merge` adds up disjoint sets of pixels, in any order.
    """

    products: Float[Array, "z k k"]  # references with references
    cross: Float[Array, "z k t"]  # references with science frames
    n_pixels: Float[Array, " z"]  # pixels counted so far
    reference_means: Float[Array, "z k"]
    science_means: Float[Array, "z t"]


def init_gram(n_zones: int, n_references: int, n_science: int, dtype: DTypeLike = float) -> Gram:
    """The Gram matrix of no pixels.

    Args:
        n_zones: number of zones.
        n_references: number of reference frames.
        n_science: number of science frames.
        dtype: floating type of the products.

    Returns:
        `Gram` of zeros.

    Example:
        >>> init_gram(1, 3, 2).products.shape
        (1, 3, 3)
    """
    shapes = (n_references, n_references), (n_references, n_science), (), (n_references,), (n_science,)
    return Gram(*(jnp.zeros((n_zones, *shape), dtype) for shape in shapes))


def merge(a: Gram, b: Gram) -> Gram:
    r"""Add up the Gram matrices of two disjoint sets of pixels.

    $$ G = G_a + G_b + \frac{n_a n_b}{n_a + n_b}\, \delta \delta^T, \qquad \delta = \mu_b - \mu_a $$

    Args:
        a: products over some pixels.
        b: products over others, of the same frames and zones.

    Returns:
        Products over both.

    Example:
        >>> merge(init_gram(1, 2, 1), init_gram(1, 2, 1)).n_pixels.tolist()
        [0.0]

    Source: Chan, Golub & LeVeque (1983), American Statistician 37, 242.
    """
    n_pixels = a.n_pixels + b.n_pixels
    share = b.n_pixels / jnp.maximum(n_pixels, 1)
    references, science = b.reference_means - a.reference_means, b.science_means - a.science_means
    scaled = (a.n_pixels * share)[:, None, None] * references[:, :, None]
    return Gram(
        a.products + b.products + scaled * references[:, None, :],
        a.cross + b.cross + scaled * science[:, None, :],
        n_pixels,
        a.reference_means + share[:, None] * references,
        a.science_means + share[:, None] * science,
    )


def gram(
    references: Float[Array, "k y x"],
    science: Float[Array, "t y x"],
    *,
    zones: Bool[Array, "z y x"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
    valid_science: Bool[Array, " t"] | None = None,
) -> Gram:
    r"""Inner products of the frames over the pixels of each zone, the mean over the zone removed first.

    $$ G_{ij} = \sum_{p \in \mathrm{zone}} (r_{ip} - \bar r_i)(r_{jp} - \bar r_j), \qquad
       B_{it} = \sum_{p \in \mathrm{zone}} (r_{ip} - \bar r_i)(t_p - \bar t) $$

    Args:
        references: reference frames, any unit.
        science: science frames, same unit.
        zones: pixels of each zone, one in several belongs to the last; by default one zone of all pixels.
        valid_references: false for padding.
        valid_science: false for padding.

    Returns:
        `Gram`, with zeros for invalid frames.

    Example:
        >>> gram(jnp.array([[[0.0, 2.0]]]), jnp.array([[[1.0, 3.0]]])).cross.tolist()
        [[[2.0]]]
    """

    def own(images: tuple, zones: Zones, valid: tuple[Array | None, Array | None], part: Part) -> tuple[None, Gram]:
        stars, n_pixels = centre(flat(images[0]), zones, valid[0], part)
        aims = centre(flat(images[1]), zones, valid[1], part)[0]
        return None, Gram(*inner_products(stars, aims, zones, part), n_pixels, stars.means, aims.means)

    images = jax.tree.map(as_images, ((references, science), zones))
    return by_pixels(zone_by_zone(own), images, (valid_references, valid_science))[1]


def update(gram_so_far: Gram, references: Array, science: Array, **masks: Array | None) -> Gram:
    """Add a block of pixels to a Gram matrix.

    Args:
        gram_so_far: what the blocks before gave; `init_gram` at first.
        references: reference frames on the block, [k pixels] or [k y x].
        science: science frames on the block.
        **masks: those of `gram`, on the block.

    Returns:
        The products over the pixels so far.

    Example:
        >>> block = jnp.array([[0.0, 2.0]])
        >>> update(init_gram(1, 1, 1), block, block).products.tolist()
        [[[2.0]]]
    """
    return merge(gram_so_far, gram(references, science, **masks))
