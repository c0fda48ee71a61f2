"""Observe a star and its companions through a coronagraph, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coronjax.cube import DQ, Cube
from coronjax.errors import OptionsError

from .astrometry import Astrometry, companion_offset, make_astrometry
from .companions import astrometry_of
from .detector import Detector, Integrations, expose, make_detector
from .modes import Companion, find_mode
from .optics import Coronagraph, make_coronagraph, mask_amplitude, psf
from .scene import Pointing, plan, rms, stream, wavefronts
from .truth import ExposureTruth, Placed, Truth

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Observation:
    """An association in memory: what `simulate` writes into files."""

    science: Cube  # [exp int y x] MJy/sr, arrays of numpy
    references: Cube  # [exp int y x]
    psf_mask: NDArray[np.float32]  # [y x] weight of the registration: 1 uses a pixel, 0 ignores it
    pixel_maps: Array  # [exp y x 2] (x, y) of every science pixel on an image of the science's shape, north up,
    # east left, with the star on the middle of pixel (nx // 2, ny // 2)
    truth: Truth
    pointings: tuple[Pointing, ...]  # science first, then references


@dataclass(frozen=True, eq=False)
class _Bench:
    """What all exposures share."""

    coronagraph: Coronagraph
    detector: Detector
    centre: tuple[float, float]
    shape: tuple[int, int]
    companions: tuple[Companion, ...]
    seed: int
    distorted: bool


def mask_centre(shape: tuple[int, int]) -> tuple[float, float]:
    """Where on the detector the middle of the mask lies: (x, y), 0-based pixels; not on a pixel's middle.

    Example:
        >>> mask_centre((80, 80))
        (39.85, 39.3)
    """
    return round((shape[1] - 1) / 2 + 0.35, 6), round((shape[0] - 1) / 2 - 0.2, 6)


def _star_image(bench: _Bench, wavefront: Array, source: tuple[float, float]) -> Array:
    """Share of the star's light in every pixel, averaged over three points whose scatter is that of the jitter."""
    radius = bench.coronagraph.mode.jitter * np.sqrt(2)
    angles = np.deg2rad([90.0, 210.0, 330.0])
    points = [(source[0] + radius * np.cos(a), source[1] + radius * np.sin(a)) for a in angles]
    return np.asarray(sum(psf(bench.coronagraph, wavefront, p, bench.centre, bench.shape) for p in points) / 3)


def _place(bench: _Bench, wavefront: Array, astrometry: Astrometry) -> tuple[Array, list[Placed]]:
    """Image of all companions over the star's light, and where they are."""
    scale, image, placed = bench.coronagraph.mode.pixel_scale, np.zeros(bench.shape), []
    for companion in bench.companions:
        x, y = astrometry.to_pixel(*companion_offset(companion.separation, companion.position_angle))
        source = ((x - bench.centre[0]) * scale, (y - bench.centre[1]) * scale)
        masked, unmasked = (
            psf(bench.coronagraph, wavefront, source, bench.centre, bench.shape, masked=m) for m in (True, False)
        )
        image += companion.contrast * masked
        peak, through = companion.contrast * float(masked.max()), float(masked.sum() / unmasked.sum())
        placed.append(Placed(float(x), float(y), through, peak))
    return image, placed


def _take(bench: _Bench, k: int, pointing: Pointing, fronts: Array, nints: int) -> tuple[Integrations, ExposureTruth]:
    """One exposure and its truth."""
    mode, filter = bench.coronagraph.mode, bench.coronagraph.filter
    shift = pointing.source[0] / mode.pixel_scale, pointing.source[1] / mode.pixel_scale
    star = bench.centre[0] + shift[0], bench.centre[1] + shift[1]
    astrometry = make_astrometry(mode, star, pointing.sky, pointing.roll, bench.distorted)
    image = _star_image(bench, fronts[k], pointing.source)
    suppression = float(image.sum())
    placed: list[Placed] = []
    if pointing.kind == "science":
        companions, placed = _place(bench, fronts[k], astrometry)
        image = image + companions
    rate = filter.star * pointing.brightness
    light = (rate * image).astype(np.float32).astype(np.float64)  # the last bit of a sum decides no random number
    taken = expose(stream(mode, bench.seed, "noise", k), bench.detector, mode, filter, light, nints)
    truth = ExposureTruth(
        kind=pointing.kind,
        roll=pointing.roll,
        y_position_angle=astrometry.y_position_angle,
        sky=pointing.sky,
        star=star,
        shift=shift,
        star_rate=rate * filter.photmjsr,
        suppression=suppression,
        wavefront_rms=rms(fronts[k], bench.coronagraph.pupil),
        wavefront_change=rms(fronts[k] - fronts[k - 1], bench.coronagraph.pupil) if k else 0.0,
        companions=tuple(replace(p, peak=p.peak * rate * filter.photmjsr) for p in placed),
        cosmic_rays=taken.cosmic_rays,
    )
    return taken, truth


def _stack(taken: Sequence[Integrations]) -> Cube:
    """Put exposures into one cube [exp int y x]."""
    names = ("sci", "err", "dq", "var_poisson", "var_rnoise", "var_flat")
    arrays: dict[str, Any] = {name: np.stack([getattr(t, name) for t in taken]) for name in names}
    arrays["valid"] = np.ones(arrays["sci"].shape[:2], bool)
    return Cube(**arrays)


