"""A reduction from end to end without any data: simulate, reduce, measure the companions, draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .analysis import pixel_offset, refine_position, signal_to_noise, sky_offset
from .cube import DQ
from .pipeline import Step, run, timed_step
from .result import Result
from .session import application_settings
from .simulate import Companion, simulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPANIONS = (Companion(0.95, 65.0, 2e-4), Companion(1.35, 200.0, 6e-5), Companion(1.90, 310.0, 3e-5))
SHAPE = (100, 100)
N_REFERENCES = 5
FWHM = 3.0  # pixels, of a companion in F430M behind the Lyot stop

Point = tuple[float, float]


@dataclass(frozen=True)
class Recovery:
    """A companion as it was put in and as it was found."""

    true: Point  # separation (arcsec) and position angle (degrees)
    found: Point  # the same, measured on the sky image
    offset: float  # between the two, arcsec
    snr: float
    position: Point  # found, (x, y) on the sky image, 0-based pixels


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration made."""

    result: Result
    companions: tuple[Recovery, ...]
    picture: Path


def demonstrate(
    directory: str | Path, *, seed: int = 1, progress: Callable[[Step], None] | None = None
) -> Demonstration:
    """Simulate a small NIRCam association with three companions, reduce it, measure them, draw a picture.

    Args:
        directory: for the folders `input` and `output` and the picture `demo.png`; made where it is missing.
        seed: of the simulation; the same seed makes the same data.
        progress: told of each `Step` when it begins and when it has ended.

    Returns:
        `Demonstration`.
    """
    folder, tell = Path(directory), progress or (lambda step: None)
    with timed_step("simulate", tell) as details:
        simulation = simulate(
            "nircam", folder / "input", seed=seed, shape=SHAPE, n_references=N_REFERENCES, companions=COMPANIONS
        )
        details.append(f"{len(simulation.members)} exposures in {simulation.asn.parent}")
    result = run(simulation.asn, output_dir=folder / "output", psfmask=simulation.psf_mask, progress=progress)
    assert result.i2d is not None
    with timed_step("measure", tell) as details:
        star = _star(result.i2d.wcs, simulation.truth.science[0].sky)
        companions = tuple(recover(result.i2d, star, companion) for companion in COMPANIONS)
        details.append(f"{len(companions)} companions")
    with timed_step("draw", tell) as details:
        picture = _draw(result, star, companions, folder / "demo.png")
        details.append(str(picture))
    return Demonstration(result, companions, picture)


def recover(i2d: Any, star: Point, companion: Companion) -> Recovery:
    """Measure a companion near where it is known to be.

    Args:
        i2d: the sky image, with its WCS.
        star: (x, y) of the star on it, 0-based pixels.
        companion: as it was put in.

    Returns:
        `Recovery`.
    """
    true = (companion.separation, companion.position_angle)
    guess = np.array(pixel_offset(i2d.wcs, star, *true))
    with application_settings("float64"):
        position, snr = _measure(jnp.asarray(i2d.sci, float), jnp.array(guess), jnp.array(star))
    found = (float(position[0]), float(position[1]))
    offset = sky_offset(i2d.wcs, found, guess)[0]
    return Recovery(true, sky_offset(i2d.wcs, found, star), offset, float(snr), found)


@jax.jit
def _measure(image: jax.Array, guess: jax.Array, star: jax.Array) -> tuple[jax.Array, jax.Array]:
    position = refine_position(image, guess, fwhm=FWHM).position
    return position, signal_to_noise(image, position, star, fwhm=FWHM).snr


def _star(wcs: Any, sky: Point) -> Point:
    x, y = wcs.world_to_pixel_values(*sky)
    return float(x), float(y)


def _draw(result: Result, star: Point, companions: Sequence[Recovery], path: Path) -> Path:
    """Before and after on the detector, and the sky with the companions circled."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    i2d, after = result.i2d, result.psfsub[0]
    assert i2d is not None
    before = np.where(after.dq[0] & DQ.DO_NOT_USE.value, np.nan, np.asarray(result.reduction.science.sci[0, 0]))
    figure = Figure(figsize=(13.5, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    level = float(np.nanmax(np.abs(i2d.sci)))
    subtracted = np.where(np.isnan(before), np.nan, after.sci[0])
    for axis, image, title, wcs in zip(
        axes,
        (before, subtracted, i2d.sci),
        ("one integration: the star's speckles", "the same, star subtracted", "the sky: all integrations, both rolls"),
        (after.wcs, after.wcs, i2d.wcs),
        strict=True,
    ):
        limit = float(np.nanmax(image)) if image is before else level
        _panel(figure, axis, image, title, limit)
        _arrows(axis, wcs, image.shape)
    for companion, name in zip(companions, "bcd", strict=False):
        axes[2].add_patch(_circle(companion.position))
        x, y = companion.position
        axes[2].annotate(f"{name}  S/N {companion.snr:.0f}", (x, y + 6), color="white", ha="center", fontsize=9)
    axes[2].plot(*star, marker="*", color="white", markersize=9)
    figure.savefig(path, dpi=120)
    return path


def _circle(position: Point) -> Any:
    from matplotlib.patches import Circle

    return Circle(position, 1.6 * FWHM, fill=False, edgecolor="white", linewidth=1.2)


def _panel(figure: Any, axis: Axes, image: np.ndarray, title: str, limit: float) -> None:
    from matplotlib.colors import AsinhNorm
    from matplotlib.ticker import AsinhLocator

    norm = AsinhNorm(linear_width=limit / 25, vmin=-limit / 4, vmax=limit)
    axis.set_facecolor("0.25")
    drawn = axis.imshow(image, origin="lower", cmap="inferno", norm=norm, interpolation="nearest")
    figure.colorbar(drawn, ax=axis, label="MJy/sr", shrink=0.85, ticks=AsinhLocator(limit / 25, numticks=6))
    axis.set_title(title, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])


def _arrows(axis: Axes, wcs: Any, shape: tuple[int, ...]) -> None:
    """North and east, in the lower left corner."""
    foot = (0.13 * shape[1], 0.13 * shape[0])
    for name, angle in (("N", 0.0), ("E", 90.0)):
        tip = np.array(pixel_offset(wcs, foot, 1.0, angle)) - foot
        tip = foot + tip / np.hypot(*tip) * 0.1 * shape[0]
        arrow = {"arrowstyle": "->", "color": "white", "lw": 1.3}
        axis.annotate("", tuple(tip), foot, arrowprops=arrow)
        end = np.array(foot) + 1.3 * (tip - foot)
        axis.annotate(name, (end[0], end[1]), color="white", ha="center", va="center", fontsize=9)
