"""Images of a star behind a coronagraph mask with their slopes, fast enough to be fitted: numpy, no compilation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..simulate.optics import Coronagraph

_GRID = np.array([-0.5, 0.5]) / np.sqrt(3)  # Gauss-Legendre nodes across a pixel
_DIAMETER = 6.5  # metres, of the telescope
_WIDTH = 6.6  # metres: what a cycle across the pupil is a cycle of
REACH = 8  # cycles across the pupil: wavefront errors up to here are fitted


@dataclass(frozen=True, eq=False)
class Slopes:
    """An image and what it changes by."""

    image: np.ndarray  # [y x] share of the star's light in each pixel
    source: np.ndarray  # [2 y x] per pixel that the star moves behind the mask
    mask: np.ndarray  # [2 y x] per pixel that mask and star move together
    field: np.ndarray  # [y x] amplitude in the pixels' middles at the middle wavelength


class StarModel:
    r"""A coronagraph's images on a square of the detector.

    The star's place behind the mask changes the field before the mask, that of the mask the field after the stop:

    $$ E(p) = \mathcal{F}_{p - c} \left[ L \cdot \mathcal{M}(A \, e^{2\pi i (W + x \cdot s) / \lambda}) \right] $$
    """

    def __init__(self, coronagraph: Coronagraph, size: int) -> None:
        from ..simulate.optics import ARCSEC
        from ..simulate.pupil import CELL, coordinates

        self.coronagraph, self.size = coronagraph, size
        self.x = coordinates()  # metres
        self.pixel = coronagraph.mode.pixel_scale * ARCSEC  # radians
        self.cell = CELL
        self.middle = len(coronagraph.wavelengths) // 2
        self.light = float((coronagraph.pupil.aperture**2).sum())
        self.aperture, self.stop = (a.astype(np.float32) for a in (coronagraph.pupil.aperture, coronagraph.stop))
        self.waves: dict[tuple[float, int], np.ndarray] = {}

    def _to_detector(self, wavelength: float, centre: np.ndarray, nodes: np.ndarray) -> list[np.ndarray]:
        """Waves over the stop of each place on the detector along x, and along y: [place stop], complex64."""
        wave = 2j * np.pi * self.pixel / wavelength
        if (wavelength, len(nodes)) not in self.waves:
            places = (np.arange(self.size)[:, None] + nodes).ravel()
            self.waves[wavelength, len(nodes)] = np.exp(-wave * np.outer(places, self.x)).astype(np.complex64)
        return [self.waves[wavelength, len(nodes)] * np.exp(wave * c * self.x).astype(np.complex64) for c in centre]

    def slopes(self, wavefront: np.ndarray, source: np.ndarray, centre: np.ndarray) -> Slopes:
        """Image and slopes; those at the middle wavelength, in the pixels' middles.

        Args:
            wavefront: error over the pupil, [y x], metres.
            source: the star's place from the mask's centre, (x, y), pixels.
            centre: of the mask on the square, (x, y), 0-based pixels.

        Returns:
            `Slopes`.
        """
        from ..simulate.optics import in_pixels

        c, n = self.coronagraph, self.size
        image, slopes, field = np.zeros((n, n)), np.zeros((4, n, n)), np.zeros((n, n), complex)
        tilt = self.pixel * (source[0] * self.x[None, :] + source[1] * self.x[:, None])
        for i, (wavelength, weight) in enumerate(zip(c.wavelengths.tolist(), c.weights.tolist(), strict=True)):
            phase = (2 * np.pi / wavelength * (wavefront + tilt)).astype(np.float32)
            light = np.empty(phase.shape, np.complex64)
            light.real, light.imag = self.aperture * np.cos(phase), self.aperture * np.sin(phase)
            stopped = self._stopped(light, wavelength)
            in_x, in_y = self._to_detector(wavelength, centre, _GRID)
            share = (self.cell * self.pixel / wavelength) ** 2 / self.light
            focal = _between(in_y, stopped, in_x)
            image += weight * share * in_pixels(focal.real**2 + focal.imag**2)
            if i == self.middle:
                slope = (2j * np.pi / wavelength * self.pixel * self.x).astype(np.complex64)
                parts = [
                    self._stopped(light * slope[None, :], wavelength),
                    self._stopped(light * slope[:, None], wavelength),
                ]
                parts += [stopped * slope[None, :], stopped * slope[:, None]]
                field = in_pixels(focal)
                in_x, in_y = self._to_detector(wavelength, centre, np.zeros(1))
                slopes = 2 * share * np.stack([(field.conj() * _between(in_y, part, in_x)).real for part in parts])
        return Slopes(image, slopes[:2], slopes[2:], field)

    def _stopped(self, field: np.ndarray, wavelength: float) -> np.ndarray:
        """The field behind the Lyot stop."""
        from ..simulate.optics import behind_mask

        c = self.coronagraph
        return np.asarray(self.stop * behind_mask(c.mode, c.filter, field, wavelength))

    def wavefront_fields(self, centre: np.ndarray) -> np.ndarray:
        """Change of the field per metre of each wavefront mode, at the middle wavelength, scaled as the image is.

        Args:
            centre: of the mask on the square, (x, y), 0-based pixels.

        Returns:
            [mode y x] complex; twice the real part of its product with the conjugate field is the image's slope.
        """
        c = self.coronagraph
        wavelength = float(c.wavelengths[self.middle])
        in_x, in_y = self._to_detector(wavelength, centre, np.zeros(1))
        return np.asarray(self.share * (in_y @ _behind_stop(c.mode.name, c.filter.name) @ in_x.T))

    @property
    def share(self) -> float:
        """Share of the star's light in a pixel for a field of 1 there, at the middle wavelength."""
        wavelength = float(self.coronagraph.wavelengths[self.middle])
        return float((self.cell * self.pixel / wavelength) ** 2 / self.light)

    @property
    def resolution(self) -> float:
        """Wavelength over the telescope's diameter, pixels."""
        return float(self.coronagraph.filter.wavelength / _DIAMETER / self.pixel)


