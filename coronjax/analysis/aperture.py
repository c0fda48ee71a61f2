"""The flux in a circular aperture of a sky image, and its error with the correlation that drizzle makes."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..ops import APERTURE_RADII, aperture_mask
from ..ops._root import root


def aperture_sum(
    image: Float[Array, "y x"], position: Float[Array, " 2"], *, radius: float | Float[Array, ""]
) -> Float[Array, ""]:
    """Sum an image inside a circle, pixels on its rim by the part of them that lies inside.

    Args:
        image: surface brightness; NaN is missing, and taken to be like the mean of what is there.
        position: (x, y) of the centre, pixels.
        radius: pixels, above 0. Traced.

    Returns:
        Image units times pixels; 0 where nothing is there.

    Example:
        >>> round(float(aperture_sum(jnp.ones((20, 20)), jnp.array([9.3, 10.1]), radius=2.0)), 4)
        12.5664
    """
    good = jnp.isfinite(image)
    mask = jnp.where(good, aperture_mask(image.shape, jnp.asarray(position, image.dtype), radius), 0)
    return jnp.sum(mask * jnp.where(good, image, 0)) * _missing(mask, radius)


def aperture_error(
    variance: Float[Array, "y x"],
    position: Float[Array, " 2"],
    *,
    radius: float | Float[Array, ""],
    correlation: float | Float[Array, ""] = 1.0,
    speckles: Float[Array, "y x"] | None = None,
    resolution: float | Float[Array, ""] = jnp.inf,
) -> Float[Array, ""]:
    r"""Standard deviation of `aperture_sum`.

    $$ \sigma^2 = c^2 \sum_o m_o V_o + \sum_{oo'} m_o m_{o'} \sqrt{S_o S_{o'}} \; 2^{-4 d_{oo'}^2 / f^2} $$

    Detector noise and that of the references are correlated by drizzle, hence the factor $c$. That of speckles falls
    with their distance $d$ like a Gaussian: roots add up within a resolution element, squares beyond it.

    Args:
        variance: of independent noise, (image units)^2: ERR squared less VAR_SPECKLES. NaN is missing.
        position: (x, y) of the centre, pixels.
        radius: pixels, above 0. Traced.
        correlation: factor for this radius, from `correlation_at`.
        speckles: variance of residual speckles, VAR_SPECKLES; by default there are none. NaN is missing.
        resolution: FWHM of the speckles' correlation, $\lambda / D$, pixels; by default the whole aperture is one
            speckle, which is the most it can be.

    Returns:
        Image units times pixels; 0 where nothing is there, NaN where the factor is.

    Example:
        >>> ones, centre = jnp.ones((20, 20)), jnp.array([9.3, 10.1])
        >>> round(float(aperture_error(ones, centre, radius=2.0, correlation=1.2) ** 2 / (1.44 * 4 * jnp.pi)), 4)
        1.0
    """
    good = jnp.isfinite(variance)
    mask = jnp.where(good, aperture_mask(variance.shape, jnp.asarray(position, variance.dtype), radius), 0)
    factor = _missing(mask, radius)
    total = jnp.asarray(correlation) ** 2 * jnp.sum(mask * jnp.where(good, variance, 0)) * factor
    if speckles is not None:
        known = good & jnp.isfinite(speckles)
        spread = mask * root(jnp.where(known, speckles, 0))
        rows, columns = (_correlation(n, resolution, spread.dtype) for n in spread.shape)
        smooth = jnp.matmul(jnp.matmul(rows, spread, precision="highest"), columns, precision="highest")
        total += jnp.sum(spread * smooth) * factor**2
    return root(total)


def correlation_at(
    radius: float | Float[Array, ""],
    factors: Float[Array, " radius"],
    radii: tuple[float, ...] = APERTURE_RADII,
) -> Float[Array, ""]:
    """Interpolate the factors that a sky image comes with to an aperture of any radius.

    Args:
        radius: of the aperture, output pixels.
        factors: `Resampled.correlation`, or ERRCOR10, ERRCOR25 and ERRCOR40 of the file.
        radii: what they hold for, output pixels.

    Returns:
        The factor, linear between radii, 1 at 0 (ERR is right for a single pixel), constant beyond the largest.

    Example:
        >>> round(float(correlation_at(1.75, jnp.array([1.0, 1.4, 1.5]))), 3)
        1.2
    """
    return jnp.interp(jnp.asarray(radius, float), jnp.array([0.0, *radii]), jnp.append(1.0, jnp.asarray(factors)))


def _missing(mask: Float[Array, "y x"], radius: float | Float[Array, ""]) -> Float[Array, ""]:
    """The area of the circle over the part of it that is there; 0 where none is."""
    covered = jnp.sum(mask)
    return jnp.where(covered > 0, jnp.pi * radius**2 / jnp.where(covered > 0, covered, 1), 0)


def _correlation(length: int, fwhm: float | Float[Array, ""], dtype: jnp.dtype) -> Float[Array, "n n"]:
    """Correlation of pixels along one axis."""
    along = jnp.arange(length, dtype=dtype)
    return 2.0 ** (-4 * ((along[:, None] - along) / fwhm) ** 2)
