"""Companions on the detector: where they fall and how they look behind the mask, for models of the data."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .astrometry import Astrometry, companion_offset, make_astrometry
from .modes import find_mode
from .optics import make_coronagraph, psf
from .scene import wavefronts
from .truth import Truth


def astrometry_of(truth: Truth, exposure: int, *, in_file: bool = False) -> Astrometry:
    """World coordinates of an exposure.

    Args:
        truth: of the simulation.
        exposure: its index; science first, then references, then backgrounds.
        in_file: true gives those of its file, with the error of the reference pixel; distortion moves along.

    Returns:
        `Astrometry`.
    """
    this = truth.exposures[exposure]
    error = this.crpix_error if in_file else (0.0, 0.0)
    star = this.star[0] + error[0], this.star[1] + error[1]
    return make_astrometry(find_mode(truth.mode)[0], star, this.sky, this.roll, truth.distorted)


@lru_cache(maxsize=4)
def _front(mode: str, filter: str, seed: int, exposure: int) -> NDArray[np.floating[Any]]:
    coronagraph = make_coronagraph(mode, filter)
    return wavefronts(coronagraph.mode, coronagraph.pupil, seed, exposure + 1)[exposure]


def companion_image(truth: Truth, exposure: int, position: Any) -> Any:
    """Image of a companion as bright as the star, at a place on the detector and behind the mask as it lies there.

    Args:
        truth: of the simulation, whose wavefront is used.
        exposure: index of a science exposure.
        position: (x, y) of the companion, 0-based pixels.

    Returns:
        MJy/sr, [y x]; times a contrast it is what that companion adds to the data. With a JAX array for `position` it
        is a JAX array, differentiable in it.

    Example:
        >>> from coronjax.simulate import observe
        >>> truth = observe("nircam", shape=(64, 64), n_science=1, n_references=1).truth
        >>> companion = truth.exposures[0].companions[0]
        >>> image = companion_image(truth, 0, (companion.x, companion.y))
        >>> bool(np.isclose(image.max() * truth.companions[0].contrast, companion.peak))
        True
    """
    coronagraph = make_coronagraph(truth.mode, truth.filter)
    front = _front(truth.mode, truth.filter, truth.seed, exposure)
    source = tuple((position[i] - truth.mask_centre[i]) * truth.pixel_scale for i in (0, 1))
    image = psf(coronagraph, front, source, truth.mask_centre, truth.shape)
    return truth.exposures[exposure].star_rate * image


def companion_position(truth: Truth, exposure: int, separation: Any, position_angle: Any) -> tuple[Any, Any]:
    """Where on the detector a companion falls.

    Args:
        truth: of the simulation.
        exposure: index of a science exposure.
        separation: from the star, arcsec.
        position_angle: degrees, east of north.

    Returns:
        (x, y), 0-based pixels.

    Example:
        >>> from coronjax.simulate import observe
        >>> truth = observe("nircam", shape=(64, 64), n_science=1, n_references=1).truth
        >>> companion = truth.companions[0]
        >>> x, _ = companion_position(truth, 0, companion.separation, companion.position_angle)
        >>> float(x) == truth.exposures[0].companions[0].x
        True
    """
    return astrometry_of(truth, exposure).to_pixel(*companion_offset(separation, position_angle))
