"""Find the star in every science exposure: from an option, the header, or a fit to the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import ExposureError, OptionsError
from ..io.history import already_processed, history
from .fit import fit_star
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
        return _reference_pixels(exposures, "wcs", "the WCS is left as it is")
    if options.source == "header" or not exposures:
        return _reference_pixels(exposures, "header", "the star is taken to be on the header's reference pixel")
    found = _fitted(exposures, asked=options.source == "data")
    if not isinstance(found, str):
        return found
    if options.source == "data":
        raise OptionsError(f"star.source='data': {found}")
    return _reference_pixels(exposures, "header", f"the star is taken to be on the header's reference pixel: {found}")


def _given(exposures: Sequence[Exposure], positions: Sequence[tuple[float, float]]) -> tuple[StarPosition, ...]:
    if len(positions) != len(exposures):
        raise OptionsError(f"star.positions has {len(positions)} places for {len(exposures)} science exposures")
    return tuple(
        StarPosition(float(x), float(y), (0.0, 0.0), (0.0, 0.0), "given", note="as given") for x, y in positions
    )


def _reference_pixels(
    exposures: Sequence[Exposure], source: Literal["header", "wcs"], note: str
) -> tuple[StarPosition, ...]:
    """The header's reference pixel as the star's place."""
    found = []
    for exposure in exposures:
        error = RECENTRED_ERROR if history(exposure).recentred else HEADER_ERROR
        found.append(StarPosition(*_reference_pixel(exposure), (error, error), (error, error), source, note=note))
    return tuple(found)


def _reference_pixel(exposure: Exposure) -> tuple[float, float]:
    values = []
    for keyword in ("CRPIX1", "CRPIX2"):
        value = exposure.sci_header.get(keyword)
        if not isinstance(value, (int, float)):
            message = "the star's place is to be looked for near this"
            raise ExposureError(message, file=exposure.path, keyword=keyword, value=value)
        values.append(float(value) - 1)
    return values[0], values[1]


def _fitted(exposures: Sequence[Exposure], *, asked: bool) -> tuple[StarPosition, ...] | str:
    """Positions by the fit, or why there are none."""
    processed = next((said for exposure in exposures if (said := already_processed(exposure))), None)
    if processed and not asked:
        return processed
    mode = mode_of(exposures[0])
    if mode is None:
        return "there is no model of this mask and filter"
    near = [_reference_pixel(exposure) for exposure in exposures]
    found = fit_star(mode, [star_image(exposure) for exposure in exposures], near)
    if isinstance(found, str):
        return found
    if found.doubt and not asked:
        return found.doubt
    note = "the star was found by fitting a model of it behind the mask" + (f", but {found.doubt}" * bool(found.doubt))
    mask = (float(found.mask[0]), float(found.mask[1]))
    return tuple(
        StarPosition(float(x), float(y), (float(e[0]), float(e[1])), (float(r[0]), float(r[1])), "data", mask, note)
        for (x, y), e, r in zip(found.stars, found.errors, found.relative, strict=True)
    )
