"""Observe a star and its companions through a coronagraph, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coronjax.cube import DQ, Cube
from coronjax.errors import OptionsError

from .astrometry import Astrometry
from .companions import astrometry_of
from .detector import Detector, add_telegraph, make_detector
from .exposure import Bench, Scene, Taken, take
from .glow import glow_pattern
from .modes import Companion, Filter, Mode, find_mode
from .optics import mask_amplitude
from .scene import Pointing, plan, plan_backgrounds, stream
from .truth import Truth

Array = NDArray[np.floating[Any]]
Counts = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Observation:
    """An association in memory: what `simulate` writes into files, and what it would be without noise."""

    science: Cube  # [exp int y x] MJy/sr, arrays of numpy; shorter exposures end in planes that are not valid
    references: Cube  # [exp int y x]
    backgrounds: Cube | None  # [exp int y x] blank sky
    psf_mask: NDArray[np.float32]  # [y x] weight of the registration: 1 uses a pixel, 0 ignores it
    pixel_maps: Array  # [exp y x 2] (x, y) of every science pixel on an image of the science's shape, north up,
    # east left, with the star, where it is in truth, on the middle of pixel (nx // 2, ny // 2)
    truth: Truth
    pointings: tuple[Pointing, ...]  # science first, then references, then backgrounds
    expected_science: Array  # [exp y x] MJy/sr: star, companions and background left in, without noise, error of the
    # flat or hits; mean over the integrations
    expected_references: Array  # [exp y x] the same of the references
    expected_companions: Array  # [exp y x] the companions' part of the science


def mask_centre(shape: tuple[int, int]) -> tuple[float, float]:
    """Where on the detector the middle of the mask lies: (x, y), 0-based pixels; not on a pixel's middle.

    Example:
        >>> mask_centre((80, 80))
        (39.85, 39.3)
    """
    return round((shape[1] - 1) / 2 + 0.35, 6), round((shape[0] - 1) / 2 - 0.2, 6)


def _stack(taken: Sequence[Taken]) -> Cube:
    """Put exposures into one cube [exp int y x], the shorter ones filled up with planes that are not valid."""
    longest = max(len(t.integrations.sci) for t in taken)
    arrays: dict[str, Any] = {}
    for name in ("sci", "err", "dq", "var_poisson", "var_rnoise", "var_flat"):
        fill = DQ.DO_NOT_USE if name == "dq" else np.nan
        planes = [getattr(t.integrations, name) for t in taken]
        widths = [((0, longest - len(p)), (0, 0), (0, 0)) for p in planes]
        arrays[name] = np.stack([np.pad(p, w, constant_values=fill) for p, w in zip(planes, widths, strict=True)])
    arrays["valid"] = np.array([np.arange(longest) < len(t.integrations.sci) for t in taken])
    return Cube(**arrays)


def _psf_mask(scene: Scene, detector: Detector) -> NDArray[np.float32]:
    """Weight of each pixel in a registration: what the mask transmits there, nothing where there is no sky."""
    mode, filter = scene.coronagraph.mode, scene.coronagraph.filter
    x = (np.arange(scene.shape[1])[None, :] - scene.centre[0]) * mode.pixel_scale
    y = (np.arange(scene.shape[0])[:, None] - scene.centre[1]) * mode.pixel_scale
    weight = mask_amplitude(mode, filter, x, y) ** 2
    if mode.mask == "quadrants":  # the phase step at the boundaries
        weight = np.where(np.minimum(np.abs(x), np.abs(y)) < 1.5 * mode.pixel_scale, 0.0, weight)
    no_sky = (detector.dq & np.uint32(DQ.NON_SCIENCE)) != 0
    return np.where(no_sky, 0.0, weight).astype(np.float32)


def _pixel_map(astrometry: Astrometry, shape: tuple[int, int]) -> Array:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    east, north = astrometry.to_plane(x, y)
    return np.stack([shape[1] // 2 - east / astrometry.scale, shape[0] // 2 + north / astrometry.scale], axis=-1)


def _choose(companions: Sequence[Companion | tuple[float, float, float]] | None, default: tuple[Companion, ...],
            reach: float) -> tuple[Companion, ...]:  # fmt: skip
    """What the caller asks for, or those of the mode's usual companions that lie on the image."""
    if companions is None:
        return tuple(c for c in default if c.separation < reach)
    chosen = tuple(c if isinstance(c, Companion) else Companion(*c) for c in companions)
    for companion in chosen:
        if not 0 < companion.separation < reach:
            raise OptionsError(f"companion at {companion.separation} arcsec: the image reaches to {reach:.2f} arcsec")
    return chosen


def _counts(name: str, exposures: int, nints: Counts) -> tuple[int, ...]:
    """Integrations of every exposure."""
    found = (nints,) * exposures if isinstance(nints, int) else tuple(nints)
    if len(found) != exposures:
        raise OptionsError(f"{name}={found} must have a number for each of the {exposures} exposures")
    return found


def _check(
    size: tuple[int, int], counts: tuple[int, int, int], nints: tuple[int, ...], numbers: dict[str, float]
) -> None:
    """Refuse numbers that make no sense."""
    if min(*counts[:2], *nints) < 1 or counts[2] < 0 or min(size) < 32:
        raise OptionsError(f"{counts} exposures of {nints} integrations of {size}: one of 32 x 32 is the least")
    for name, value in numbers.items():
        most = 1 if name in ("telegraph", "negative") else np.inf
        if not 0 <= value <= most:
            raise OptionsError(f"{name}={value} must not be negative" + (" nor above 1" if most == 1 else ""))


