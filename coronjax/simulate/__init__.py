"""Associations with a known truth, made by physical optics, in memory or in the file format of JWST."""

from .astrometry import Astrometry
from .companions import astrometry_of, companion_image, companion_position
from .files import Simulation, simulate, write_observation
from .modes import MODES, Companion, Filter, Mode, find_mode
from .observation import Observation, observe
from .optics import Coronagraph, make_coronagraph, mask_amplitude, psf
from .pupil import Pupil, make_pupil
from .truth import CosmicRay, ExposureTruth, Placed, Telegraph, Truth

__all__ = [
    "MODES",
    "Astrometry",
    "Companion",
    "Coronagraph",
    "CosmicRay",
    "ExposureTruth",
    "Filter",
    "Mode",
    "Observation",
    "Placed",
    "Pupil",
    "Simulation",
    "Telegraph",
    "Truth",
    "astrometry_of",
    "companion_image",
    "companion_position",
    "find_mode",
    "make_coronagraph",
    "make_pupil",
    "mask_amplitude",
    "observe",
    "psf",
    "simulate",
    "write_observation",
]
