"""The subspace that the leading modes of the references span: their images, and what they leave of the references."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._blocks import Zones, over_blocks
from ._common_mode import CommonMode
from ._devices import Part, by_pixels
from ._root import root
from ._zones import Centred, each_zone, flat, times, zone_by_zone
from .gram import Gram
from .spectral import Spectrum, decompose, eigenvalues, eigenvectors, spectral_times


class Subspace(eqx.Module):
    """The modes of one Gram matrix and which of them are kept."""

    spectrum: Spectrum
    kept: Bool[Array, " k"]
    usable: Bool[Array, " k"]

    @property
    def tolerance(self) -> Float[Array, ""]:
        """Up to which eigenvalues cannot be told from zero."""
        return self.spectrum.tolerance

    def with_modes(self, truncate: Array | int) -> Subspace:
        """The same decomposition with another number of leading modes kept."""
        kept = (jnp.arange(len(self.kept)) < truncate) & (self.spectrum.values > self.tolerance)
        return eqx.tree_at(lambda space: space.kept, self, kept)


def subspace(
    products: Array,
    truncate: Array | int,
    allowed: Array | None = None,
    *,
    max_modes: int | None = None,
    graded: bool = False,
) -> Subspace:
    """Decompose a Gram matrix, of the references allowed, and keep its leading modes, `max_modes` of them at most."""
    # A reference without variance spans nothing: it counts neither as a reference nor in the rank.
    usable = jnp.diagonal(products) > 0
    if allowed is not None:
        usable = usable & allowed
        products = jnp.where(usable[:, None] & usable[None, :], products, 0)
    # One more than can be kept: the gap to it is a diagnostic.
    spectrum = decompose(products, leading=None if max_modes is None else max_modes + 1, graded=graded)
    order = jnp.arange(len(spectrum.values))
    kept = (order < (truncate if max_modes is None else jnp.minimum(truncate, max_modes))) & (
        spectrum.values > spectrum.tolerance
    )
    return Subspace(spectrum, kept, usable)


def residual_error(
    references: Float[Array, "k y x"],
    gram: Gram,
    *,
    truncate: Int[Array, ""] | int,
    zones: Bool[Array, "z y x"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
) -> Float[Array, "y x"]:
    r"""How badly the kept modes reproduce the references: the scatter over them of their own residuals.

    $$ e = (I - V_K V_K^T) (r - \bar r), \qquad
       \sigma_p^2 = \frac{1}{n} \sum_k \Big( e_{kp} - \frac{1}{n} \sum_l e_{lp} \Big)^2 $$

    Args:
        references: reference frames.
        gram: their inner products over all pixels.
        truncate: modes kept, as in `klip_weights`.
        zones: pixels of each zone, one in several belongs to the last; by default one zone of all pixels.
        valid_references: false for padding; those do not count.

    Returns:
        Standard deviation over the references, in their unit: 0 where all modes are kept, NaN outside every zone.

    Example:
        >>> from coronjax.ops.gram import gram
        >>> frames = jnp.array([[[0.0, 2.0, 5.0]], [[1.0, 0.0, 1.0]]])
        >>> residual_error(frames, gram(frames, frames), truncate=2).tolist()
        [[0.0, 0.0, 0.0]]
    """

    def own(images: Array, zones: Zones, shared: tuple, _: Part) -> tuple[Array, None]:
        gram, truncate, valid_references = shared
        left = each_zone(lambda products: left_over(subspace(products, truncate), valid_references), gram.products)
        stars = Centred(flat(images), gram.reference_means, valid_references)

        def one(part: tuple[Array, Centred], inside: Array | None) -> Array:
            return scatter(part[0], part[1].values(inside))

        error = over_blocks(lambda b: (left[b.zone], stars.cut(b)), one, zones, stars.frames.shape)
        return error.reshape(images.shape[1:]), None

    return by_pixels(zone_by_zone(own), (references, zones), (gram, truncate, valid_references))[0]


def modes(
    references: Float[Array, "k y x"],
    gram: Gram,
    *,
    truncate: Int[Array, ""] | int,
    zones: Bool[Array, "z y x"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
) -> Float[Array, "z k y x"]:
    r"""Images of the Karhunen-Loeve modes, $Z = \Lambda_K^{-1/2} V_K^T (r - \bar r)$.

    Args:
        references: reference frames.
        gram: their inner products over all pixels.
        truncate: modes kept, as in `klip_weights`.
        zones: pixels of each zone, one in several belongs to the last; by default one zone of all pixels.
        valid_references: false for padding.

    Returns:
        Orthonormal images of zero mean, largest eigenvalue first, each with the sign that makes its largest
        deviation positive; zero beyond the modes kept and outside the zone. The derivative of a single mode divides
        by its distance to every other eigenvalue.

    Example:
        >>> from coronjax.ops.gram import gram
        >>> frames = jnp.array([[[-2.0, 2.0]]])
        >>> modes(frames, gram(frames, frames), truncate=1).shape
        (1, 1, 1, 2)
    """

    def own(images: Array, zones: Zones, shared: tuple, part: Part) -> tuple[Array, None]:
        gram, truncate, valid_references = shared
        mixing = each_zone(lambda products: _mixing(subspace(products, truncate)), gram.products)
        stars = Centred(flat(images), gram.reference_means, valid_references)
        n_pixels = stars.frames.shape[1]

        def one(given: tuple[Array, Centred], inside: Array | None) -> Array:
            return times(given[0], given[1].values(inside))

        together = over_blocks(lambda b: (mixing[b.zone], stars.cut(b)), one, zones, stars.frames.shape, outside=0.0)

        def signed(zone: Array) -> Array:
            inside = zones.whole(zone, n_pixels).inside
            found = together if inside is None else jnp.where(inside, together, 0)
            highest, lowest = (part.largest(jnp.max(sign * found, axis=1)) for sign in (1, -1))
            return jnp.where((lowest > highest)[:, None], -found, found)

        found = each_zone(signed, jnp.arange(zones.count))
        return found.reshape(*found.shape[:2], *images.shape[1:]), None

    return by_pixels(zone_by_zone(own), (references, zones), (gram, truncate, valid_references))[0]


def _mixing(space: Subspace) -> Array:
    """The references' part in each mode, [mode reference]."""
    values = jnp.where(space.kept, eigenvalues(space.spectrum), 1)
    vectors = eigenvectors(space.spectrum, space.tolerance)
    return jnp.where(space.kept, 1 / jnp.sqrt(values), 0)[:, None] * vectors.T