def _psf_mask(bench: _Bench) -> NDArray[np.float32]:
    """Weight of each pixel in a registration: what the mask transmits there, nothing where there is no sky."""
    mode, filter = bench.coronagraph.mode, bench.coronagraph.filter
    x = (np.arange(bench.shape[1])[None, :] - bench.centre[0]) * mode.pixel_scale
    y = (np.arange(bench.shape[0])[:, None] - bench.centre[1]) * mode.pixel_scale
    weight = mask_amplitude(mode, filter, x, y) ** 2
    if mode.mask == "quadrants":  # the phase step at the boundaries
        weight = np.where(np.minimum(np.abs(x), np.abs(y)) < 1.5 * mode.pixel_scale, 0.0, weight)
    no_sky = (bench.detector.dq & np.uint32(DQ.NON_SCIENCE)) != 0
    return np.where(no_sky, 0.0, weight).astype(np.float32)


def _pixel_map(astrometry: Astrometry, shape: tuple[int, int]) -> Array:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    east, north = astrometry.to_plane(x, y)
    return np.stack([shape[1] // 2 - east / astrometry.scale, shape[0] // 2 + north / astrometry.scale], axis=-1)


def _choose(companions: Sequence[Companion | tuple[float, float, float]] | None, default: tuple[Companion, ...],
            reach: float) -> tuple[Companion, ...]:  # fmt: skip
    """What the caller asks for, or those of the mode's usual companions that lie on the image."""
    if companions is None:
        return tuple(c for c in default if c.separation < reach)
    chosen = tuple(c if isinstance(c, Companion) else Companion(*c) for c in companions)
    for companion in chosen:
        if not 0 < companion.separation < reach:
            raise OptionsError(f"companion at {companion.separation} arcsec: the image reaches to {reach:.2f} arcsec")
    return chosen


def observe(
    mode: str,
    *,
    seed: int = 1,
    shape: tuple[int, int] | None = None,
    filter: str | None = None,
    n_science: int = 2,
    n_references: int | None = None,
    nints_science: int | None = None,
    nints_references: int | None = None,
    roll: float = 10.0,
    companions: Sequence[Companion | tuple[float, float, float]] | None = None,
    distorted: bool = True,
) -> Observation:
    """Simulate an association in memory.

    Args:
        mode: `"nircam"`, `"nircam_bar"`, `"miri_4qpm"` or `"miri_lyot"`.
        seed: the same seed gives the same numbers.
        shape: of the images, (ny, nx); by default the mode's whole subarray.
        filter: one of the mode's filters.
        n_science: number of exposures of the target.
        n_references: number of exposures of the reference star.
        nints_science: integrations in each exposure of the target.
        nints_references: integrations in each exposure of the reference star.
        roll: angle from one exposure of the target to the next, degrees.
        companions: `Companion`s, or triples of separation (arcsec), position angle (degrees east of north) and
            contrast; by default two or three that suit the mode.
        distorted: false leaves the detector's distortion out.

    Returns:
        `Observation`.

    Raises:
        OptionsError: no such mode or filter, a number that makes no sense, a companion beyond the image.

    Example:
        >>> observe("nircam", shape=(64, 64), n_references=1, nints_science=1, nints_references=2).references.sci.shape
        (1, 2, 64, 64)
    """
    of, chosen = find_mode(mode, filter)
    size = tuple(shape or of.shape)
    counts = (n_science, of.n_references if n_references is None else n_references)
    nints = (of.nints_science if nints_science is None else nints_science,
             of.nints_references if nints_references is None else nints_references)  # fmt: skip
    if min(*counts, *nints) < 1 or min(size) < 32:
        raise OptionsError(f"{counts} exposures of {nints} integrations of {size}: one of 32 x 32 is the least")
    if seed < 0:
        raise OptionsError(f"seed={seed} must not be negative")
    centre = mask_centre((size[0], size[1]))
    reach = (min(size) / 2 - 4) * of.pixel_scale
    bench = _Bench(
        coronagraph=make_coronagraph(mode, chosen.name),
        detector=make_detector(stream(of, seed, "detector"), of, (size[0], size[1]), centre),
        centre=centre,
        shape=(size[0], size[1]),
        companions=_choose(companions, of.companions, reach),
        seed=seed,
        distorted=distorted,
    )
    return _observe(bench, plan(of, seed, *counts, roll), counts[0], nints)


def _observe(bench: _Bench, pointings: tuple[Pointing, ...], n_science: int, nints: tuple[int, int]) -> Observation:
    mode = bench.coronagraph.mode
    fronts = wavefronts(mode, bench.coronagraph.pupil, bench.seed, len(pointings))
    taken, exposures = zip(
        *(_take(bench, k, p, fronts, nints[p.kind == "psf"]) for k, p in enumerate(pointings)), strict=True
    )
    truth = Truth(
        mode=mode.name,
        filter=bench.coronagraph.filter.name,
        seed=bench.seed,
        shape=bench.shape,
        distorted=bench.distorted,
        pixel_scale=mode.pixel_scale,
        mask_centre=bench.centre,
        companions=bench.companions,
        exposures=exposures,
    )
    maps = np.stack([_pixel_map(astrometry_of(truth, k), bench.shape) for k in range(n_science)])
    science, references = _stack(taken[:n_science]), _stack(taken[n_science:])
    return Observation(science, references, _psf_mask(bench), maps, truth, pointings)
