"""The telescope's pupil, eighteen hexagonal segments behind struts, and the shapes its wavefront may take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 192  # of the pupil's array, per side
CELL = 0.035  # metres
PITCH = 1.323  # of the segments, metres
SEGMENT = 1.316  # flat to flat, metres
STRUTS = (90.0, 240.0, 300.0)  # direction from the centre, degrees from +x
STRUT_WIDTH = 0.1  # metres

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Pupil:
    """The aperture on a square grid of cells, and a basis of wavefront errors."""

    aperture: Array  # [y x] amplitude, 0 to 1
    angle: float  # of the pupil on the detector, degrees from +x towards +y

    @cached_property
    def basis(self) -> Array:
        """Wavefront errors [mode y x], each of unit rms over the whole aperture.

        Five modes for each segment (piston, tip, tilt, focus, astigmatism) and six for the whole pupil.
        """
        x, y = _turned(self.angle)
        modes = []
        for (cx, cy), segment in zip(segment_centres(), _segments(x, y), strict=True):
            u, v = (x - cx) / PITCH, (y - cy) / PITCH
            modes += [segment * shape for shape in (np.ones_like(u), u, v, u**2 + v**2 - 0.14, u**2 - v**2)]
        u, v = x / 3.3, y / 3.3
        r2 = u**2 + v**2
        modes += [2 * r2 - 1, u**2 - v**2, 2 * u * v, (3 * r2 - 2) * u, (3 * r2 - 2) * v, 6 * r2**2 - 6 * r2 + 1]
        weight, inside = self.aperture / self.aperture.sum(), self.aperture > 0
        basis = np.array(modes) * inside
        basis -= (basis * weight).sum((1, 2), keepdims=True) * inside
        return np.asarray(basis / np.sqrt((basis**2 * weight).sum((1, 2), keepdims=True)))


def coordinates() -> Array:
    """Centres of the pupil's cells along one axis, metres.

    Example:
        >>> coordinates().shape
        (192,)
    """
    return (np.arange(CELLS) - (CELLS - 1) / 2) * CELL


def segment_centres() -> Array:
    """Centres of the segments, metres, [segment 2].

    Example:
        >>> segment_centres().shape
        (18, 2)
    """
    ring = range(-2, 3)
    axial = [(q, r) for q in ring for r in ring if 1 <= max(abs(q), abs(r), abs(q + r)) <= 2]
    return np.array([(q * PITCH * np.sqrt(3) / 2, (r + q / 2) * PITCH) for q, r in axial])


def _cover(distance: Array) -> Array:
    """Share of a cell inside an edge at this signed distance (metres): grey edges without oversampling."""
    return np.clip(0.5 + distance / CELL, 0.0, 1.0)


def _hexagon(x: Array, y: Array, width: float) -> Array:
    """A hexagon about the origin, two of its flats across y."""
    tilted = np.abs(x) * np.sqrt(3) / 2 + np.abs(y) / 2
    return _cover(width / 2 - np.maximum(np.abs(y), tilted))


def _past_struts(x: Array, y: Array) -> Array:
    """Transmission past the struts that hold the secondary mirror."""
    transmission = np.ones_like(x)
    for angle in np.deg2rad(STRUTS):
        along, across = x * np.cos(angle) + y * np.sin(angle), x * np.sin(angle) - y * np.cos(angle)
        transmission *= 1 - _cover(STRUT_WIDTH / 2 - np.abs(across)) * (along > 0)
    return transmission


def _turned(angle: float) -> tuple[Array, Array]:
    """The cells' places on a pupil that lies at an angle on the detector, metres, [y x]."""
    c, turn = coordinates(), np.deg2rad(angle)
    x, y = np.meshgrid(c, c)
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _segments(x: Array, y: Array) -> list[Array]:
    return [_hexagon(x - cx, y - cy, SEGMENT) for cx, cy in segment_centres()]


@lru_cache(maxsize=4)
def make_pupil(angle: float = 0.0) -> Pupil:
    """Draw the telescope's pupil as a detector sees it.

    Args:
        angle: rotation of the pupil on the detector, degrees from +x towards +y.

    Returns:
        `Pupil`, of a little over 25 square metres.

    Example:
        >>> 25 < float(make_pupil().aperture.sum()) * CELL**2 < 27
        True
    """
    x, y = _turned(angle)
    return Pupil(np.sum(_segments(x, y), axis=0) * _past_struts(x, y), angle)


def phase_screen(rng: np.random.Generator, aperture: Array, slope: float = 2.5) -> Array:
    """Draw figure errors on every scale, down to a few centimetres.

    Args:
        rng: where the numbers come from.
        aperture: amplitude of the pupil, [y x].
        slope: the power spectrum falls as frequency to the minus this.

    Returns:
        A wavefront error of unit rms and zero mean over the aperture, [y x].

    Example:
        >>> phase_screen(np.random.default_rng(1), make_pupil().aperture).shape
        (192, 192)
    """
    f = np.fft.fftfreq(CELLS, CELL)
    frequency = np.hypot(f[:, None], f[None, :])
    # frequencies below one cycle per segment belong to the basis
    amplitude = np.where(frequency > 0.4, np.maximum(frequency, 0.4) ** (-slope / 2), 0.0)
    screen = np.fft.ifft2(np.fft.fft2(rng.normal(size=(CELLS, CELLS))) * amplitude).real
    screen = (screen - (screen * aperture).sum() / aperture.sum()) * (aperture > 0)
    return np.asarray(screen / np.sqrt((screen**2 * aperture).sum() / aperture.sum()))
