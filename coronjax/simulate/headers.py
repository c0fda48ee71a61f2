"""The headers of a simulated exposure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .modes import Filter, Mode
from .optics import ARCSEC
from .scene import Pointing

Card = tuple[str, Any, str]

PROGRAM = "09999"
START = datetime(2026, 3, 10, 2, 0, 0)
DAY = 86400.0
BARYCENTRIC = (69.184 + 240.0) / DAY  # from UTC to TDB, and the light's way to the barycentre
COMPLETE = ("WCS", "DQINIT", "FLAT", "GANSCL", "JUMP", "LINEAR", "PHOTOM", "RAMP", "REFPIX", "SATURA")


def start_time(pointings: tuple[Pointing, ...], nints: tuple[int, ...], integration: float, k: int) -> datetime:
    """When exposure k begins: one after the other, with an hour between visits and two minutes between dithers.

    Example:
        >>> start_time((), (), 0.0, 0).isoformat()
        '2026-03-10T02:00:00'
    """
    seconds = 0.0
    for before, after, n in zip(pointings[:k], pointings[1 : k + 1], nints[:k], strict=True):
        seconds += n * integration + (3600.0 if after.observation != before.observation else 120.0)
    return START + timedelta(seconds=seconds)


def _mjd(time: datetime) -> float:
    return time.toordinal() - 678576 + (time - datetime(time.year, time.month, time.day)).total_seconds() / DAY


def file_name(mode: Mode, pointing: Pointing) -> str:
    """Name of an exposure's file.

    Example:
        >>> from coronjax.simulate.modes import MODES
        >>> file_name(MODES["miri_lyot"], Pointing("science", 1, 1, (0, 0), (0, 0), 0.0, (0, 0), 1.0))
        'jw09999001001_03102_00001_mirimage_calints.fits'
    """
    visit, exposure = f"{PROGRAM}{pointing.observation:03d}001", f"03102_{pointing.position:05d}"
    return f"jw{visit}_{exposure}_{mode.detector.lower()}_calints.fits"


def primary_cards(
    mode: Mode, filter: Filter, pointing: Pointing, shape: tuple[int, int], begin: datetime, nints: int, dithers: int
) -> list[Card]:
    """The keywords of the primary header.

    Args:
        mode: of the exposure.
        filter: of the exposure.
        pointing: of the exposure.
        shape: of the images, (ny, nx).
        begin: when it began.
        nints: number of integrations.
        dithers: number of exposures of the pattern.

    Returns:
        Keyword, value and comment of every card.
    """
    return [
        *_observation_cards(mode, pointing, begin, nints),
        *_target_cards(mode, filter, pointing),
        *_timing_cards(mode, begin, nints),
        *_setting_cards(mode, filter, pointing, shape, dithers),
    ]


def _observation_cards(mode: Mode, pointing: Pointing, begin: datetime, nints: int) -> list[Card]:
    end = begin + timedelta(seconds=nints * mode.integration)
    visit = f"{PROGRAM}{pointing.observation:03d}001"
    return [
        ("ORIGIN", "coronjax", "simulation"),
        ("TIMESYS", "UTC", "time system"),
        ("FILENAME", file_name(mode, pointing), "name of this file"),
        ("CAL_VER", "3.0.0", "version of the calibration that is imitated"),
        ("DATAMODL", "CubeModel", "type of data"),
        ("TELESCOP", "JWST", "telescope"),
        ("DATE-OBS", begin.date().isoformat(), "day at start of exposure"),
        ("TIME-OBS", begin.time().isoformat("milliseconds"), "time at start of exposure"),
        ("DATE-BEG", begin.isoformat(timespec="milliseconds"), "start of exposure"),
        ("DATE-END", end.isoformat(timespec="milliseconds"), "end of exposure"),
        ("OBS_ID", f"V{visit}P0000000003102", "observation"),
        ("VISIT_ID", visit, "visit"),
        ("PROGRAM", PROGRAM, "program number"),
        ("OBSERVTN", f"{pointing.observation:03d}", "observation number"),
        ("VISIT", "001", "visit number"),
        ("VISITGRP", "03", "visit group"),
        ("SEQ_ID", "1", "parallel sequence"),
        ("ACT_ID", "02", "activity"),
        ("EXPOSURE", f"{pointing.position}", "exposure number"),
        ("VISITYPE", "PRIME_TARGETED_FIXED", "type of visit"),
        ("VISITSTA", "SUCCESSFUL", "status of visit"),
        ("TSOVISIT", False, "time series"),
    ]


def _target_cards(mode: Mode, filter: Filter, pointing: Pointing) -> list[Card]:
    name = {"science": "TARGET", "psf": "REFERENCE", "background": "TARGET-BACKGROUND"}[pointing.kind]
    cards: list[Card] = [
        ("TARGPROP", name, "proposer's name of the target"),
        ("TARGNAME", name, "catalogue name of the target"),
        ("TARGTYPE", "FIXED", "type of target"),
        ("TARG_RA", pointing.sky[0], "[deg] right ascension of the target"),
        ("TARG_DEC", pointing.sky[1], "[deg] declination of the target"),
        ("INSTRUME", mode.instrument, "instrument"),
        ("DETECTOR", mode.detector, "detector"),
        ("FILTER", filter.name, "filter"),
        ("CORONMSK", filter.coronagraph, "coronagraph mask"),
        ("EXP_TYPE", mode.exp_type, "type of exposure"),
        ("IS_PSF", pointing.kind == "psf", "reference star"),
    ]
    if pointing.kind == "background":
        cards.append(("BKGDTARG", True, "blank sky"))
    for keyword, value in (("MODULE", mode.module), ("CHANNEL", mode.channel), ("PUPIL", mode.pupil)):
        if value is not None:
            cards.append((keyword, value, keyword.lower()))
    return cards


def _timing_cards(mode: Mode, begin: datetime, nints: int) -> list[Card]:
    first, span, groups = _mjd(begin), nints * mode.integration, 10
    return [
        ("EXPSTART", first, "[d] start of exposure, MJD"),
        ("EXPMID", first + span / 2 / DAY, "[d] middle of exposure, MJD"),
        ("EXPEND", first + span / DAY, "[d] end of exposure, MJD"),
        ("READPATT", mode.readout, "readout pattern"),
        ("NINTS", nints, "number of integrations"),
        ("INTSTART", 1, "first integration"),
        ("INTEND", nints, "last integration"),
        ("NGROUPS", groups, "groups in an integration"),
        ("NFRAMES", 1, "frames in a group"),
        ("GROUPGAP", 0, "frames dropped between groups"),
        ("TFRAME", mode.integration / groups, "[s] time between frames"),
        ("TGROUP", mode.integration / groups, "[s] time between groups"),
        ("EFFINTTM", mode.integration, "[s] effective integration time"),
        ("EFFEXPTM", span, "[s] effective exposure time"),
        ("TMEASURE", span, "[s] measurement time"),
        ("DURATION", span, "[s] duration of exposure"),
    ]


def _setting_cards(mode: Mode, filter: Filter, pointing: Pointing, shape: tuple[int, int], dithers: int) -> list[Card]:
    steps = ("S_SUPERB",) if mode.instrument == "NIRCAM" else ("S_DARK", "S_RSCD")
    return [
        ("SUBARRAY", filter.subarray, "subarray"),
        ("SUBSTRT1", mode.start[0], "its first pixel in x, from 1"),
        ("SUBSTRT2", mode.start[1], "its first pixel in y, from 1"),
        ("SUBSIZE1", shape[1], "its size in x"),
        ("SUBSIZE2", shape[0], "its size in y"),
        ("FASTAXIS", mode.fast_axis, "fast readout axis"),
        ("SLOWAXIS", 2, "slow readout axis"),
        ("PATTTYPE", "NONE", "dither pattern"),
        ("SUBPXPAT", "SMALL-GRID-DITHER" if pointing.kind == "psf" else "NONE", "subpixel pattern"),
        ("PATT_NUM", pointing.position, "position in the pattern"),
        ("NUMDTHPT", dithers, "number of positions"),
        ("XOFFSET", pointing.step[0], "[arcsec] offset in x"),
        ("YOFFSET", pointing.step[1], "[arcsec] offset in y"),
        ("APERNAME", mode.aperture, "science aperture"),
        ("GS_V3_PA", pointing.roll, "[deg] position angle of V3"),
        ("CRDS_VER", "13.0.0", "reference file system"),
        ("CRDS_CTX", "jwst_1413.pmap", "reference file context"),
        *((keyword, "COMPLETE", "calibration step") for keyword in (*(f"S_{name}" for name in COMPLETE), *steps)),
    ]


def science_cards(mode: Mode, filter: Filter, pointing: Pointing, nints: int) -> list[Card]:
    """The keywords of the SCI extension besides the world coordinates.

    Example:
        >>> from coronjax.simulate.modes import find_mode
        >>> mode, filter = find_mode("nircam")
        >>> science_cards(mode, filter, Pointing("psf", 1, 1, (0, 0), (0, 0), 0.0, (0, 0), 1.0), 2)[0][0]
        'XPOSURE'
    """
    span = nints * mode.integration
    return [
        ("XPOSURE", span, "[s] effective exposure time"),
        ("TELAPSE", span, "[s] elapsed time"),
        ("PA_APER", (pointing.roll + mode.y_angle) % 360, "[deg] position angle of the aperture"),
        ("BUNIT", "MJy/sr", "unit"),
        ("PHOTMJSR", filter.photmjsr, "[MJy/sr] of one count per second"),
        ("PHOTUJA2", filter.photmjsr * 1e12 * ARCSEC**2, "[uJy/arcsec2] of one count per second"),
        ("PIXAR_SR", (mode.pixel_scale * ARCSEC) ** 2, "[sr] nominal area of a pixel"),
        ("PIXAR_A2", mode.pixel_scale**2, "[arcsec2] nominal area of a pixel"),
        ("RA_V1", pointing.sky[0], "[deg] right ascension of V1"),
        ("DEC_V1", pointing.sky[1], "[deg] declination of V1"),
        ("PA_V3", pointing.roll, "[deg] position angle of V3"),
    ]


def integration_times(mode: Mode, begin: datetime, nints: int) -> NDArray[Any]:
    """The INT_TIMES table.

    Example:
        >>> from coronjax.simulate.modes import MODES
        >>> integration_times(MODES["nircam"], START, 3)["integration_number"].tolist()
        [1, 2, 3]
    """
    names = [f"int_{when}_{system}" for system in ("MJD_UTC", "BJD_TDB") for when in ("start", "mid", "end")]
    table = np.zeros(nints, dtype=[("integration_number", "i4"), *((name, "f8") for name in names)])
    table["integration_number"] = np.arange(1, nints + 1)
    for name, part in zip(names, (0.0, 0.5, 1.0) * 2, strict=True):
        later = BARYCENTRIC if name.endswith("TDB") else 0.0
        table[name] = _mjd(begin) + (np.arange(nints) + part) * mode.integration / DAY + later
    return table
