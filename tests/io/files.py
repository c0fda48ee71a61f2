"""Tiny files in the JWST formats, written by astropy alone, for the tests of reading."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ABSENT = "../shared/data is absent"

ASDF_TEXT = b"""#ASDF 1.0.0
#ASDF_STANDARD 1.5.0
%YAML 1.1
%TAG ! tag:stsci.edu:asdf/
--- !core/asdf-1.1.0
data: !core/ndarray-1.0.0
  source: fits:SCI,1
  datatype: float32
  byteorder: big
  shape: [2, 5, 4]
meta: {author: somebody, instrument: {name: NIRCAM}}
...
"""


def exposure_hdus(
    shape: tuple[int, int, int] = (2, 5, 4), asdf: bytes | None = ASDF_TEXT, **keywords: Any
) -> fits.HDUList:
    """A `_calints`: SCI counts up from 0, ERR is 1, one DQ bit 2^31 is set; `keywords` go to the primary header."""
    header = fits.Header()
    standard = {"INSTRUME": "NIRCAM", "DETECTOR": "NRCALONG", "FILTER": "F430M", "PUPIL": "MASKRND"}
    standard |= {"CORONMSK": "MASKA335R", "SUBARRAY": "SUB320A335R", "APERNAME": "NRCA5_MASK335R"}
    standard |= {"EXP_TYPE": "NRC_CORON", "TARGPROP": "HIP-65426"}
    header.update({key: value for key, value in (standard | keywords).items() if value is not None})
    sci = np.arange(np.prod(shape), dtype=">f4").reshape(shape)
    dq = np.zeros(shape, np.uint32)
    dq[0, 0, 0] = 2**31
    times = np.zeros(shape[0], [("integration_number", "i4"), ("int_start_MJD_UTC", "f8")])
    times["integration_number"] = np.arange(shape[0]) + 1
    hdus = fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(sci, name="SCI")])
    hdus["SCI"].header["BUNIT"] = "MJy/sr"
    hdus += [fits.ImageHDU(np.ones(shape, ">f4"), name="ERR"), fits.ImageHDU(dq, name="DQ")]
    hdus += [fits.ImageHDU(np.ones(shape[1:], ">f4"), name="AREA"), fits.BinTableHDU(times, name="INT_TIMES")]
    for k, name in enumerate(("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")):
        hdus.append(fits.ImageHDU(np.full(shape, 0.1 * (k + 1), ">f4"), name=name))
    if asdf is not None:
        column = fits.Column(name="ASDF_METADATA", format=f"{len(asdf)}B", array=[np.frombuffer(asdf, np.uint8)])
        hdus.append(fits.BinTableHDU.from_columns([column], name="ASDF"))
    return hdus


def write_exposure(path: Path, **keywords: Any) -> Path:
    """Write `exposure_hdus(**keywords)`."""
    exposure_hdus(**keywords).writeto(path, overwrite=True)
    return path


def association(**changes: Any) -> dict[str, Any]:
    """The content of a sound association of one science and two psf members; a change to None removes the field."""
    members = [("sci1.fits", "science"), ("psf1.fits", "psf"), ("psf2.fits", "psf")]
    product = {"name": "jw00001_t001", "members": [{"expname": name, "exptype": kind} for name, kind in members]}
    content = {"asn_type": "coron3", "asn_id": "c1001", "asn_pool": "pool.csv", "products": [product]} | changes
    return {key: value for key, value in content.items() if value is not None}


def write_association(
    folder: Path, content: dict[str, Any], *, files: tuple[str, ...] = ("sci1.fits", "psf1.fits", "psf2.fits")
) -> Path:
    """Write an association and, as its members, empty files, which reading an association does not open."""
    for name in files:
        (folder / name).touch()
    path = folder / "obs_asn.json"
    path.write_text(json.dumps(content, indent=1))
    return path
