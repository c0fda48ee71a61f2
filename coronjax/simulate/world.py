"""The world coordinates of an exposure as files carry them: a gwcs, TAN-SIP keywords and a footprint."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import gwcs
import numpy as np
from astropy.coordinates import ICRS
from astropy.modeling import models
from gwcs import coordinate_frames as frames

from .astrometry import Astrometry, Coefficients, fit_inverse

Card = tuple[str, Any, str]


def _polynomial(coefficients: Coefficients, linear: str) -> models.Polynomial2D:
    """The coordinate itself plus its distortion."""
    degree = max(p + q for p, q in coefficients)
    terms = {f"c{p}_{q}": value for (p, q), value in coefficients.items()}
    terms[linear] = terms.get(linear, 0.0) + 1.0
    return models.Polynomial2D(degree, **terms)


def make_gwcs(astrometry: Astrometry, shape: tuple[int, int]) -> gwcs.WCS:
    """Build the pipeline of transforms from detector to sky.

    Args:
        astrometry: of the exposure.
        shape: of the image, (ny, nx).

    Returns:
        A gwcs with the frames `detector`, `ideal` (arcsec along the detector's axes) and `world`, and an inverse.

    Example:
        >>> from coronjax.simulate.astrometry import make_astrometry
        >>> from coronjax.simulate.modes import MODES
        >>> wcs = make_gwcs(make_astrometry(MODES["nircam"], (40.0, 40.0), (10.0, 20.0), 0.0), (80, 80))
        >>> [float(round(v, 9)) for v in wcs(40.0, 40.0)]
        [10.0, 20.0]
    """
    ideal = models.Shift(-astrometry.star[0]) & models.Shift(-astrometry.star[1])
    if astrometry.distortion[0]:
        there, back = astrometry.distortion, fit_inverse(astrometry, shape)
        straight = models.Mapping((0, 1, 0, 1)) | _polynomial(there[0], "c1_0") & _polynomial(there[1], "c0_1")
        straight.inverse = models.Mapping((0, 1, 0, 1)) | _polynomial(back[0], "c1_0") & _polynomial(back[1], "c0_1")
        ideal = ideal | straight
    ideal = ideal | models.Scale(astrometry.scale) & models.Scale(astrometry.scale)
    sky = (
        models.AffineTransformation2D(matrix=astrometry.pc)
        | models.Scale(1 / 3600) & models.Scale(1 / 3600)
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(*astrometry.sky, 180.0)
    )
    pixels = frames.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
    arcsec = frames.Frame2D(name="ideal", axes_order=(0, 1), axes_names=("x", "y"), unit=(u.arcsec, u.arcsec))
    world = frames.CelestialFrame(name="world", reference_frame=ICRS(), axes_order=(0, 1), unit=(u.deg, u.deg))
    wcs = gwcs.WCS([(pixels, ideal), (arcsec, sky), (world, None)])
    wcs.bounding_box = ((-0.5, shape[1] - 0.5), (-0.5, shape[0] - 0.5))
    return wcs


def footprint(astrometry: Astrometry, shape: tuple[int, int]) -> str:
    """The sky inside the outer corners of the outermost pixels, as S_REGION says it.

    Example:
        >>> from coronjax.simulate.astrometry import make_astrometry
        >>> from coronjax.simulate.modes import MODES
        >>> footprint(make_astrometry(MODES["nircam"], (4.0, 4.0), (10.0, 20.0), 0.0), (9, 9))[:13]
        'POLYGON ICRS '
    """
    x, y = np.array([0, 0, shape[1], shape[1]]) - 0.5, np.array([0, shape[0], shape[0], 0]) - 0.5
    corners = np.stack(astrometry.to_sky(x, y), axis=1)
    return "POLYGON ICRS  " + " ".join(f"{value:.9f}" for value in corners.ravel())


def wcs_cards(astrometry: Astrometry, shape: tuple[int, int], v2v3: tuple[float, float]) -> list[Card]:
    """The world coordinates as FITS keywords.

    Args:
        astrometry: of the exposure.
        shape: of the image, (ny, nx).
        v2v3: of the aperture's reference point, arcsec.

    Returns:
        Keyword, value and comment of every card, TAN-SIP and the pointing that it follows from.

    Example:
        >>> from coronjax.simulate.astrometry import make_astrometry
        >>> from coronjax.simulate.modes import MODES
        >>> wcs_cards(make_astrometry(MODES["nircam"], (4.0, 4.0), (10.0, 20.0), 0.0), (9, 9), (0.0, 0.0))[2][:2]
        ('CRPIX1', 5.0)
    """
    distorted = bool(astrometry.distortion[0])
    suffix = "-SIP" if distorted else ""
    (pc11, pc12), (pc21, pc22) = astrometry.pc.tolist()
    cards: list[Card] = [
        ("RADESYS", "ICRS", "reference frame"),
        ("WCSAXES", 2, "number of world coordinates"),
        ("CRPIX1", astrometry.star[0] + 1, "reference pixel in x, from 1"),
        ("CRPIX2", astrometry.star[1] + 1, "reference pixel in y, from 1"),
        ("CRVAL1", astrometry.sky[0], "[deg] right ascension there"),
        ("CRVAL2", astrometry.sky[1], "[deg] declination there"),
        ("CTYPE1", f"RA---TAN{suffix}", "first coordinate"),
        ("CTYPE2", f"DEC--TAN{suffix}", "second coordinate"),
        ("CUNIT1", "deg", "its unit"),
        ("CUNIT2", "deg", "its unit"),
        ("CDELT1", astrometry.scale / 3600, "[deg] step of x"),
        ("CDELT2", astrometry.scale / 3600, "[deg] step of y"),
        ("PC1_1", pc11, "rotation from pixels to coordinates"),
        ("PC1_2", pc12, "rotation from pixels to coordinates"),
        ("PC2_1", pc21, "rotation from pixels to coordinates"),
        ("PC2_2", pc22, "rotation from pixels to coordinates"),
        ("S_REGION", footprint(astrometry, shape), "footprint on the sky"),
        ("V2_REF", v2v3[0], "[arcsec] V2 of the reference point"),
        ("V3_REF", v2v3[1], "[arcsec] V3 of the reference point"),
        ("VPARITY", -1, "sense of rotation from ideal to V frame"),
        ("V3I_YANG", astrometry.y_angle, "[deg] from V3 to the ideal y axis"),
        ("RA_REF", astrometry.sky[0], "[deg] right ascension of the ref. point"),
        ("DEC_REF", astrometry.sky[1], "[deg] declination of the reference point"),
        ("ROLL_REF", astrometry.roll, "[deg] position angle of V3 there"),
    ]
    if distorted:
        polynomials = (*astrometry.distortion, *fit_inverse(astrometry, shape))
        for name, terms in zip(("A", "B", "AP", "BP"), polynomials, strict=True):
            cards.append((f"{name}_ORDER", max(p + q for p, q in terms), "degree of the polynomial"))
            cards += [(f"{name}_{p}_{q}", value, "coefficient") for (p, q), value in terms.items()]
    return cards
