"""What an image of the sky says about a companion: where it is, how bright, and how sure."""

from .aperture import aperture_error, aperture_sum, correlation_at
from .astrometry import pixel_offset, sky_offset
from .detection import Detection, Position, refine_position, signal_to_noise
from .photometry import Flux, combine_fluxes, companion_flux

__all__ = [
    "Detection",
    "Flux",
    "Position",
    "aperture_error",
    "aperture_sum",
    "combine_fluxes",
    "companion_flux",
    "correlation_at",
    "pixel_offset",
    "refine_position",
    "signal_to_noise",
    "sky_offset",
]
