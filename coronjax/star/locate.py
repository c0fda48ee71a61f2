"""Find the star in every science exposure: from an option, the header, or a fit to the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ExposureError, OptionsError
from ..io.history import already_processed, history
from .fit import Fit, fit_star
from .images import mode_of, star_image
from .position import StarPosition

if TYPE_CHECKING:
    from ..io.exposure import Exposure
    from ..options import Star

# Pixels by which the header's reference pixel may miss the star: as planned; in frames that were moved onto it.
HEADER_ERROR, RECENTRED_ERROR = 0.5, 0.05


def locate_stars(exposures: Sequence[Exposure], *, options: Star) -> tuple[StarPosition, ...]:
    """Find the star's pixel in every science exposure.

    Args:
        exposures: science exposures of one target.
        options: which source to use. `"auto"` takes the fit to the images where it is reliable for all exposures, else
            the header's reference pixel.

    Returns:
        A `StarPosition` for each exposure, with a note that says what was used and why.

    Raises:
        OptionsError: the given positions are not one for each exposure; or `source="data"` and the fit is of no use.
        ExposureError: a header has no CRPIX1 or CRPIX2.

    Example:
        >>> from coronjax import Star
        >>> locate_stars((), options=Star(source="header"))
        ()
    """
    if options.positions is not None:
        return _given(exposures, options.positions)
    if options.source == "wcs":
        return tuple(_reference_pixel(exposure, "wcs", 0.0, "the WCS as it is") for exposure in exposures)
    if options.source == "header" or not exposures:
        return _header(exposures, "as asked for")
    found = _fitted(exposures, asked=options.source == "data")
    if not isinstance(found, str):
        return found
    if options.source == "data":
        raise OptionsError(f"star.source='data': {found}")
    return _header(exposures, found)


def _given(exposures: Sequence[Exposure], positions: Sequence[tuple[float, float]]) -> tuple[StarPosition, ...]:
    if len(positions) != len(exposures):
        raise OptionsError(f"star.positions has {len(positions)} places for {len(exposures)} science exposures")
    return tuple(StarPosition(float(x), float(y), (0.0, 0.0), "given", note="as given") for x, y in positions)


def _reference_pixel(exposure: Exposure, source: str, error: float, note: str) -> StarPosition:
    """The header's reference pixel as the star's place."""
    values = []
    for keyword in ("CRPIX1", "CRPIX2"):
        value = exposure.sci_header.get(keyword)
        if not isinstance(value, (int, float)):
            message = "the star's place is to be taken from this keyword"
            raise ExposureError(message, file=exposure.path, keyword=keyword, value=value)
        values.append(float(value) - 1)
    return StarPosition(*values, (error, error), source, note=note)  # type: ignore[arg-type]


def _header(exposures: Sequence[Exposure], why: str) -> tuple[StarPosition, ...]:
    errors = [RECENTRED_ERROR if history(exposure).recentred else HEADER_ERROR for exposure in exposures]
    note = f"the star is taken to be on the header's reference pixel: {why}"
    return tuple(_reference_pixel(e, "header", error, note) for e, error in zip(exposures, errors, strict=True))


def _fitted(exposures: Sequence[Exposure], *, asked: bool) -> tuple[StarPosition, ...] | str:
    """Positions by the fit, or why there are none."""
    processed = next((said for exposure in exposures if (said := already_processed(exposure))), None)
    if processed and not asked:
        return processed
    mode = mode_of(exposures[0])
    if mode is None:
        return "there is no model of this mask and filter"
    found: Fit | str = fit_star(mode, [star_image(exposure) for exposure in exposures])
    if isinstance(found, str) or not (found.reliable or asked):
        return found if isinstance(found, str) else found.doubt
    note = "found by a model of the star behind the mask" + (f", though {found.doubt}" if found.doubt else "")
    return tuple(
        StarPosition(*found.stars[i].tolist(), tuple(found.errors[i].tolist()), "data", tuple(found.mask.tolist()), note)
        for i in range(len(exposures))
    )
