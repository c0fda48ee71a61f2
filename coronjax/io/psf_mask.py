"""The PSFMASK: how much each pixel counts in the registration of reference images."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from ..errors import ExposureError
from .exposure import Exposure, ExposureHeaders
from .fits_file import FitsFile, open_fits


@dataclass(frozen=True, eq=False)
class PsfMask:
    """Weights of the registration residual, and where they come from."""

    weight: np.ndarray  # [y x] float32, finite; 1: use the pixel, 0: ignore it
    source: str  # name for the keyword R_PSFMAS: a file's, "array", or "N/A" for uniform weights
    note: str = ""  # what a user should know of it, a sentence; empty: nothing

    def __repr__(self) -> str:
        """Size, source and note."""
        ny, nx = self.weight.shape
        note = f"; {self.note}" if self.note else ""
        return f"PsfMask {self.source}: {ny} x {nx} pixels, mean weight {self.weight.mean():.3f}{note}"


def read_psf_mask(source: str | Path | np.ndarray | None, exposure: Exposure | ExposureHeaders) -> PsfMask:
    """The registration weights for an exposure: given by the caller, else from a local CRDS cache, else uniform.

    Args:
        source: an array [y x]; a FITS file with the array in its SCI extension or, failing that, its primary HDU; or
            None: the `crds` package then chooses the reference file where it is installed and CRDS_PATH names a cache
            (from the cache alone unless the user's CRDS_SERVER_URL lets it ask a server).
        exposure: the science exposure that the weights are for; its shape, and the keywords that select a mask.

    Returns:
        `PsfMask`. Weights that are not finite become 0, with a note.

    Raises:
        ExposureError: the file cannot be read, or the array is not of the exposures' image size, not numeric, negative
            somewhere or zero everywhere.

    Example:
        >>> headers = ExposureHeaders(Path("sci.fits"), fits.Header(), {"SCI": fits.Header()}, (1, 4, 4))
        >>> read_psf_mask(np.eye(4), headers)
        PsfMask array: 4 x 4 pixels, mean weight 0.250

    Source: JWST PSFMASK reference files hold weights (1 = use), whatever their documentation says.
    """
    shape = exposure.shape[1:]
    if source is None:
        found, reason = _find_in_crds(exposure)
        if found is None:
            note = f"no PSF mask was given and {reason}: every pixel counts the same in the registration"
            return PsfMask(np.ones(shape, np.float32), "N/A", note)
        weight, notes = _read_file(found, exposure)
        return _checked(weight, shape, found, f"crds://{found.name}", notes)
    if isinstance(source, str | Path):
        weight, notes = _read_file(Path(source), exposure)
        return _checked(weight, shape, Path(source), Path(source).name, notes)
    return _checked(np.asarray(source), shape, None, "array", [])


def _checked(weight: np.ndarray, shape: tuple[int, ...], file: Path | None, source: str, notes: list[str]) -> PsfMask:
    if weight.shape != shape:
        message = f"a PSF mask must have the image size of the exposures (y, x), {shape}"
        raise ExposureError(message, file=file, keyword="PSF mask shape", value=weight.shape)
    if weight.dtype.kind not in "buif":
        raise ExposureError("a PSF mask holds numbers", file=file, keyword="PSF mask type", value=str(weight.dtype))
    weight = np.array(weight, np.float32)
    bad = ~np.isfinite(weight)
    if bad.any():
        weight[bad] = 0
        notes.append(f"{bad.sum()} weights that are not finite were set to 0")
    if (weight < 0).any():
        message = "a PSF mask holds weights from 0 (ignore) to 1 (use)"
        raise ExposureError(message, file=file, keyword="PSF mask minimum", value=float(weight.min()))
    if not weight.any():
        raise ExposureError("the PSF mask leaves no pixel", file=file, keyword="PSF mask maximum", value=0.0)
    return PsfMask(weight, source, "; ".join(notes))


def _read_file(path: Path, exposure: Exposure | ExposureHeaders) -> tuple[np.ndarray, list[str]]:
    with open_fits(path) as file:
        hdu = file.find("SCI")
        weight = file.pixels(file.hdus[0] if hdu is None else hdu, np.float32)
        if weight is None:
            message = "neither a SCI extension nor the primary HDU holds a mask"
            raise ExposureError(message, file=path, keyword="EXTNAME", value=[hdu.name for hdu in file.hdus])
        notes = _mismatches(file, exposure)
    return weight, notes + [f"reading: {note}" for note in file.notes]


def _mismatches(file: FitsFile, exposure: Exposure | ExposureHeaders) -> list[str]:
    """Keywords that select a mask and differ from the exposure's; CORONMSK of older masks lacks the module's letter."""
    header: fits.Header = file.hdus[0].header
    notes = []
    for keyword in ("INSTRUME", "FILTER", "CORONMSK", "SUBARRAY"):
        ours, its = exposure.keyword(keyword), header.get(keyword)
        older = isinstance(ours, str) and its == ours.replace("MASKA", "MASK")
        if its not in (None, "ANY", "N/A", "GENERIC", ours) and not older:
            notes.append(f"the mask is for {keyword}={its!r}, the exposures have {ours!r}")
    return notes


def _find_in_crds(exposure: Exposure | ExposureHeaders) -> tuple[Path | None, str]:
    """The reference file that CRDS chooses, or None and why there is none."""
    cache = os.environ.get("CRDS_PATH", "")
    if not cache or not Path(cache).is_dir():
        return None, "CRDS_PATH names no CRDS cache"
    try:
        crds: Any = importlib.import_module("crds")
    except ImportError:
        return None, "the crds package is not installed"
    keywords = {
        "META.INSTRUMENT.NAME": "INSTRUME",
        "META.INSTRUMENT.DETECTOR": "DETECTOR",
        "META.INSTRUMENT.FILTER": "FILTER",
        "META.INSTRUMENT.CORONAGRAPH": "CORONMSK",
        "META.SUBARRAY.NAME": "SUBARRAY",
        "META.EXPOSURE.TYPE": "EXP_TYPE",
        "META.OBSERVATION.DATE": "DATE-OBS",
        "META.OBSERVATION.TIME": "TIME-OBS",
    }
    parameters = {name: value for name, key in keywords.items() if (value := exposure.keyword(key)) is not None}
    parameters["META.TELESCOPE"] = "JWST"
    try:
        found = crds.getreferences(parameters, reftypes=["psfmask"], observatory="jwst")["psfmask"]
    except (Exception, SystemExit) as error:  # no rules, no network, no match; an empty cache makes crds exit
        return None, f"CRDS found none ({' '.join(str(error).split())})"
    if "N/A" in found.upper() or not Path(found).is_file():
        return None, f"CRDS found none ({found})"
    return Path(found), ""