def observe(
    mode: str,
    *,
    seed: int = 1,
    noise_seed: int | None = None,
    shape: tuple[int, int] | None = None,
    filter: str | None = None,
    n_science: int = 2,
    n_references: int | None = None,
    n_backgrounds: int = 0,
    nints_science: Counts | None = None,
    nints_references: Counts | None = None,
    roll: float = 10.0,
    companions: Sequence[Companion | tuple[float, float, float]] | None = None,
    distorted: bool = True,
    jitter_between: float = 0.0,
    drift_between: float = 0.0,
    telegraph: float = 0.0,
    negative: float = 0.0,
    crpix_error: float = 0.0,
    glow: float = 0.0,
) -> Observation:
    """Simulate an association in memory.

    Args:
        mode: `"nircam"`, `"nircam_bar"`, `"miri_4qpm"` or `"miri_lyot"`.
        seed: the same seed gives the same numbers.
        noise_seed: another seed for photon and read noise, hits and the levels of telegraph pixels; wavefronts,
            pointings and detector remain those of `seed`.
        shape: of the images, (ny, nx); by default the mode's whole subarray.
        filter: one of the mode's filters.
        n_science: number of exposures of the target.
        n_references: number of exposures of the reference star.
        n_backgrounds: number of exposures of blank sky, dithered, each as long as the first of the target.
        nints_science: integrations in each exposure of the target, one number or one for each exposure.
        nints_references: integrations in each exposure of the reference star, likewise.
        roll: angle from one exposure of the target to the next, degrees.
        companions: `Companion`s, or triples of separation (arcsec), position angle (degrees east of north) and
            contrast; by default two or three that suit the mode.
        distorted: false leaves the detector's distortion out.
        jitter_between: rms of the star's position from integration to integration, along each axis, mas.
        drift_between: rms difference between the wavefronts of two integrations of an exposure, nm.
        telegraph: share of the good pixels that jump between two levels from integration to integration, unflagged.
        negative: share of the hits that are negative.
        crpix_error: largest distance from the star to where keywords and gwcs of a file put it, pixels; each exposure
            has an error of its own.
        glow: peak of the instrument's own light, which all exposures have in common, over the background; MIRI only.

    Returns:
        `Observation`.

    Raises:
        OptionsError: no such mode or filter, a number that makes no sense, a companion beyond the image.

    Example:
        >>> observe("nircam", shape=(64, 64), n_references=1, nints_science=1, nints_references=2).references.sci.shape
        (1, 2, 64, 64)
    """
    of, chosen = find_mode(mode, filter)
    ny, nx = shape or of.shape
    counts = (n_science, of.n_references if n_references is None else n_references, n_backgrounds)
    nints = _counts("nints_science", counts[0], of.nints_science if nints_science is None else nints_science)
    usual = of.nints_references if nints_references is None else nints_references
    nints += _counts("nints_references", counts[1], usual)
    noise_seed = seed if noise_seed is None else noise_seed
    numbers = {"seed": seed, "noise_seed": noise_seed, "jitter_between": jitter_between, "glow": glow,
               "drift_between": drift_between, "telegraph": telegraph, "negative": negative,
               "crpix_error": crpix_error}  # fmt: skip
    _check((ny, nx), counts, nints, numbers)
    chosen_companions = _choose(companions, of.companions, (min(ny, nx) / 2 - 4) * of.pixel_scale)
    scene = Scene(mode, chosen.name, seed, (ny, nx), mask_centre((ny, nx)), chosen_companions, distorted,
                  jitter_between * 1e-3, drift_between * 1e-9)  # fmt: skip
    glowing = glow * chosen.background * glow_pattern(of, scene.shape, scene.centre) if glow else 0.0
    bench = Bench(scene, _detector(scene, of, chosen, telegraph), glowing, noise_seed, negative, crpix_error)
    pointings = plan(of, seed, counts[0], counts[1], roll) + plan_backgrounds(of, n_science, n_backgrounds)
    return _observe(bench, pointings, nints + nints[:1] * n_backgrounds)


def _detector(scene: Scene, mode: Mode, filter: Filter, telegraph: float) -> Detector:
    rng = stream(mode, scene.seed, "detector")
    odd = rng.spawn(1)[0]
    detector = make_detector(rng, mode, scene.shape, scene.centre)
    return add_telegraph(odd, detector, mode, filter, telegraph) if telegraph else detector


def _observe(bench: Bench, pointings: tuple[Pointing, ...], nints: tuple[int, ...]) -> Observation:
    scene, mode = bench.scene, bench.scene.coronagraph.mode
    kinds = [pointing.kind for pointing in pointings]
    n_stars = len(kinds) - kinds.count("background")
    taken = [take(bench, k, pointing, nints[k], n_stars) for k, pointing in enumerate(pointings)]
    science, references, backgrounds = (
        [t for t in taken if t.truth.kind == kind] for kind in ("science", "psf", "background")
    )
    truth = Truth(
        mode=mode.name,
        filter=scene.filter,
        seed=scene.seed,
        shape=scene.shape,
        distorted=scene.distorted,
        pixel_scale=mode.pixel_scale,
        mask_centre=scene.centre,
        companions=scene.companions,
        exposures=tuple(t.truth for t in taken),
    )
    return Observation(
        science=_stack(science),
        references=_stack(references),
        backgrounds=_stack(backgrounds) if backgrounds else None,
        psf_mask=_psf_mask(scene, bench.detector),
        pixel_maps=np.stack([_pixel_map(astrometry_of(truth, k), scene.shape) for k in range(len(science))]),
        truth=truth,
        pointings=pointings,
        expected_science=np.stack([t.expected for t in science]),
        expected_references=np.stack([t.expected for t in references]),
        expected_companions=np.stack([t.companions for t in science]),
    )
