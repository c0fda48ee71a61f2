"""The four coronagraphic modes of JWST: their optics, detectors, headers and usual observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coronjax.errors import OptionsError


@dataclass(frozen=True)
class Companion:
    """A point source beside the star."""

    separation: float  # arcsec
    position_angle: float  # degrees, east of north
    contrast: float  # its flux over the star's, both before the coronagraph


@dataclass(frozen=True)
class Filter:
    """A filter, and the mask that goes with it."""

    name: str
    wavelength: float  # metres
    width: float  # of the band, over its wavelength
    nodes: int  # wavelengths that stand for the band
    mask_size: float  # arcsec: half width at half maximum of a round mask or bar, radius of a spot
    coronagraph: str
    subarray: str
    star: float  # e-/s of the target star, before the coronagraph
    background: float  # e-/s/pixel
    photmjsr: float  # MJy/sr for 1 e-/s/pixel
    wide_stop: bool = False  # the Lyot stop opens half of the pupil and favours its edge, as undersampling needs


@dataclass(frozen=True)
class Mode:
    """What an instrument's coronagraph needs to be simulated. Lengths in metres, angles in arcsec, times in seconds."""

    name: str
    instrument: str
    exp_type: str
    detector: str
    module: str | None
    channel: str | None
    pupil: str | None
    readout: str
    shape: tuple[int, int]  # of the subarray (ny, nx)
    start: tuple[int, int]  # its first pixel on the detector (x, y), from 1
    fast_axis: int
    pixel_scale: float  # arcsec
    aperture: str  # name of the science aperture
    reference: tuple[float, float]  # V2, V3, arcsec
    y_angle: float  # of the y axis from V3, degrees
    mask: Literal["round", "bar", "quadrants", "spot"]
    pupil_angle: float  # of the pupil on the detector, degrees
    stop: float  # share of the pupil that the Lyot stop lets through
    filters: tuple[Filter, ...]
    filter: str  # unless another is asked for
    wavefront: float  # rms error, metres
    drift: float  # rms change from exposure to exposure, metres
    acquisition: float  # rms error of each axis when a star is put behind the mask
    pointing: float  # rms error of each axis of a dither
    jitter: float  # rms motion of each axis within an exposure
    dither: float  # step of the small grid
    integration: float  # time
    read_noise: float  # e-
    background_left: float  # share of the background that earlier stages leave in
    n_references: int
    nints_science: int
    nints_references: int
    companions: tuple[Companion, ...]
    coordinates: tuple[float, float]  # of the target, right ascension and declination, degrees


def _nircam(name: str, wavelength: float, width: float, nodes: int, mask: str, star: float, photmjsr: float) -> Filter:
    size = 0.63 if mask == "MASKA335R" else 4 * wavelength / 6.5 * 206265
    subarray, wide = f"SUB320{mask[4:]}", wavelength < 3.1e-6
    return Filter(name, wavelength, width, nodes, size, mask, subarray, star, 1.5, photmjsr, wide)


def _quadrants(name: str, wavelength: float, star: float, background: float, photmjsr: float) -> Filter:
    number = name[1:-1]
    mask, subarray = f"4QPM_{number}", f"MASK{number}"
    return Filter(name, wavelength, 0.06, 3, 0.0, mask, subarray, star, background, photmjsr)


_ROUND = Mode(
    name="nircam", instrument="NIRCAM", exp_type="NRC_CORON", detector="NRCALONG", module="A", channel="LONG",
    pupil="MASKRND", readout="MEDIUM8", shape=(320, 320), start=(492, 1502), fast_axis=-1, pixel_scale=0.063,
    aperture="NRCA5_MASK335R", reference=(107.309, -405.150), y_angle=0.054, mask="round", pupil_angle=0.0, stop=0.3,
    filters=(
        _nircam("F250M", 2.503e-6, 0.072, 3, "MASKA335R", 4.0e7, 1.10),
        _nircam("F300M", 2.996e-6, 0.107, 3, "MASKA335R", 4.9e7, 0.66),
        _nircam("F335M", 3.365e-6, 0.10, 3, "MASKA335R", 3.6e7, 0.68),
        _nircam("F356W", 3.563e-6, 0.22, 5, "MASKA335R", 8.0e7, 0.30),
        _nircam("F410M", 4.084e-6, 0.10, 3, "MASKA335R", 3.0e7, 0.70),
        _nircam("F430M", 4.281e-6, 0.053, 3, "MASKA335R", 2.0e7, 1.10),
        _nircam("F444W", 4.421e-6, 0.23, 5, "MASKA335R", 6.0e7, 0.32),
    ),
    filter="F430M", wavefront=55e-9, drift=2.0e-9, acquisition=0.012, pointing=0.002, jitter=0.001, dither=0.020,
    integration=150.0, read_noise=11.0, background_left=1.0, n_references=9, nints_science=4, nints_references=3,
    companions=(Companion(0.6, 65.0, 2e-4), Companion(1.2, 200.0, 4e-5), Companion(2.2, 310.0, 1.5e-5)),
    coordinates=(86.8212, -51.0665),
)  # fmt: skip

