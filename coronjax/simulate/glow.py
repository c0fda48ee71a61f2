"""The light of the instrument itself: a glow that the blank sky shows as well."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coronjax.errors import OptionsError

from .modes import Mode

STRIPE = 0.45  # rms width of the stripes along the quadrants' boundaries, arcsec


def glow_pattern(mode: Mode, shape: tuple[int, int], centre: tuple[float, float]) -> NDArray[np.floating[Any]]:
    """Shape of the glow: stripes along the boundaries of four quadrants, a smooth gradient around a spot.

    Args:
        mode: of MIRI.
        shape: of the image, (ny, nx).
        centre: of the mask, 0-based pixels (x, y).

    Returns:
        The glow over its peak, [y x].

    Raises:
        OptionsError: the instrument has none.

    Example:
        >>> from coronjax.simulate.modes import MODES
        >>> float(glow_pattern(MODES["miri_4qpm"], (64, 64), (32.0, 32.0)).max())
        1.0
    """
    if mode.instrument != "MIRI":
        raise OptionsError(f"glow: {mode.name} has none, only the modes of MIRI have")
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    u, v = (x - centre[0]) * mode.pixel_scale, (y - centre[1]) * mode.pixel_scale
    if mode.mask == "quadrants":  # the stripe along x is the brighter one, and neither is even
        along_x = np.exp(-0.5 * (v / STRIPE) ** 2) * (1 + 0.3 * np.sin(u / 2.5)) * np.exp(-0.5 * (u / 9) ** 2)
        along_y = np.exp(-0.5 * (u / STRIPE) ** 2) * (1 - 0.2 * np.sin(v / 3.5)) * np.exp(-0.5 * (v / 9) ** 2)
        pattern = along_x + 0.4 * along_y + 0.05
    else:
        pattern = 1 + 0.5 * np.tanh((u + 0.6 * v) / 8)
    return np.asarray(pattern / pattern.max())
