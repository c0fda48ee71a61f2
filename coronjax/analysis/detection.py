"""Measure a point source in an image: its signal-to-noise ratio and its position, with gradients in the image."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

COVERED = 0.5  # an aperture counts when at least this share of it holds finite pixels
ITERATIONS = 20  # of the position; five are usual


class Detection(eqx.Module):
    """An aperture's flux against that of its equals at the same separation."""

    snr: Float[Array, ""]  # flux over noise; 0 where there is no noise to compare with
    flux: Float[Array, ""]  # above the mean of the other apertures, in image units times pixels
    noise: Float[Array, ""]  # standard deviation of one aperture, corrected for their small number
    n_apertures: Int[Array, ""]  # that the noise is taken from; fewer than 2 give no noise


class Position(eqx.Module):
    """A Gaussian fitted to a source."""

    position: Float[Array, " 2"]  # (x, y), pixels; the guess where nothing was found
    amplitude: Float[Array, ""]  # height of the peak, image units
    background: Float[Array, ""]  # image units
    converged: Bool[Array, ""]  # the last step was below a thousandth of a pixel, within a fwhm of the guess


def signal_to_noise(
    image: Float[Array, "y x"],
    position: Float[Array, " 2"],
    star: Float[Array, " 2"],
    *,
    fwhm: float | Float[Array, ""],
    exclude: int | Int[Array, ""] = 0,
) -> Detection:
    r"""Signal-to-noise ratio of a point source, from apertures at the same distance from the star.

    $$ \mathrm{S/N} = \frac{f_1 - \bar f}{s \sqrt{1 + 1/n}}, \qquad
       \bar f = \frac1n \sum_{k=2}^{n+1} f_k, \quad s^2 = \frac{1}{n-1} \sum_{k=2}^{n+1} (f_k - \bar f)^2 $$

    As many apertures of diameter `fwhm` as fit without overlap stand evenly on the circle through `position`; their
    edges are soft over one pixel. An aperture of which half or more is missing does not count, the missing part of
    others is taken to be like the rest of them. Under noise alone S/N follows Student's t with $n-1$ degrees of
    freedom.

    Args:
        image: surface brightness; NaN is missing.
        position: (x, y) of the source, pixels.
        star: (x, y) of the star, pixels.
        fwhm: width of a point source, pixels, at least 1. Traced.
        exclude: apertures on either side of the source that do not count, since its own wings lie there. Traced.

    Returns:
        `Detection`, differentiable in `image`. Without two other apertures, or without noise, `snr` is 0.

    Raises:
        ValueError: `image` is not two-dimensional.

    Example:
        >>> image = jax.random.normal(jax.random.key(0), (64, 64)).at[20, 44].add(50.0)
        >>> bool(signal_to_noise(image, jnp.array([44.0, 20.0]), jnp.array([32.0, 32.0]), fwhm=3.0).snr > 5)
        True

    Source: Mawet et al. 2014, ApJ 792, 97.
    """
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}, not [y, x]")
    good = jnp.isfinite(image)
    values = jnp.where(good, image, 0)
    y, x = (axis.astype(values.dtype) for axis in jnp.indices(image.shape))
    radius = jnp.hypot(position[0] - star[0], position[1] - star[1])
    first = jnp.arctan2(position[1] - star[1], position[0] - star[0])
    half = jnp.arcsin(jnp.clip(fwhm / (2 * jnp.maximum(radius, 1e-6)), 0, 1))  # angle that half an aperture spans
    count = jnp.floor(jnp.pi / half + 1e-6)
    # apertures do not overlap, so every pixel belongs to the nearest one alone
    turn = jnp.mod(jnp.arctan2(y - star[1], x - star[0]) - first, 2 * jnp.pi)
    nearest = jnp.mod(jnp.round(turn * count / (2 * jnp.pi)), count)
    angle = first + 2 * jnp.pi * nearest / count
    centre_x, centre_y = star[0] + radius * jnp.cos(angle), star[1] + radius * jnp.sin(angle)
    weight = jnp.clip(fwhm / 2 + 0.5 - jnp.hypot(x - centre_x, y - centre_y), 0, 1)
    most = 8 * sum(image.shape)  # more than there can be within the image where fwhm is a pixel or more
    index = nearest.astype(int)

    def total(pixels: Array) -> Array:
        return jax.ops.segment_sum(pixels.ravel(), index.ravel(), most)

    area = jnp.pi * fwhm**2 / 4
    covered = total(weight * good)
    counts = covered > COVERED * area
    places = jnp.arange(most)
    beside = (places > 0) & ((places <= exclude) | (places >= count - exclude))
    flux = total(weight * values) * jnp.where(counts, area / jnp.where(counts, covered, 1), 0)
    return _compare(flux[0], counts[0], flux[1:], (counts & ~beside)[1:])