_BAR = Mode(
    name="nircam_bar", instrument="NIRCAM", exp_type="NRC_CORON", detector="NRCALONG", module="A", channel="LONG",
    pupil="MASKBAR", readout="MEDIUM8", shape=(320, 320), start=(205, 1502), fast_axis=-1, pixel_scale=0.063,
    aperture="NRCA5_MASKLWB", reference=(87.6, -404.8), y_angle=0.10, mask="bar", pupil_angle=0.0, stop=0.3,
    filters=(
        _nircam("F335M", 3.365e-6, 0.10, 3, "MASKALWB", 3.6e7, 0.68),
        _nircam("F430M", 4.281e-6, 0.053, 3, "MASKALWB", 2.0e7, 1.10),
        _nircam("F444W", 4.421e-6, 0.23, 5, "MASKALWB", 6.0e7, 0.32),
    ),
    filter="F430M", wavefront=55e-9, drift=2.0e-9, acquisition=0.012, pointing=0.002, jitter=0.001, dither=0.020,
    integration=150.0, read_noise=11.0, background_left=1.0, n_references=5, nints_science=4, nints_references=3,
    companions=(Companion(0.9, 40.0, 1.5e-4), Companion(1.7, 175.0, 4e-5), Companion(2.6, 300.0, 1.5e-5)),
    coordinates=(86.8212, -51.0665),
)  # fmt: skip

_QUADRANTS = Mode(
    name="miri_4qpm", instrument="MIRI", exp_type="MIR_4QPM", detector="MIRIMAGE", module=None, channel=None,
    pupil=None, readout="FASTR1", shape=(224, 288), start=(1, 467), fast_axis=1, pixel_scale=0.110,
    aperture="MIRIM_MASK1550", reference=(-389.76, -415.19), y_angle=4.835, mask="quadrants", pupil_angle=0.0, stop=0.6,
    filters=(
        _quadrants("F1065C", 10.575e-6, 8.0e6, 250.0, 0.030),
        _quadrants("F1140C", 11.30e-6, 8.0e6, 350.0, 0.030),
        _quadrants("F1550C", 15.50e-6, 6.0e6, 900.0, 0.035),
    ),
    filter="F1550C", wavefront=70e-9, drift=4e-9, acquisition=0.006, pointing=0.002, jitter=0.001, dither=0.010,
    integration=120.0, read_noise=30.0, background_left=0.004, n_references=9, nints_science=4, nints_references=3,
    companions=(Companion(1.8, 100.0, 1.5e-3), Companion(3.2, 250.0, 8e-4)),
    coordinates=(351.8900, 12.2346),
)  # fmt: skip

_SPOT = Mode(
    name="miri_lyot", instrument="MIRI", exp_type="MIR_LYOT", detector="MIRIMAGE", module=None, channel=None,
    pupil=None, readout="FASTR1", shape=(304, 320), start=(1, 717), fast_axis=1, pixel_scale=0.110,
    aperture="MIRIM_MASKLYOT", reference=(-391.7, -386.6), y_angle=4.835, mask="spot", pupil_angle=0.0, stop=0.7,
    filters=(Filter("F2300C", 22.75e-6, 0.22, 5, 2.16, "LYOT_2300", "MASKLYOT", 5.0e6, 3000.0, 0.05),),
    filter="F2300C", wavefront=70e-9, drift=5e-9, acquisition=0.010, pointing=0.002, jitter=0.001, dither=0.010,
    integration=120.0, read_noise=30.0, background_left=0.002, n_references=5, nints_science=4, nints_references=3,
    companions=(Companion(3.4, 40.0, 6e-3), Companion(4.6, 190.0, 4e-3)),
    coordinates=(351.8900, 12.2346),
)  # fmt: skip

MODES: dict[str, Mode] = {mode.name: mode for mode in (_ROUND, _BAR, _QUADRANTS, _SPOT)}


def find_mode(name: str, filter: str | None = None) -> tuple[Mode, Filter]:
    """Look up a mode and a filter of it.

    Args:
        name: `"nircam"`, `"nircam_bar"`, `"miri_4qpm"` or `"miri_lyot"`.
        filter: one of the mode's filters; by default the one it is most used with.

    Returns:
        The mode and the filter.

    Raises:
        OptionsError: there is no such mode or filter.

    Example:
        >>> find_mode("nircam")[1].name
        'F430M'
    """
    if name not in MODES:
        raise OptionsError(f"mode {name!r} is unknown; known are {', '.join(MODES)}")
    mode = MODES[name]
    for known in mode.filters:
        if known.name == (filter or mode.filter):
            return mode, known
    names = ", ".join(known.name for known in mode.filters)
    raise OptionsError(f"filter {filter!r} is none of {mode.name}'s, which are {names}")