def _between(in_y: np.ndarray, field: np.ndarray, in_x: np.ndarray) -> np.ndarray:
    """From the stop to the detector, in single precision: its rounding is far below what the model misses."""
    return np.asarray((in_y @ field.astype(np.complex64) @ in_x.T).astype(complex))


def wavefront_modes() -> tuple[np.ndarray, np.ndarray]:
    """Sines and cosines over the pupil: no piston, tip or tilt.

    Returns:
        The modes [mode y x], of unit rms over the aperture; and the cycles across the pupil of each.
    """
    return _modes(REACH)


@lru_cache(maxsize=2)
def _modes(reach: int) -> tuple[np.ndarray, np.ndarray]:
    from ..simulate.pupil import coordinates, make_pupil

    x, aperture = coordinates(), make_pupil().aperture.astype(np.float32).ravel()
    waves = np.exp(2j * np.pi / _WIDTH * np.outer(np.arange(-reach, reach + 1), x)).astype(np.complex64)
    orders = [(i, j) for i in range(-reach, reach + 1) for j in range(reach + 1) if (j > 0 or i > 0)]
    orders = [(i, j) for i, j in orders if np.hypot(i, j) <= reach]
    both = np.array([np.multiply.outer(waves[j + reach], waves[i + reach]).ravel() for i, j in orders])
    stack = np.concatenate([both.real, both.imag])
    ones = np.ones((len(x), len(x)), np.float32)
    flat = np.stack([ones, x[None, :] * ones, x[:, None] * ones]).reshape(3, -1).astype(np.float32)
    weight = aperture / aperture.sum()
    stack -= np.linalg.solve((flat * weight) @ flat.T, (flat * weight) @ stack.T).T.astype(np.float32) @ flat
    stack /= np.sqrt(stack**2 @ weight)[:, None]
    return stack.reshape(-1, len(x), len(x)), np.hypot(*np.array(2 * orders).T)


@lru_cache(maxsize=2)
def _behind_stop(mode: str, filter: str) -> np.ndarray:
    """Field behind the Lyot stop per metre of each wavefront mode, [mode y x] complex64."""
    from ..simulate.optics import behind_mask, make_coronagraph

    c = make_coronagraph(mode, filter)
    wavelength = float(c.wavelengths[len(c.wavelengths) // 2])
    light = (2j * np.pi / wavelength * c.pupil.aperture).astype(np.complex64)
    stop = c.stop.astype(np.float32)
    fields = [stop * behind_mask(c.mode, c.filter, light * m, wavelength) for m in wavefront_modes()[0]]
    return np.array(fields, np.complex64)