def _compare(signal: Array, present: Array, others: Array, counts: Array) -> Detection:
    """One flux against the others that count."""
    n = counts.sum()
    enough = present & (n >= 2)
    mean = jnp.where(counts, others, 0).sum() / jnp.maximum(n, 1)
    variance = jnp.where(counts, (others - mean) ** 2, 0).sum() / jnp.maximum(n - 1, 1)
    known = enough & (variance > 0)
    noise = jnp.sqrt(jnp.where(known, variance, 1) * (1 + 1 / jnp.maximum(n, 1)))
    flux = jnp.where(present, signal - mean, 0)
    return Detection(jnp.where(known, flux / noise, 0), flux, jnp.where(known, noise, 0), n)


def refine_position(
    image: Float[Array, "y x"],
    guess: Float[Array, " 2"],
    *,
    fwhm: float | Float[Array, ""],
) -> Position:
    r"""Find the centre of a point source near a first guess, by a Gaussian fitted with Gaussian weight.

    $$ \min_{x, y, a, b} \sum_i G_i \left[ d_i - a G_i - b \right]^2, \qquad
       G_i = \exp\left( -4 \ln 2\, |r_i - (x, y)|^2 / \mathrm{fwhm}^2 \right) $$

    by Gauss-Newton steps of at most a quarter of `fwhm`; the weight moves along. Being weighted by its own core the
    position hardly depends on wings, neighbours or the true width, and has no bias for a symmetric source.

    Args:
        image: surface brightness; NaN is missing.
        guess: (x, y), pixels, within about half a `fwhm`.
        fwhm: width of the Gaussian, pixels. Traced.

    Returns:
        `Position`. Differentiable in `image`, through the iterations.

    Raises:
        ValueError: `image` is not two-dimensional.

    Example:
        >>> y, x = jnp.indices((32, 32))
        >>> image = 5 * jnp.exp(-((x - 15.3) ** 2 + (y - 16.8) ** 2) / 4)
        >>> [round(v, 2) for v in refine_position(image, jnp.array([15.0, 16.0]), fwhm=3.3).position.tolist()]
        [15.3, 16.8]

    Source: Gauss-Newton least squares of a Gaussian; Anderson & King 2000, PASP 112, 1360, on core-weighted positions.
    """
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}, not [y, x]")
    good = jnp.isfinite(image)
    values = jnp.where(good, image, 0)
    y, x = (axis.astype(values.dtype) for axis in jnp.indices(image.shape))
    sharpness = 4 * jnp.log(2.0) / fwhm**2
    start = jnp.asarray(guess, values.dtype)

    def iterate(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        centre = state[0]
        dx, dy = x - centre[0], y - centre[1]
        shape = jnp.exp(-sharpness * (dx**2 + dy**2))
        # the source is linear in (a, b, a x, a y) to first order about the present centre
        basis = jnp.stack([shape, jnp.ones_like(shape), 2 * sharpness * dx * shape, 2 * sharpness * dy * shape])
        weighted = basis * (shape * good)
        normal = jnp.einsum("iyx,jyx->ij", weighted, basis, precision="highest")
        solution, enough = _solve(normal, jnp.einsum("iyx,yx->i", weighted, values, precision="highest"))
        amplitude = solution[0]
        found = enough & (amplitude > 0)
        step = jnp.where(found, solution[2:] / jnp.where(found, amplitude, 1), 0)
        step = jnp.clip(step, -fwhm / 4, fwhm / 4)
        size = jnp.where(found, jnp.max(jnp.abs(step)), jnp.inf)
        return (centre + step, jnp.where(found, solution[:2], 0), size), None

    state = (start, jnp.zeros(2, values.dtype), jnp.array(jnp.inf, values.dtype))
    (centre, linear, size), _ = jax.lax.scan(iterate, state, None, ITERATIONS)
    converged = (size < 1e-3) & (jnp.hypot(*(centre - start)) < fwhm)
    return Position(jnp.where(converged, centre, start), linear[0], linear[1], converged)


def _solve(matrix: Array, vector: Array) -> tuple[Array, Array]:
    """A small symmetric system, and whether it has one solution; where it has not, zero."""
    scale = jnp.sqrt(jnp.where(jnp.diagonal(matrix) > 0, jnp.diagonal(matrix), 1))
    unit = matrix / (scale[:, None] * scale)
    enough = (jnp.diagonal(matrix) > 0).all() & (jnp.linalg.det(unit) > 1e-6)
    safe = jnp.where(enough, unit, jnp.eye(len(vector), dtype=matrix.dtype))
    return jnp.where(enough, jnp.linalg.solve(safe, vector / scale) / scale, 0), enough
