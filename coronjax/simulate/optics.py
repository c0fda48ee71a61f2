"""A scalar Lyot coronagraph: from wavefront and source position to the image on the detector.

Every kind of mask is applied by the operator that represents it without truncation or aliasing: smooth masks, whose
Fourier transform is compact, on a padded grid; a hard spot by matrix Fourier transforms of its small square alone; four
quadrants by two Hilbert transforms of the pupil. Arrays of numpy give numpy in float64; arrays of JAX give JAX, and
derivatives in wavefront, source and position.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.special

from .modes import Filter, Mode, find_mode
from .pupil import CELL, CELLS, Array, Pupil, coordinates, make_pupil

ARCSEC = np.pi / 180 / 3600
PADDED = 256  # cells: the pupil and the reach of every smooth mask's kernel
SPOT_CELLS = 96  # across a hard spot


@dataclass(frozen=True, eq=False)
class Coronagraph:
    """A mode's coronagraph in one filter."""

    mode: Mode
    filter: Filter
    pupil: Pupil
    stop: Array  # [y x] the Lyot stop: 1 open, 0 closed
    wavelengths: Array  # [node] metres
    weights: Array  # [node] of the wavelengths, sum 1

    @property
    def throughput(self) -> float:
        """Share of the light on the telescope that passes the Lyot stop, without a mask."""
        return float(((self.stop * self.pupil.aperture) ** 2).sum() / (self.pupil.aperture**2).sum())


def _namespace(*arrays: Any) -> ModuleType:
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np


def _somb(x: Array) -> Array:
    """2 J1(x) / x."""
    away = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, 2 * scipy.special.j1(away) / away)


def mask_amplitude(mode: Mode, filter: Filter, x: Array, y: Array) -> Array:
    r"""Amplitude transmission of a coronagraph mask.

    $$ T_\mathrm{round} = 1 - \left( \frac{2 J_1(\sigma r)}{\sigma r} \right)^2, \quad
       T_\mathrm{bar} = 1 - \left( \frac{\sin \sigma y}{\sigma y} \right)^2, \quad
       T_\mathrm{spot} = [r > R], \quad T_\mathrm{quadrants} = \mathrm{sgn}(x y) $$

    Args:
        mode: whose mask.
        filter: which decides the mask's size.
        x: position from the mask's centre along the detector's axes, arcsec.
        y: the same in y.

    Returns:
        The transmission, of the shape that x and y share.

    Example:
        >>> mode, filter = find_mode("nircam")
        >>> float(mask_amplitude(mode, filter, np.array(0.63), np.array(0.0)).round(2))  # half in intensity
        0.71

    Source: Krist et al. 2009, Proc. SPIE 7440; Boccaletti et al. 2015, PASP 127, 633.
    """
    if mode.mask == "round":
        return 1 - _somb(2.1001 / filter.mask_size * np.hypot(x, y)) ** 2
    if mode.mask == "bar":  # a wedge
        width = filter.mask_size * np.clip(1 + x / 20, 0.4, 1.6)
        return 1 - np.sinc(1.7996 / width * y / np.pi) ** 2 + 0 * x
    if mode.mask == "spot":
        return np.where(np.hypot(x, y) > filter.mask_size, 1.0, 0.0)
    return np.sign(x * y)


@lru_cache(maxsize=64)
def _smooth_mask(mode_name: str, filter_name: str, wavelength: float) -> Array:
    mode, filter = find_mode(mode_name, filter_name)
    angle = np.fft.fftfreq(PADDED, CELL) * wavelength / ARCSEC
    return mask_amplitude(mode, filter, angle[None, :], angle[:, None])


@lru_cache(maxsize=64)
def _spot(size: float, wavelength: float) -> tuple[Array, Array]:
    """Where a hard spot blocks (with grey edges) and the matrix from the pupil to its square of the focal plane."""
    step = 2 * size * 1.02 / SPOT_CELLS
    angle = (np.arange(SPOT_CELLS) - (SPOT_CELLS - 1) / 2) * step
    blocked = np.clip(0.5 + (size - np.hypot(angle[None, :], angle[:, None])) / step, 0, 1)
    matrix = np.exp(-2j * np.pi * np.outer(angle * ARCSEC, coordinates()) / wavelength)
    return blocked * (step * ARCSEC * CELL / wavelength) ** 2, matrix


@lru_cache(maxsize=1)
def _hilbert() -> Array:
    distance = np.subtract.outer(np.arange(CELLS), np.arange(CELLS)).astype(float)
    return np.log(np.abs((distance + 0.5) / (distance - 0.5))) / np.pi


def behind_mask(mode: Mode, filter: Filter, field: Any, wavelength: float) -> Any:
    """The field in the plane of the Lyot stop, before the stop.

    Args:
        mode: whose mask.
        filter: which decides the mask's size.
        field: in the pupil, [y x] complex.
        wavelength: metres.

    Returns:
        [y x] complex.
    """
    if mode.mask == "quadrants":
        hilbert = _hilbert()
        return -(hilbert @ field @ hilbert.T)
    if mode.mask == "spot":
        blocked, matrix = _spot(filter.mask_size, wavelength)
        return field - matrix.conj().T @ (blocked * (matrix @ field @ matrix.T)) @ matrix.conj()
    mask = _smooth_mask(mode.name, filter.name, wavelength).astype(field.real.dtype)
    fft = jnp.fft if isinstance(field, jax.Array) else scipy.fft  # numpy's takes four times as long
    return fft.ifft2(fft.fft2(field, (PADDED, PADDED)) * mask)[:CELLS, :CELLS]


