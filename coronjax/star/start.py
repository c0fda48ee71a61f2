"""Where to begin: the place on which the model's image fits best, to a fraction of a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .images import StarImage
from .model import StarModel

if TYPE_CHECKING:
    from ..simulate.optics import Coronagraph

APART = 3  # pixels between two places that are tried
TRIALS = 12  # highest points looked at for peaks
SEARCH = 10  # pixels about the expected place
RADIUS = {"round": 9.0, "bar": 9.0, "quadrants": 7.0, "spot": 7.0}  # of the square's disc, wavelength over diameter
_DIAMETER = 6.5  # metres


@dataclass(frozen=True, eq=False)
class Start:
    """A square of all images, and the mask's place on it."""

    corner: tuple[int, int]  # (x, y) of its first pixel
    size: int  # pixels
    place: np.ndarray  # [2] (x, y) of the mask on the square, 0-based pixels


def coarse_places(
    coronagraph: Coronagraph, images: Sequence[StarImage], near: Sequence[tuple[float, float]], wavefront: np.ndarray
) -> list[Start]:
    r"""Find the mask by correlation with what the model expects of unknown wavefronts.

    $$ \langle I \rangle = |E_0|^2 + \sum_j \sigma_j^2 |E_j|^2 $$

    Args:
        coronagraph: of the images.
        images: of all exposures.
        near: 0-based pixel (x, y) in each from which the star is less than `SEARCH` pixels away.
        wavefront: standard deviation of each of its modes, metres.

    Returns:
        The best places, at most three; none where the square leaves the image or is mostly bad.
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
    x0, y0 = (round(float(v)) for v in np.median(np.array(near), axis=0))
    x0, y0 = (int(np.clip(v, half, n - half - 1)) for v, n in ((x0, nx), (y0, ny)))
    search = min(SEARCH, x0 - half, y0 - half, nx - half - x0 - 1, ny - half - y0 - 1)
    if search < 1:
        return []
    scores = _score(_common(images), expected, (x0 - half, y0 - half), search)
    offset = np.array([x0 - half - search, y0 - half - search])
    return [start for peak in _peaks(scores) if (start := _start(images, peak, offset, size))]


def _start(images: Sequence[StarImage], peak: np.ndarray, offset: np.ndarray, size: int) -> Start | None:
    """The square about a peak; None where most of it is bad."""
    x, y = (int(v) for v in np.rint(peak) + offset)
    good = np.mean([np.isfinite(image.noise[y : y + size, x : x + size]) for image in images])
    return Start((x, y), size, (size - 1) / 2 + peak - np.rint(peak)) if good > 0.5 else None


def _peaks(scores: np.ndarray) -> list[np.ndarray]:
    """The highest peak, (x, y), and the highest of those well away from it."""
    rest, found = scores.copy(), list[np.ndarray]()
    y, x = np.indices(scores.shape)
    for _ in range(TRIALS):
        iy, ix = (int(i) for i in np.unravel_index(int(np.argmax(rest)), scores.shape))
        if len(found) == 3 or not (np.isfinite(rest[iy, ix]) and rest[iy, ix] > 0.1 * scores.max() > 0):
            break
        if scores[iy, ix] == scores[max(iy - 1, 0) : iy + 2, max(ix - 1, 0) : ix + 2].max():
            found.append(np.array([ix + _peak(scores[iy, :], ix), iy + _peak(scores[:, ix], iy)]))
        rest[np.hypot(x - ix, y - iy) < APART] = -np.inf
    return found


def _common(images: Sequence[StarImage]) -> StarImage:
    """The lower median of all exposures: between rolls companions move, so that most leave no trace in it."""
    values = np.sort([np.where(np.isfinite(image.noise), image.image, np.inf) for image in images], axis=0)
    common = values[(len(images) - 1) // 2]
    noise = np.max([image.noise for image in images], axis=0)
    return StarImage(np.where(np.isfinite(common), common, 0.0), np.where(np.isfinite(common), noise, np.inf))


def _score(image: StarImage, model: np.ndarray, corner: tuple[int, int], search: int) -> np.ndarray:
    """Correlation coefficient of an image's good pixels with the model's for every whole shift up to `search`."""
    n = len(model)
    rows, columns = (slice(c - search, c + n + search) for c in (corner[1], corner[0]))
    good = np.isfinite(image.noise[rows, columns]) * 1.0
    values = np.where(good > 0, image.image[rows, columns], 0.0)
    values = np.where(good > 0, values - np.median(values[good > 0]), 0.0) / np.abs(values).max()
    shape = model / model.max()
    ones = np.ones_like(shape)
    count = np.maximum(_slide(good, ones), 1.0)
    mean_a, mean_b = _slide(values, ones) / count, _slide(good, shape) / count
    both = _slide(values, shape) - count * mean_a * mean_b
    own = (_slide(values**2, ones) - count * mean_a**2) * (_slide(good, shape**2) - count * mean_b**2)
    return np.asarray(both / np.sqrt(np.maximum(own, 1e-12)))


def _slide(image: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Sum of the products for every place of the shape on the image."""
    turned = np.fft.rfft2(image) * np.fft.rfft2(shape, image.shape).conj()
    valid = [big - small + 1 for big, small in zip(image.shape, shape.shape, strict=True)]
    return np.fft.irfft2(turned, image.shape)[: valid[0], : valid[1]]


def _peak(row: np.ndarray, at: int) -> float:
    """Offset of a parabola's peak from its highest point; 0 at an end."""
    if not 0 < at < len(row) - 1:
        return 0.0
    left, middle, right = row[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0
