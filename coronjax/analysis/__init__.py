"""What an image of the sky says about a companion: where it is, how bright, and how sure."""

from .astrometry import pixel_offset, sky_offset
from .detection import Detection, Position, refine_position, signal_to_noise

__all__ = ["Detection", "Position", "pixel_offset", "refine_position", "signal_to_noise", "sky_offset"]