def _stop(mode: Mode, filter: Filter, aperture: Array) -> Array:
    """A stop that opens where the residual light of a perfect star is faintest, a wide one rather at the edge."""
    residual = np.abs(behind_mask(mode, filter, aperture.astype(complex), filter.wavelength))
    residual = np.where(aperture > 0.99, residual, np.inf)
    if filter.wide_stop:
        residual = residual / np.hypot(coordinates()[None, :], coordinates()[:, None]) ** 4
    count = round((0.5 if filter.wide_stop else mode.stop) * aperture.sum())
    return np.where(residual <= np.partition(residual.ravel(), count)[count], 1.0, 0.0)


@lru_cache(maxsize=8)
def make_coronagraph(mode: str, filter: str | None = None) -> Coronagraph:
    """Set up a mode's coronagraph.

    Args:
        mode: `"nircam"`, `"nircam_bar"`, `"miri_4qpm"` or `"miri_lyot"`.
        filter: one of the mode's filters.

    Returns:
        `Coronagraph`.

    Raises:
        OptionsError: there is no such mode or filter.

    Example:
        >>> round(make_coronagraph("nircam").throughput, 1)
        0.3
    """
    of, chosen = find_mode(mode, filter)
    pupil = make_pupil(of.pupil_angle)
    nodes, weights = np.polynomial.legendre.leggauss(chosen.nodes)
    wavelengths = chosen.wavelength * (1 + chosen.width / 2 * nodes)
    return Coronagraph(of, chosen, pupil, _stop(of, chosen, pupil.aperture), wavelengths, weights / 2)


@lru_cache(maxsize=64)
def _to_detector(wavelength: float, scale: float, centre: float, size: int) -> Array:
    """The matrix from the pupil to two points in every pixel: with two Gauss-Legendre nodes an integral over it."""
    nodes = (np.arange(size)[:, None] + np.array([-0.5, 0.5]) / np.sqrt(3)).ravel()
    angle = (nodes - centre) * scale * ARCSEC
    return np.asarray(np.exp(-2j * np.pi * np.outer(angle, coordinates()) / wavelength))


def in_pixels(nodes: Any) -> Any:
    """Means over the two nodes across a pixel, along both axes; numpy's `mean` of so short axes is slow.

    Args:
        nodes: [2y 2x], two for each pixel along each axis.

    Returns:
        [y x].

    Example:
        >>> in_pixels(np.arange(8.0).reshape(2, 4)).tolist()
        [[2.5, 4.5]]
    """
    rows = nodes[0::2] + nodes[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) / 4


def psf(
    coronagraph: Coronagraph,
    wavefront: Any,
    source: Any,
    centre: tuple[float, float],
    shape: tuple[int, int],
    *,
    masked: bool = True,
) -> Any:
    r"""Image of a point source anywhere behind the mask, which stays where it is on the detector.

    $$ I(p) = \sum_\lambda w_\lambda \int_p \left| \mathcal{F}\left[ L \cdot \mathcal{M}
       \left( A \, e^{2\pi i (W + x \cdot s) / \lambda} \right) \right] \right|^2 $$

    Args:
        coronagraph: from `make_coronagraph`.
        wavefront: its error W over the pupil, [y x], metres.
        source: position s of the source from the mask's centre, (x, y) along the detector's axes, arcsec.
        centre: position (x, y) of the mask's centre on the detector, 0-based pixels.
        shape: of the image, (ny, nx).
        masked: false takes the mask out and leaves the Lyot stop in.

    Returns:
        The share of the light on the telescope that falls on each pixel, [y x]. With a JAX array for `wavefront` or
        `source` it is a JAX array, differentiable in both.

    Example:
        >>> image = psf(make_coronagraph("nircam"), np.zeros((192, 192)), (1.26, 0.0), (20.0, 31.0), (64, 64))
        >>> [int(i) for i in np.unravel_index(image.argmax(), image.shape)]
        [31, 40]

    Source: Soummer et al. 2007, Optics Express 15, 15935; Rouan et al. 2000, PASP 112, 1479.
    """
    mode, c = coronagraph.mode, coordinates()
    xp = _namespace(wavefront, *source)
    path = wavefront + (c[None, :] * source[0] + c[:, None] * source[1]) * ARCSEC
    image = xp.zeros(shape)
    for wavelength, weight in zip(coronagraph.wavelengths.tolist(), coronagraph.weights.tolist(), strict=True):
        field = coronagraph.pupil.aperture * xp.exp(2j * np.pi / wavelength * path)
        if masked:
            field = behind_mask(mode, coronagraph.filter, field, wavelength)
        in_x = _to_detector(wavelength, mode.pixel_scale, centre[0], shape[1])
        in_y = _to_detector(wavelength, mode.pixel_scale, centre[1], shape[0])
        focal = in_y @ (coronagraph.stop * field) @ in_x.T
        intensity = in_pixels(focal.real**2 + focal.imag**2)
        image = image + weight * (CELL * mode.pixel_scale * ARCSEC / wavelength) ** 2 * intensity
    return image / (coronagraph.pupil.aperture**2).sum()
