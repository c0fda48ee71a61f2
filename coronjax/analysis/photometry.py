"""The flux of a companion in star-subtracted frames and its error, by a matched filter."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..ops import correlate_speckles
from ..ops._root import root

REACH = 1.5  # radius of the filter, in widths


class Flux(eqx.Module):
    """A flux, its error, and what the error is made of; in units of the template's."""

    value: Float[Array, "*exp"]
    error: Float[Array, "*exp"]  # root of the sum of the squares of the rest; inf: nothing was measured
    detector: Float[Array, "*exp"]  # averages down with the number of integrations
    references: Float[Array, "*exp"]  # shared by the integrations of an exposure
    speckles: Float[Array, "*exp"]  # likewise


def companion_flux(
    residuals: Float[Array, "int y x"],
    template: Float[Array, "y x"],
    position: Float[Array, " 2"],
    *,
    detector: Float[Array, "int y x"],
    references: Float[Array, "y x"],
    speckles: Float[Array, "y x"],
    fwhm: float | Float[Array, ""],
    good: Bool[Array, "int y x"] | None = None,
) -> Flux:
    r"""Measure a companion in an exposure from which the star was subtracted.

    $$ \hat f = \frac{q^T d}{q^T m}, \qquad q = \frac{m - \bar m}{v + r + s^2}, \qquad
       \sigma^2 = \frac{q^T (v + r) q + (q s)^T R \, (q s)}{(q^T m)^2} $$

    within 1.5 widths of the companion, $\bar m$ being the mean that leaves a constant level without effect. $d$ is the
    mean of the good integrations, $v$ its variance by the detector, $r$ that by the references, $s^2$ that of the
    speckles, and $R$ their correlation.

    Args:
        residuals: integrations of an exposure, the star subtracted, MJy/sr; NaN is missing.
        template: what a companion of unit flux at `position` leaves, MJy/sr: its image put through the same
            subtraction, `klip(image[None], references, ...).residual[0]` with the references, options and `fit` of
            the exposure.
        position: (x, y) of the companion, pixels.
        detector: variance of each integration by the detector, (MJy/sr)^2.
        references: variance by the noise of the references, `references_variance`, (MJy/sr)^2.
        speckles: variance of the residual speckles, `speckle_variance`, (MJy/sr)^2. Where it is infinite, the pixel is
            left out.
        fwhm: of the speckles' correlation, $\lambda / D$, pixels. Traced.
        good: pixels that may be used; by default all that are finite.

    Returns:
        `Flux`, differentiable in all arrays. Where nothing is good, value 0 with an infinite error.

    Example:
        >>> y, x = jnp.indices((32, 32)) - 15.0
        >>> image, nothing = jnp.exp(-(x**2 + y**2) / 3), jnp.zeros((32, 32))
        >>> flux = companion_flux(
        ...     5 * image[None] + 7, image, jnp.array([15.0, 15.0]), detector=jnp.ones((1, 32, 32)),
        ...     references=nothing, speckles=nothing, fwhm=2.9,
        ... )
        >>> round(float(flux.value), 3)
        5.0

    Source: matched filter with correlated noise, e.g. Ruffio et al. 2017, ApJ 842, 14.
    """
    usable = jnp.isfinite(residuals) & jnp.isfinite(detector)
    usable = usable if good is None else usable & good
    count = jnp.sum(usable, axis=0)
    many = jnp.maximum(count, 1)
    mean = jnp.sum(jnp.where(usable, residuals, 0), axis=0) / many
    own = jnp.sum(jnp.where(usable, detector, 0), axis=0) / many**2
    shared = jnp.where(jnp.isfinite(references), references, 0)
    deviation = root(jnp.where(jnp.isfinite(speckles), speckles, 0))
    y, x = (axis.astype(mean.dtype) for axis in jnp.indices(mean.shape))
    # The position says which pixels count; how the companion lies on them is the template's to say.
    position = jax.lax.stop_gradient(jnp.asarray(position, mean.dtype))
    reach = jnp.clip(REACH * fwhm + 0.5 - jnp.hypot(x - position[0], y - position[1]), 0, 1)
    total = own + shared + deviation**2
    taken = (count > 0) & jnp.isfinite(template) & (total > 0) & ~jnp.isinf(speckles)
    image = jnp.where(taken, template, 0)
    inverse = jnp.where(taken, reach / jnp.where(taken, total, 1), 0)
    weight = inverse * (image - _over(jnp.sum(inverse * image), jnp.sum(inverse)))
    norm = jnp.sum(weight * image)
    parts = (
        jnp.sum(weight**2 * own),
        jnp.sum(weight**2 * shared),
        jnp.sum(weight * deviation * correlate_speckles(weight * deviation, fwhm)),
    )
    error = [_over(root(part), norm, jnp.inf) for part in (parts[0] + parts[1] + parts[2], *parts)]
    return Flux(_over(jnp.sum(weight * mean), norm), *error)


def combine_fluxes(fluxes: Flux) -> Flux:
    r"""Combine the fluxes of exposures, as independent measurements.

    $$ f = \sigma^2 \sum_e f_e / \sigma_e^2, \qquad \sigma^{-2} = \sum_e \sigma_e^{-2} $$

    At another roll angle a companion lies on other speckles and on other pixels of the references.

    Args:
        fluxes: of the exposures, from `companion_flux` under `vmap` or stacked.

    Returns:
        `Flux` of all; exposures with an infinite error do not count.

    Example:
        >>> two = jnp.array([1.0, 1.0])
        >>> combine_fluxes(Flux(jnp.array([1.0, 3.0]), two, two, 0 * two, 0 * two)).value.item()
        2.0
    """
    known = jnp.isfinite(fluxes.error) & (fluxes.error > 0)
    weight = jnp.where(known, 1 / jnp.where(known, fluxes.error, 1) ** 2, 0)
    total = jnp.sum(weight)

    def together(errors: Array) -> Array:
        return _over(root(jnp.sum((weight * jnp.where(known, errors, 0)) ** 2)), total, jnp.inf)

    parts = (fluxes.error, fluxes.detector, fluxes.references, fluxes.speckles)
    return Flux(_over(jnp.sum(weight * jnp.where(known, fluxes.value, 0)), total), *(together(part) for part in parts))


def _over(above: Array, below: Array, otherwise: float = 0.0) -> Array:
    some = below > 0
    return jnp.where(some, above / jnp.where(some, below, 1), otherwise)
