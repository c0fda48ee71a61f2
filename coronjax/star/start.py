"""Where to begin: the place on which the model's image fits best, to a fraction of a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .model import StarModel

if TYPE_CHECKING:
    from ..simulate.optics import Coronagraph
    from .images import StarImage

SEARCH = 10  # pixels about the expected place
RADIUS = {"round": 9.0, "bar": 9.0, "quadrants": 7.0, "spot": 7.0}  # of the square's disc, wavelength over diameter
_DIAMETER = 6.5  # metres


@dataclass(frozen=True, eq=False)
class Start:
    """A square of all images, and the mask's place on it."""

    corner: tuple[int, int]  # (x, y) of its first pixel
    size: int  # pixels
    place: np.ndarray  # [2] (x, y) of the mask on the square, 0-based pixels


def coarse_place(
    coronagraph: Coronagraph, images: Sequence[StarImage], near: Sequence[tuple[float, float]], wavefront: np.ndarray
) -> Start | None:
    r"""Find the mask by correlation with what the model expects of unknown wavefronts; it is the same for all exposures.

    $$ \langle I \rangle = |E_0|^2 + \sum_j \sigma_j^2 |E_j|^2 $$

    Args:
        coronagraph: of the images.
        images: of all exposures.
        near: 0-based pixel (x, y) in each from which the star is less than `SEARCH` pixels away.
        wavefront: standard deviation of each of its modes, metres.

    Returns:
        `Start`; None where the square leaves the image or is mostly bad.
    """
    from ..simulate.optics import ARCSEC

    mode = coronagraph.mode
    resolution = coronagraph.filter.wavelength / _DIAMETER / ARCSEC / mode.pixel_scale
    half = int(np.clip(RADIUS[mode.mask] * resolution, 16, 48))
    size = 2 * half
    middle = ((size - 1) / 2, (size - 1) / 2)
    model = StarModel(coronagraph, size)
    flat = model.slopes(np.zeros_like(coronagraph.stop), np.zeros(2), np.array(middle)).image
    fields = model.wavefront_fields(np.array(middle))
    expected = flat + np.tensordot(wavefront**2, fields.real**2 + fields.imag**2, 1) / model.share
    ny, nx = images[0].image.shape
    x0, y0 = (int(round(v)) for v in np.median(np.array(near), axis=0))
    x0, y0 = (int(np.clip(v, half, n - half - 1)) for v, n in ((x0, nx), (y0, ny)))
    search = min(SEARCH, x0 - half, y0 - half, nx - half - x0 - 1, ny - half - y0 - 1)
    if search < 1:
        return None
    scores = sum(_score(image, expected, (x0 - half, y0 - half), search) for image in images) / len(images)
    iy, ix = np.unravel_index(int(np.argmax(scores)), scores.shape)
    if not np.isfinite(scores[iy, ix]) or scores[iy, ix] <= 0:
        return None
    corner = (int(x0 - half - search + ix), int(y0 - half - search + iy))
    good = np.mean([np.isfinite(i.noise[corner[1] : corner[1] + size, corner[0] : corner[0] + size]) for i in images])
    if good < 0.5:
        return None
    offset = [_peak(scores[iy, :], int(ix)), _peak(scores[:, ix], int(iy))]
    return Start(corner, size, np.array(middle) + offset)


def _score(image: StarImage, model: np.ndarray, corner: tuple[int, int], search: int) -> np.ndarray:
    """Correlation of the good pixels' square roots with the model's, for every whole shift up to `search`."""
    from scipy.signal import fftconvolve

    n = len(model)
    rows, columns = (slice(c - search, c + n + search) for c in (corner[1], corner[0]))
    good = np.isfinite(image.noise[rows, columns]) * 1.0
    values = np.where(good > 0, image.image[rows, columns], 0.0)
    values = np.where(good > 0, values - np.median(values[good > 0]), 0.0)
    values, shape = np.sign(values) * np.sqrt(np.abs(values)), np.sqrt(model)  # so that no bright pixel decides alone

    def slide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(fftconvolve(a, b[::-1, ::-1], mode="valid"))

    count = np.maximum(slide(good, np.ones_like(shape)), 1.0)
    mean_a, mean_b = slide(values, np.ones_like(shape)) / count, slide(good, shape) / count
    both = slide(values, shape) - count * mean_a * mean_b
    own = (slide(values**2, np.ones_like(shape)) - count * mean_a**2) * (slide(good, shape**2) - count * mean_b**2)
    return both / np.sqrt(np.maximum(own, 1e-30))


def _peak(row: np.ndarray, at: int) -> float:
    """Offset of a parabola's peak from its highest point; 0 at an end."""
    if not 0 < at < len(row) - 1:
        return 0.0
    left, middle, right = row[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0