def first_left(space: Subspace) -> Float[Array, " k"]:
    """What the modes that are not kept have of the first reference: all of it where none is kept."""
    first = jnp.eye(len(space.usable), 1, dtype=space.spectrum.values.dtype)
    return spectral_times(space.spectrum, ~space.kept, first, function="projector", tolerance=space.tolerance)[:, 0]


def left_over(space: Subspace, valid: Array | None, mode: CommonMode | None = None) -> Array:
    """What takes centred references, or those in the mirror, to their own residuals over the root of their number.

    It projects on the dropped modes, so that nothing cancels. The mean over the references is removed from this small
    matrix, not from the images.
    """
    n, dtype = len(space.usable), space.spectrum.values.dtype
    count = n if valid is None else jnp.maximum(jnp.sum(valid), 1)
    counted = jnp.ones(n, dtype) if valid is None else valid.astype(dtype)
    select = counted[:, None] * (jnp.eye(n, dtype=dtype) - counted[None, :] / count)
    if mode is not None:
        select = mode.reflected(select.T).T
    if len(space.kept) < n:  # of the dropped modes most are unknown: what the kept ones leave
        held = spectral_times(space.spectrum, space.kept, select.T, function="projector", tolerance=0.0)
        return (select - held.T) / jnp.sqrt(jnp.asarray(count, dtype))
    # What has no variance is left over too, but counts only where something else is: otherwise nothing is left.
    dropped = ~space.kept & jnp.any(~space.kept & (space.spectrum.values > space.tolerance))
    rest = spectral_times(space.spectrum, dropped, select.T, function="projector", tolerance=space.tolerance)
    return rest.T / jnp.sqrt(jnp.asarray(count, dtype))


def scatter(left: Array, centred: Array) -> Array:
    """Scatter over the references of their own residuals, from `left_over` and centred references."""
    return root(jnp.sum(times(left, centred) ** 2, axis=0))
