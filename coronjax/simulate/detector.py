"""The detector: its bad pixels, flat field and noise, cosmic rays, saturation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coronjax.cube import DQ

from .modes import Filter, Mode
from .truth import CosmicRay, Telegraph

FLAT_ERROR = 0.002  # rms of the flat field's estimate
FIELD_STOP = 11.8  # half the side of MIRI's field, arcsec

Array = NDArray[np.floating[Any]]
Flags = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Detector:
    """What stays the same from exposure to exposure."""

    dq: Flags  # [y x]
    flat: Array  # [y x] response
    flat_estimate: Array  # [y x] what earlier stages divided by
    read_noise: Array  # [y x] e-, rms
    jumps: Array | None = None  # [y x] e-: by how much a pixel's level jumps, 0 for quiet pixels; None: all are quiet


@dataclass(frozen=True, eq=False)
class Integrations:
    """One exposure as it comes out of the earlier stages, MJy/sr."""

    sci: NDArray[np.float32]  # [int y x]
    err: NDArray[np.float32]
    dq: Flags
    var_poisson: NDArray[np.float32]
    var_rnoise: NDArray[np.float32]
    var_flat: NDArray[np.float32]
    cosmic_rays: tuple[CosmicRay, ...]
    telegraph: tuple[Telegraph, ...]


def _outside_field(mode: Mode, shape: tuple[int, int], centre: tuple[float, float]) -> NDArray[np.bool_]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    if mode.instrument == "NIRCAM":
        return np.asarray(x < 4)  # columns of reference pixels
    half = min(FIELD_STOP / mode.pixel_scale, 0.46 * min(shape))
    angle = np.deg2rad(mode.y_angle)  # the field stop is turned against the detector
    u, v = x - centre[0], y - centre[1]
    u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    if mode.mask == "quadrants":
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) > half)
    return np.asarray((np.abs(u) > 1.15 * half) | (np.abs(v) > half) | (np.abs(u - 0.4 * half) + v < -1.1 * half))


def make_detector(
    rng: np.random.Generator, mode: Mode, shape: tuple[int, int], centre: tuple[float, float]
) -> Detector:
    """Draw a detector.

    Args:
        rng: where the numbers come from.
        mode: whose detector it is.
        shape: of the image, (ny, nx).
        centre: of the mask, 0-based pixels (x, y); the field stop lies about it.

    Returns:
        `Detector`, with single hot, dead and warm pixels, two clusters of dead ones and pixels that see no sky.

    Example:
        >>> from coronjax.simulate.modes import MODES
        >>> int(make_detector(np.random.default_rng(1), MODES["nircam"], (64, 64), (32.0, 32.0)).dq[0, 0])
        2147484161
    """
    ny, nx = shape
    dq = np.zeros(shape, np.uint32)
    count = max(3, ny * nx // 1500)
    for flags in (DQ.HOT | DQ.DO_NOT_USE, DQ.DEAD | DQ.DO_NOT_USE, DQ.WARM):
        dq[rng.integers(0, ny, count), rng.integers(0, nx, count)] |= np.uint32(flags)
    for y, x, size in ((0.22, 0.68, 5), (0.80, 0.30, 3)):  # one larger and one as large as a repairing median's box
        corner = round(y * ny), round(x * nx)
        dq[corner[0] : corner[0] + size, corner[1] : corner[1] + size] |= np.uint32(DQ.DEAD | DQ.DO_NOT_USE)
    no_sky = DQ.NON_SCIENCE | DQ.DO_NOT_USE
    no_sky |= DQ.REFERENCE_PIXEL if mode.instrument == "NIRCAM" else DQ.NO_FLAT_FIELD
    dq[_outside_field(mode, shape, centre)] |= np.uint32(no_sky)
    flat = 1 + rng.normal(0, 0.01, shape)
    estimate = flat * (1 + rng.normal(0, FLAT_ERROR, shape))
    return Detector(dq, flat, estimate, mode.read_noise * np.exp(rng.normal(0, 0.06, shape)))


def add_telegraph(rng: np.random.Generator, detector: Detector, mode: Mode, filter: Filter, share: float) -> Detector:
    """Give pixels telegraph noise that no flag tells of.

    Args:
        rng: where the numbers come from.
        detector: from `make_detector`.
        mode: gives time and read noise.
        filter: gives the background.
        share: of the good pixels, in [0, 1].

    Returns:
        A `Detector` whose noisy pixels jump by 5 to 50 times the noise of an integration of blank sky.

    Example:
        >>> from coronjax.simulate.modes import find_mode
        >>> mode, filter = find_mode("nircam")
        >>> quiet = make_detector(np.random.default_rng(1), mode, (64, 64), (32.0, 32.0))
        >>> bool((add_telegraph(np.random.default_rng(2), quiet, mode, filter, 0.1).jumps > 0).sum() > 300)
        True
    """
    noise = np.sqrt(mode.read_noise**2 + filter.background * mode.integration)
    jumps = noise * 10 ** rng.uniform(0.7, 1.7, detector.dq.shape)
    noisy = (rng.random(detector.dq.shape) < share) & ((detector.dq & np.uint32(DQ.DO_NOT_USE)) == 0)
    return replace(detector, jumps=np.where(noisy, jumps, 0.0))


def _jump(rng: np.random.Generator, detector: Detector, sci: Array, per_electron: float) -> tuple[Telegraph, ...]:
    """Put every noisy pixel on one of its levels, integration by integration."""
    if detector.jumps is None:
        return ()
    found = []
    for y, x in np.argwhere(detector.jumps > 0).tolist():
        amplitude = float(detector.jumps[y, x] * per_electron / detector.flat_estimate[y, x])
        high = rng.random(len(sci)) < 0.5
        sci[:, y, x] += high * amplitude
        found.append(Telegraph(y, x, amplitude, tuple(high.tolist())))
    return tuple(found)


def _cosmic_rays(
    rng: np.random.Generator, sci: Array, sigma: Array, usable: NDArray[np.bool_], negative: float
) -> tuple[CosmicRay, ...]:
    """Add hits that the earlier stages have missed; half of them reach the next pixel too."""
    signs = rng.spawn(1)[0]
    nints, ny, nx = sci.shape
    inner = np.zeros((ny, nx), bool)
    inner[3:-3, 3:-3] = usable[3:-3, 3:-3] & usable[3:-3, 4:-2]
    places = np.argwhere(inner)
    rays = []
    for k in range(nints):
        for y, x in places[rng.choice(len(places), min(len(places), max(4, ny * nx // 2000)), replace=False)].tolist():
            sign = -1.0 if signs.random() < negative else 1.0
            significance = sign * float(10 ** rng.uniform(1.1, 2.3))
            amplitude = significance * float(sigma[k, y, x])
            sci[k, y, x] += amplitude
            if rng.random() < 0.5:
                sci[k, y, x + 1] += 0.4 * amplitude
            rays.append(CosmicRay(k, y, x, amplitude, significance))
    return tuple(rays)


def _saturation(detector: Detector, counts: Array, expected: Array) -> Flags:
    """Integrations are as long as the brightest pixels allow: these saturate, the very brightest beyond use."""
    usable = (detector.dq & np.uint32(DQ.DO_NOT_USE)) == 0
    peak = float(expected[..., usable].max())
    if peak == 0:  # blank sky, exposed as long as the star
        return np.zeros(counts.shape, np.uint32)
    saturated = np.where((counts > 0.9 * peak) & usable, DQ.SATURATED, 0)
    lost = np.where((counts > peak + np.sqrt(peak) / 2) & usable, DQ.SATURATED | DQ.DO_NOT_USE, 0)
    return (saturated | lost).astype(np.uint32)


def expose(
    rng: np.random.Generator,
    detector: Detector,
    mode: Mode,
    filter: Filter,
    rate: Array,
    nints: int,
    *,
    glow: Array | float = 0.0,
    negative: float = 0.0,
) -> Integrations:
    r"""Take an exposure and calibrate it as the earlier stages do.

    $$ d = \frac{P((r + b + g) f T) + R}{T \hat f} - b (1 - \epsilon), \qquad
       \sigma^2 = \frac{r + b + g}{T f} + \left( \frac{\sigma_R}{T f} \right)^2 + (0.002 \, d)^2 $$

    Args:
        rng: where the numbers come from.
        detector: from `make_detector`.
        mode: gives the integration time T and the share of the background b that is left in.
        filter: gives background and photometric scale.
        rate: what the optics put on the detector, [y x], or [int y x] where the integrations differ, e-/s.
        nints: number of integrations.
        glow: light g of the instrument itself, which earlier stages leave in, [y x], e-/s.
        negative: share of the hits that are negative.

    Returns:
        `Integrations`; NaN wherever DQ has DO_NOT_USE.

    Example:
        >>> from coronjax.simulate.modes import find_mode
        >>> mode, filter = find_mode("nircam")
        >>> rng = np.random.default_rng(1)
        >>> detector = make_detector(rng, mode, (64, 64), (32.0, 32.0))
        >>> expose(rng, detector, mode, filter, np.ones((64, 64)), 2).sci.shape
        (2, 64, 64)
    """
    planes, time, sky = (nints, *rate.shape[-2:]), mode.integration, filter.background + glow
    electrons = rng.poisson(np.broadcast_to((rate + sky) * detector.flat * time, planes))
    sci = (electrons + rng.normal(size=planes) * detector.read_noise) / (time * detector.flat_estimate)
    sci = sci - filter.background * (1 - mode.background_left)
    var_poisson = np.broadcast_to((rate + sky) / (time * detector.flat), planes).copy()
    var_rnoise = np.broadcast_to((detector.read_noise / (time * detector.flat)) ** 2, planes).copy()
    var_flat = (FLAT_ERROR * sci) ** 2
    dq = np.broadcast_to(detector.dq, planes).copy()
    dq |= _saturation(detector, electrons - sky * time, rate * time)
    dq[rng.random(planes) < 0.003] |= np.uint32(DQ.JUMP_DET)  # seen and mended by the earlier stages
    scale = filter.photmjsr
    sci, var_poisson, var_rnoise, var_flat = (sci * scale, *(v * scale**2 for v in (var_poisson, var_rnoise, var_flat)))
    sigma = np.sqrt(var_poisson + var_rnoise + var_flat)
    telegraph = _jump(rng.spawn(1)[0], detector, sci, scale / time)
    rays = _cosmic_rays(rng, sci, sigma, (dq & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)).max(0) == 0, negative)
    bad = (dq & np.uint32(DQ.DO_NOT_USE)) != 0
    floats = (np.where(bad, np.nan, a).astype(np.float32) for a in (sci, sigma, var_poisson, var_rnoise, var_flat))
    sci32, err32, poisson32, rnoise32, flat32 = floats
    return Integrations(sci32, err32, dq, poisson32, rnoise32, flat32, rays, telegraph)
