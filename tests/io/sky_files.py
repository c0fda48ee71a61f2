"""Exposures that know where they point, for the tests of WCS and products."""

import io
from pathlib import Path
from typing import Any

import asdf
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from coronjax.io.exposure import Exposure, read_exposure
from coronjax.io.sip import gwcs_from_keywords
from coronjax.io.tree import asdf_hdu, with_wcs

from .files import ASDF_TEXT, exposure_hdus

SCALE = 0.063 / 3600  # degrees
INT_TIMES = [f"int_{when}_{scale}" for scale in ("MJD_UTC", "BJD_TDB") for when in ("start", "mid", "end")]


def pointing(
    shape: tuple[int, int] = (24, 20), *, roll: float = 30.0, at: tuple[float, float] = (86.8, -51.07), sip: bool = True
) -> dict[str, Any]:
    """SCI keywords of a detector whose y axis has this position angle, its reference point in the middle."""
    ny, nx = shape
    angle = np.deg2rad(roll)
    cd = SCALE * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    keywords: dict[str, Any] = {"WCSAXES": 2, "CRPIX1": nx / 2 + 0.5, "CRPIX2": ny / 2 + 0.5}
    keywords |= {"CRVAL1": at[0], "CRVAL2": at[1], "RADESYS": "ICRS", "CUNIT1": "deg", "CUNIT2": "deg"}
    keywords |= {f"CTYPE{i}": f"{name}{'-SIP' if sip else ''}" for i, name in ((1, "RA---TAN"), (2, "DEC--TAN"))}
    keywords |= {f"CD{i + 1}_{j + 1}": float(cd[i, j]) for i in (0, 1) for j in (0, 1)}
    if sip:
        keywords |= {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 4e-5, "A_1_1": -6e-5, "B_0_2": -7e-5, "B_2_1": 3e-7}
    keywords |= {"RA_REF": at[0], "DEC_REF": at[1], "ROLL_REF": roll + 0.4, "V3I_YANG": -0.4, "VPARITY": -1}
    corners = WCS(fits.Header(keywords)).all_pix2world(np.array([[0, 0], [nx, 0], [nx, ny], [0, ny]]) + 0.5, 1)
    return keywords | {"S_REGION": "POLYGON ICRS  " + " ".join(f"{v:.9f}" for v in corners.ravel())}


def sky_hdus(
    *,
    planes: int = 2,
    shape: tuple[int, int] = (24, 20),
    sky: dict[str, Any] | None = None,
    gwcs: bool = True,
    **keywords: Any,
) -> fits.HDUList:
    """A `_calints` with a WCS: keywords in SCI, and the same as a gwcs object in ASDF unless that is not wanted."""
    ids = {"PROGRAM": "01386", "OBSERVTN": "010", "VISIT": "001", "VISITGRP": "03", "SEQ_ID": "1", "ACT_ID": "06"}
    ids |= {"EXPOSURE": "00001", "DATAMODL": "CubeModel", "TELESCOP": "JWST", "CAL_VER": "1.2.3", "NINTS": planes}
    hdus = exposure_hdus((planes, *shape), asdf=None, **(ids | keywords))
    hdus["SCI"].header.update(pointing(shape) if sky is None else sky)
    hdus["ERR"].header["BUNIT"] = "MJy/sr"
    times = np.zeros(planes, [("integration_number", "i4"), *((name, "f8") for name in INT_TIMES)])
    times["integration_number"] = np.arange(planes) + 1
    hdus["INT_TIMES"] = fits.BinTableHDU(times, name="INT_TIMES")
    if gwcs:
        bare = Bare(hdus["SCI"].header, (planes, *shape))
        hdus.append(asdf_hdu(with_wcs(ASDF_TEXT, gwcs_from_keywords(bare), {})))
    return hdus


def sky_exposure(path: Path, **keywords: Any) -> Exposure:
    """Write and read `sky_hdus(**keywords)`."""
    sky_hdus(**keywords).writeto(path, overwrite=True)
    return read_exposure(path)


class Bare:
    """As much of an exposure as the WCS keywords need."""

    def __init__(self, header: fits.Header, shape: tuple[int, int, int]):
        self.path, self.sci_header, self.shape = Path("bare.fits"), header, shape

    def wcs(self) -> None:
        """There is none."""
        return


def gwcs_of(content: bytes) -> Any:
    """The object that gwcs makes of the WCS in the content of an ASDF extension."""
    with asdf.open(io.BytesIO(content)) as file:
        return file["meta"]["wcs"]
