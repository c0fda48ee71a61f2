"""What a simulation put into its files."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from .modes import Companion


@dataclass(frozen=True)
class CosmicRay:
    """A hit that the earlier stages have missed."""

    integration: int
    y: int
    x: int
    amplitude: float  # MJy/sr in this pixel, below zero where the hit is negative
    significance: float  # amplitude over the pixel's error


@dataclass(frozen=True)
class Telegraph:
    """A pixel that jumps between two levels, unflagged."""

    y: int
    x: int
    amplitude: float  # of the jump, MJy/sr
    high: tuple[bool, ...]  # of every integration: whether it is on the higher level


@dataclass(frozen=True)
class Placed:
    """A companion as an exposure sees it."""

    x: float  # 0-based pixels
    y: float
    through_mask: float  # share of its light that the mask lets through
    peak: float  # of its image, MJy/sr


@dataclass(frozen=True)
class ExposureTruth:
    """What went into an exposure."""

    kind: Literal["science", "psf", "background"]
    roll: float  # ROLL_REF, degrees
    y_position_angle: float  # of the detector's y axis, degrees east of north
    sky: tuple[float, float]  # the star's right ascension and declination, degrees; on blank sky where it would be
    star: tuple[float, float]  # its position (x, y), 0-based pixels
    shift: tuple[float, float]  # from the mask's centre to the star, pixels
    shifts: tuple[tuple[float, float], ...]  # the same in every integration
    crpix_error: tuple[float, float]  # from the star to where keywords and gwcs of the file put it, pixels
    star_rate: float  # MJy/sr pixels of its whole light, before the coronagraph
    suppression: float  # share of its light that arrives on the image
    wavefront_rms: float  # metres
    wavefront_change: float  # rms since the exposure before, metres
    companions: tuple[Placed, ...]
    cosmic_rays: tuple[CosmicRay, ...]
    telegraph: tuple[Telegraph, ...]


@dataclass(frozen=True)
class Truth:
    """What went into an association. Everything random follows from mode, seeds and shape."""

    mode: str
    filter: str
    seed: int
    shape: tuple[int, int]  # (ny, nx)
    distorted: bool
    pixel_scale: float  # arcsec
    mask_centre: tuple[float, float]  # (x, y), 0-based pixels
    companions: tuple[Companion, ...]
    exposures: tuple[ExposureTruth, ...]  # science first, then references, then backgrounds

    @property
    def science(self) -> tuple[ExposureTruth, ...]:
        """The exposures of the target."""
        return tuple(e for e in self.exposures if e.kind == "science")

    @property
    def references(self) -> tuple[ExposureTruth, ...]:
        """The exposures of the reference star."""
        return tuple(e for e in self.exposures if e.kind == "psf")

    @property
    def backgrounds(self) -> tuple[ExposureTruth, ...]:
        """The exposures of blank sky."""
        return tuple(e for e in self.exposures if e.kind == "background")

    def to_json(self, files: tuple[str, ...] = ()) -> str:
        """Write it down, with the name of each exposure's file where there are files."""
        tree = dataclasses.asdict(self)
        for exposure, name in zip(tree["exposures"], files, strict=False):
            exposure["file"] = name
        return json.dumps(tree, indent=1)
