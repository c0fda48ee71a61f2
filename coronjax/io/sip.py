"""A gwcs object from the TAN or TAN-SIP keywords of a FITS header, for files that carry nothing better."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ExposureError

if TYPE_CHECKING:
    import gwcs
    from astropy.wcs import WCS

    from .exposure import Exposure


def gwcs_from_keywords(exposure: Exposure) -> gwcs.WCS:
    r"""From 0-based pixels to ICRS degrees by the keywords of the SCI header.

    $$ (u, v) = (x, y) - CRPIX + 1, \qquad
       \begin{pmatrix}\xi\\\eta\end{pmatrix} = CD \begin{pmatrix} u + A(u, v) \\ v + B(u, v) \end{pmatrix} $$

    followed by the gnomonic deprojection about CRVAL.

    Args:
        exposure: an exposure whose SCI header has CTYPE, CRPIX, CRVAL and CD or CDELT and PC.

    Returns:
        The WCS, its bounding box half a pixel about the array. Without AP and BP it has no inverse.

    Raises:
        ExposureError: a keyword is missing, or the projection is another.

    Source: Shupe et al. 2005, ASP Conf. Ser. 347, 491.
    """
    import gwcs
    from astropy import units as u
    from astropy.coordinates import ICRS
    from astropy.modeling import models
    from gwcs import coordinate_frames as cf

    header = _fits_wcs(exposure)
    shift = models.Shift(1.0 - header.wcs.crpix[0]) & models.Shift(1.0 - header.wcs.crpix[1])
    linear = models.AffineTransformation2D(matrix=header.pixel_scale_matrix)
    sky = models.Pix2Sky_TAN() | models.RotateNative2Celestial(*header.wcs.crval, header.wcs.lonpole)
    distortion = _distortion(header)
    transform = shift | linear | sky if distortion is None else shift | distortion | linear | sky
    detector = cf.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
    world = cf.CelestialFrame(name="world", reference_frame=ICRS(), unit=(u.deg, u.deg))
    wcs = gwcs.WCS([gwcs.Step(detector, transform), gwcs.Step(world, None)])
    _, ny, nx = exposure.shape
    wcs.bounding_box = ((-0.5, nx - 0.5), (-0.5, ny - 0.5))
    wcs.pixel_shape = (nx, ny)
    return wcs


def _fits_wcs(exposure: Exposure) -> WCS:
    """The header's WCS as astropy reads it, after a check that what matters is there."""
    from astropy.wcs import WCS, FITSFixedWarning

    header = exposure.sci_header
    for keyword in ("CTYPE1", "CTYPE2", "CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2"):
        value: Any = header.get(keyword)
        usable = str(value)[4:8] == "-TAN" if keyword.startswith("CTYPE") else isinstance(value, (int, float))
        if not usable:
            message = "there is no WCS in an ASDF extension, and this keyword is missing or wrong"
            raise ExposureError(message, file=exposure.path, keyword=keyword, value=value)
    if not any(keyword in header for keyword in ("CD1_1", "CD1_2", "CDELT1")):
        message = "there is no WCS in an ASDF extension, and no CD matrix or CDELT"
        raise ExposureError(message, file=exposure.path, keyword="CD1_1", value=None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            return WCS(header, naxis=2)
    except Exception as error:  # whatever astropy and wcslib object to is wrong with the file
        reason = str(error).strip().splitlines()[0]
        raise ExposureError(f"the WCS keywords cannot be used: {reason}", file=exposure.path) from None


def _distortion(header: WCS) -> Any:
    """The SIP polynomials, forward and, where the header has them, inverse; None where it has none."""
    if header.sip is None or header.sip.a is None:
        return None
    forward = _polynomials(header.sip.a, header.sip.b)
    if header.sip.ap is not None:
        forward.inverse = _polynomials(header.sip.ap, header.sip.bp)
    return forward


def _polynomials(a: np.ndarray, b: np.ndarray) -> Any:
    """(u, v) -> (u + A(u, v), v + B(u, v))."""
    from astropy.modeling import models

    def polynomial(coefficients: np.ndarray, linear: tuple[int, int]) -> Any:
        order = len(coefficients) - 1
        terms = {f"c{p}_{q}": float(coefficients[p, q]) for p in range(order + 1) for q in range(order + 1 - p)}
        terms["c{}_{}".format(*linear)] += 1.0
        return models.Polynomial2D(order, **terms)

    return models.Mapping((0, 1, 0, 1)) | polynomial(a, (1, 0)) & polynomial(b, (0, 1))
