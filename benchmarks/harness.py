"""What a row of the table is made of. Imported in every environment, so it needs numpy alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Call = Callable[[], Arrays]  # does the work once and gives numpy arrays


@dataclass(frozen=True)
class Subject:
    """One way to do the work of a row."""

    name: str
    prepare: Callable[[Arrays], Call]  # not timed: moves the arrays where the work starts
    environment: str = "coronjax"  # see benchmarks.environments
    packages: tuple[str, ...] = ("numpy",)  # whose versions are reported
    variables: dict[str, str] = field(default_factory=dict)  # of the process
    repeats: int | None = None  # timed calls after the first; None: as the run says


@dataclass(frozen=True)
class Limit:
    """How many times as long as another one subject may take before something is badly wrong."""

    subject: str
    against: str
    ratio: float


@dataclass(frozen=True)
class Row:
    """A piece of work, its input at each size, and all who do it."""

    title: str
    work: str  # one sentence, with placeholders for the numbers of the size
    sizes: dict[str, dict[str, Any]]  # full, quick, tiny
    arrays: Callable[..., Arrays]  # arrays(rng, **sizes[size])
    reference: Callable[[Arrays], Arrays]  # the same work in float64, however slow
    error: Callable[[Arrays, Arrays], float | None]  # error(output, reference)
    unit: str  # what the error is
    subjects: tuple[Subject, ...]
    limits: tuple[Limit, ...] = ()  # of the quick check


def relative_error(*names: str) -> Callable[[Arrays, Arrays], float]:
    """Root mean square difference over the reference's root mean square, where both are finite; NaN must agree.

    Of several names the first that the output has is compared: subjects that differ in what they make name it.
    """

    def error(output: Arrays, reference: Arrays) -> float:
        name = next(name for name in names if name in output)
        ours, theirs = np.asarray(output[name], float), np.asarray(reference[name], float)
        if ours.shape != theirs.shape or (np.isnan(ours) != np.isnan(theirs)).any():
            return float("nan")
        good = np.isfinite(theirs)
        return float(np.sqrt(np.mean((ours - theirs)[good] ** 2) / np.mean(theirs[good] ** 2)))

    return error


def star(shape: tuple[int, int], x: float, y: float, width: float) -> np.ndarray:
    """A star's image with rings, smooth enough to be shifted by Fourier transform, peak 1."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(columns - x, rows - y) / width
    return (0.3 + 0.7 * np.cos(1.7 * radius) ** 2) * np.exp(-radius / 2.5) / (1 + np.exp(4 * (0.3 - radius)))


def speckles(rng: np.random.Generator, n: int, shape: tuple[int, int], n_modes: int = 40) -> np.ndarray:
    """Images of a star that share a bright halo and differ by speckles and noise, float32."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    halo = 1000 * star(shape, x, y, shape[1] / 16)
    envelope = halo + 1
    images = np.empty((n, *shape), np.float32)
    waves = rng.uniform(-0.25, 0.25, (n_modes, 2)) * 2 * np.pi
    modes = np.cos(waves[:, :1, None] * columns + waves[:, 1:, None] * rows + rng.uniform(0, 6.3, (n_modes, 1, 1)))
    strength = 0.05 * np.exp(-np.arange(n_modes) / 8)
    for image in images:
        pattern = np.tensordot(strength * rng.normal(size=n_modes), modes, 1)
        image[:] = rng.uniform(0.8, 1.2) * halo + envelope * pattern + rng.normal(0, 0.5, shape)
    return images
