"""One exposure of the telescope: its light before any noise, and what the detector makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .astrometry import Astrometry, companion_offset, make_astrometry
from .detector import Detector, Integrations, expose
from .modes import Companion
from .optics import Coronagraph, make_coronagraph, psf
from .scene import Pointing, rms, stream, wander, wavefronts
from .truth import ExposureTruth, Placed

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Scene:
    """What decides the light of every exposure."""

    mode: str
    filter: str
    seed: int
    shape: tuple[int, int]
    centre: tuple[float, float]  # of the mask, 0-based pixels (x, y)
    companions: tuple[Companion, ...]
    distorted: bool
    jitter: float  # rms of the star's position from integration to integration, each axis, arcsec
    drift: float  # rms difference between the wavefronts of two integrations, metres

    @property
    def coronagraph(self) -> Coronagraph:
        """The optics."""
        return make_coronagraph(self.mode, self.filter)


@dataclass(frozen=True, eq=False)
class Bench:
    """What all exposures share."""

    scene: Scene
    detector: Detector
    glow: Array | float  # [y x] e-/s
    noise_seed: int
    negative: float  # share of the hits
    crpix_error: float  # at most, pixels


@dataclass(frozen=True, eq=False)
class Light:
    """Shares of the star's light in every pixel, and what they come from."""

    star: Array  # [int y x], or [1 y x] where the integrations do not differ
    companions: Array  # [y x]
    placed: tuple[Placed, ...]
    shifts: Array  # [int 2] or [1 2], from the mask's centre to the star, pixels
    wavefront_rms: float  # metres
    wavefront_change: float


@dataclass(frozen=True, eq=False)
class Taken:
    """An exposure with what it would be without noise."""

    integrations: Integrations
    expected: Array  # [y x] MJy/sr, mean over the integrations
    companions: Array  # [y x] MJy/sr, the part of them
    truth: ExposureTruth


@lru_cache(maxsize=2)
def _wavefronts(mode: str, filter: str, seed: int, count: int) -> Array:
    coronagraph = make_coronagraph(mode, filter)
    return wavefronts(coronagraph.mode, coronagraph.pupil, seed, count)


def _star_image(scene: Scene, wavefront: Array, source: tuple[float, float]) -> Array:
    """Share of the star's light in every pixel, averaged over three points whose scatter is that of the jitter."""
    radius = scene.coronagraph.mode.jitter * np.sqrt(2)
    angles = np.deg2rad([90.0, 210.0, 330.0])
    points = [(source[0] + radius * np.cos(a), source[1] + radius * np.sin(a)) for a in angles]
    return np.asarray(sum(psf(scene.coronagraph, wavefront, p, scene.centre, scene.shape) for p in points) / 3)


def _place(scene: Scene, wavefront: Array, astrometry: Astrometry) -> Iterator[tuple[Array, Placed]]:
    """Image of each companion over the star's light, and where it is."""
    scale, coronagraph = scene.coronagraph.mode.pixel_scale, scene.coronagraph
    for companion in scene.companions:
        x, y = astrometry.to_pixel(*companion_offset(companion.separation, companion.position_angle))
        source = ((x - scene.centre[0]) * scale, (y - scene.centre[1]) * scale)
        masked, unmasked = (
            psf(coronagraph, wavefront, source, scene.centre, scene.shape, masked=m) for m in (True, False)
        )
        image = companion.contrast * masked
        yield image, Placed(float(x), float(y), float(masked.sum() / unmasked.sum()), float(image.max()))


def exposure_astrometry(scene: Scene, pointing: Pointing) -> Astrometry:
    """World coordinates of an exposure, as they are in truth.

    Args:
        scene: of the simulation.
        pointing: of the exposure.

    Returns:
        `Astrometry`.
    """
    mode = scene.coronagraph.mode
    star = tuple(scene.centre[i] + pointing.source[i] / mode.pixel_scale for i in (0, 1))
    return make_astrometry(mode, (star[0], star[1]), pointing.sky, pointing.roll, scene.distorted)


