"""What the fit sees of an exposure: one image, its noise, and which pixels to trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..io.exposure import Exposure
    from ..simulate.modes import Filter, Mode


@dataclass(frozen=True, eq=False)
class StarImage:
    """An exposure's integrations as one image."""

    image: np.ndarray  # [y x] float64, finite
    noise: np.ndarray  # [y x] its standard deviation; infinite where the pixel is bad


def mode_of(exposure: Exposure) -> tuple[Mode, Filter] | None:
    """The coronagraph whose model an exposure needs.

    Args:
        exposure: with EXP_TYPE, CORONMSK and FILTER.

    Returns:
        Mode and filter; None where there is no model of them.
    """
    from ..simulate.modes import MODES

    kind, mask, name = (str(exposure.keyword(key)) for key in ("EXP_TYPE", "CORONMSK", "FILTER"))
    for mode in MODES.values():
        for filter in mode.filters:
            if (mode.exp_type, filter.name, filter.coronagraph) == (kind, name, mask):
                return mode, filter
    return None


def star_image(exposure: Exposure) -> StarImage:
    """Median of the integrations of an exposure.

    Args:
        exposure: as read.

    Returns:
        `StarImage`; a cosmic ray in one of several integrations leaves no trace, in one of two it is left out by its
        difference.
    """
    cube: Any = exposure.cube
    sci, err = np.asarray(cube.sci, float), np.asarray(cube.err, float)
    good = ((np.asarray(cube.dq) & 1) == 0) & np.isfinite(sci) & np.isfinite(err) & (err > 0)
    count = good.sum(axis=0)
    values = np.where(good, sci, np.nan)
    usable = count > 0
    image = np.zeros(sci.shape[1:])
    image[usable] = np.nanmedian(values[:, usable], axis=0)
    variance = np.where(good, err**2, 0).sum(axis=0) / np.maximum(count, 1) ** 2
    noise = np.where(usable, np.sqrt(variance), np.inf)
    if len(sci) > 1:  # the fainter one of two that differ has no cosmic ray
        spread = np.where(good, np.abs(sci - image), 0).max(axis=0)
        single = np.sqrt(np.where(good, err**2, 0).sum(axis=0) / np.maximum(count, 1))
        struck = usable & (count == 2) & (spread > 4 * single)
        image[struck] = np.nanmin(values[:, struck], axis=0)
    return StarImage(image, noise)
