"""Where the star is in an exposure, how well that is known, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["data", "header", "wcs", "given"]


@dataclass(frozen=True)
class StarPosition:
    """The star's place on the pixels of one exposure."""

    x: float  # 0-based pixels
    y: float
    error: tuple[float, float]  # standard error of x and y, pixels, with what the model cannot fit
    relative: tuple[float, float]  # the same against the mean over all exposures: what their agreement depends on
    source: Source  # a fit to the image, the header's reference pixel, the WCS as it is, or the caller
    mask: tuple[float, float] | None = None  # centre (x, y) of the coronagraph mask, 0-based pixels; None: not fitted
    note: str = ""  # what was used, and why

    def __repr__(self) -> str:
        """Place, error and source in a line."""
        return (
            f"StarPosition(x={self.x:.3f} +- {self.error[0]:.3f}, y={self.y:.3f} +- {self.error[1]:.3f}, {self.source})"
        )