@lru_cache(maxsize=32)
def _light(scene: Scene, k: int, pointing: Pointing, nints: int, count: int) -> Light:
    """The light of exposure k of a star; cached, so that new noise for the same light is cheap."""
    coronagraph = scene.coronagraph
    mode, pupil = coronagraph.mode, coronagraph.pupil
    fronts = _wavefronts(scene.mode, scene.filter, scene.seed, count)
    offsets, changes = wander(mode, pupil, scene.seed, k, nints, scene.jitter, scene.drift)
    sources = np.array(pointing.source) + offsets
    star = np.stack(
        [_star_image(scene, fronts[k] + d, (s[0], s[1])) for s, d in zip(sources.tolist(), changes, strict=True)]
    )
    companions, placed = np.zeros(scene.shape), []
    if pointing.kind == "science":
        for image, where in _place(scene, fronts[k], exposure_astrometry(scene, pointing)):
            companions += image
            placed.append(where)
    return Light(
        star=star,
        companions=companions,
        placed=tuple(placed),
        shifts=sources / mode.pixel_scale,
        wavefront_rms=rms(fronts[k], pupil),
        wavefront_change=rms(fronts[k] - fronts[k - 1], pupil) if k else 0.0,
    )


def _blank(scene: Scene) -> Light:
    return Light(np.zeros((1, *scene.shape)), np.zeros(scene.shape), (), np.zeros((1, 2)), 0.0, 0.0)


def _crpix_error(bench: Bench, k: int) -> tuple[float, float]:
    """A vector of any direction whose length is evenly spread up to the largest error."""
    rng = stream(bench.scene.coronagraph.mode, bench.scene.seed, "astrometry", k)
    length, angle = bench.crpix_error * rng.random(), 2 * np.pi * rng.random()
    return float(length * np.cos(angle)), float(length * np.sin(angle))


def take(bench: Bench, k: int, pointing: Pointing, nints: int, n_stars: int) -> Taken:
    """Take an exposure.

    Args:
        bench: what all exposures share.
        k: index of the exposure.
        pointing: of the exposure.
        nints: number of integrations.
        n_stars: number of exposures of stars, which come before those of blank sky.

    Returns:
        `Taken`.
    """
    mode, filter = bench.scene.coronagraph.mode, bench.scene.coronagraph.filter
    light = _light(bench.scene, k, pointing, nints, n_stars) if k < n_stars else _blank(bench.scene)
    rate = filter.star * pointing.brightness
    # The last bit of a sum decides no random number.
    seen = (rate * (light.star + light.companions)).astype(np.float32).astype(np.float64)
    noise = stream(mode, bench.noise_seed, "noise", k)
    integrations = expose(noise, bench.detector, mode, filter, seen, nints, glow=bench.glow, negative=bench.negative)
    left_in = filter.background * mode.background_left + bench.glow
    astrometry = exposure_astrometry(bench.scene, pointing)
    shifts = np.broadcast_to(light.shifts, (nints, 2)).tolist()
    truth = ExposureTruth(
        kind=pointing.kind,
        roll=pointing.roll,
        y_position_angle=astrometry.y_position_angle,
        sky=pointing.sky,
        star=astrometry.star,
        shift=(pointing.source[0] / mode.pixel_scale, pointing.source[1] / mode.pixel_scale),
        shifts=tuple((x, y) for x, y in shifts),
        crpix_error=_crpix_error(bench, k),
        star_rate=rate * filter.photmjsr,
        suppression=float(light.star.sum()) / len(light.star),
        wavefront_rms=light.wavefront_rms,
        wavefront_change=light.wavefront_change,
        companions=tuple(replace(p, peak=p.peak * rate * filter.photmjsr) for p in light.placed),
        cosmic_rays=integrations.cosmic_rays,
        telegraph=integrations.telegraph,
    )
    expected = (seen.mean(0) + left_in) * filter.photmjsr
    return Taken(integrations, expected, rate * filter.photmjsr * light.companions, truth)
