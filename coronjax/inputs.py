"""Read an association into the arrays that `reduce` takes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .advice import option_notes
from .options import Options

if TYPE_CHECKING:
    from .cube import Cube
    from .io.association import Association
    from .io.background import BackgroundImage
    from .io.exposure import Exposure
    from .io.psf_mask import PsfMask
    from .io.star_wcs import CommonStar
    from .io.wcs import OutputGrid

_CACHE_LINE = 64  # bytes


@dataclass(frozen=True)
class Inputs:
    """An association in memory: everything that `reduce` takes, and what the products need of the files."""

    association: Association
    science_exposures: tuple[Exposure, ...]  # less their background; as read otherwise
    reference_exposures: tuple[Exposure, ...]
    mask: PsfMask
    grid: OutputGrid | None  # None: resampling is skipped
    science: Cube  # [exp int y x], numpy, padded
    references: Cube  # [exp int y x], numpy, padded
    pixel_maps: np.ndarray  # [exp y x 2]
    visited: np.ndarray  # [exp y x], pixels that are resampled
    window: int
    star: CommonStar  # where every science exposure has the star
    corrected: tuple[Exposure, ...]  # science exposures whose WCS agree on the star
    backgrounds: tuple[BackgroundImage | None, ...]  # that were subtracted from each exposure, science first
    resolution: float  # full width at half maximum of a point source, pixels
    blur: float  # standard deviation of the Gaussian against undersampling, pixels
    notes: tuple[str, ...]

    def arguments(self) -> dict[str, Any]:
        """The arguments of `reduce`, by name; `options` are the caller's."""
        first = self.science_exposures[0]
        return {
            "science": self.science,
            "references": self.references,
            "psf_mask": self.mask.weight,
            "pixel_maps": self.pixel_maps,
            "output_shape": (2, 2) if self.grid is None else self.grid.shape,
            "exposure_times": np.array([_exposure_time(e) for e in self.science_exposures]),
            "background": np.array([_background(e) for e in self.science_exposures]),
            "pixel_scale_ratio": 1.0 if self.grid is None else self.grid.pixel_scale_ratio,
            "zero_non_science": first.keyword("INSTRUME") == "MIRI",
            "visited": self.visited,
            "window": self.window,
            "background_variance": _background_variance(self.backgrounds, self.science_exposures),
            "same_background": len(set(map(id, self.backgrounds))) == 1,
            "psf_mismatch": 0.0 if str(first.keyword("CORONMSK")).startswith("4QPM") else 0.1,
            "star": np.array(self.star.pixels),
            "resolution": self.resolution,
            "blur": self.blur or None,
        }


def load(
    asn: str | Path,
    *,
    psfmask: str | Path | np.ndarray | None = None,
    options: Options | None = None,
    allow_outside: bool = False,
) -> Inputs:
    """Read and check an association: its exposures, the mask, and where every pixel falls on the output image.

    Args:
        asn: path of the association file.
        psfmask: weight of each pixel in the registration `[y x]`, 1 = use, or the path of a PSFMASK file. By default
            one from a local CRDS cache, else 1 everywhere, with a note.
        options: those of `resample` shape the output image.
        allow_outside: accept members outside the association's folder.

    Returns:
        `Inputs`; `reduce(**load(asn).arguments())` is the reduction. The arrays are read-only: JAX takes them without
        a copy, and computes after `reduce` has returned.

    Raises:
        AssociationError: the association is malformed, incomplete, or its members do not fit together.
        ExposureError: a file is damaged or not what it should be.

    Example:
        >>> load("no_such_asn.json")
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: no_such_asn.json: no such association file
    """
    from .io.association import read_association
    from .io.consistency import check_consistent
    from .io.exposure import read_exposure
    from .io.psf_mask import read_psf_mask
    from .io.sampling import blur_sigma, resolution
    from .io.star_wcs import corrected_exposure

    options = Options() if options is None else options
    association = read_association(asn, allow_outside=allow_outside, background=not options.background.skip)
    science_exposures = tuple(read_exposure(path) for path in association.science)
    reference_exposures = tuple(read_exposure(path) for path in association.psf)
    check_consistent(association, science_exposures + reference_exposures)
    mask = read_psf_mask(psfmask, science_exposures[0])
    every, backgrounds, notes = _without_background(association, science_exposures + reference_exposures)
    n_science = len(science_exposures)
    science_exposures, science, science_notes = _rectangular(every[:n_science], n_science)
    n_references = len(reference_exposures)
    reference_exposures, references, reference_notes = _rectangular(every[n_science:], padded_size(n_references))
    del every
    star, star_notes = _star(science_exposures, options)
    corrected = tuple(corrected_exposure(e, star, i) for i, e in enumerate(science_exposures))
    grid, pixel_maps, visited, window = _geometry(corrected, options)
    notes += [*association.notes, *science_notes, *reference_notes, *(() if grid is None else grid.notes), *star_notes]
    notes += [mask.note] if mask.note else []
    notes += _exposure_notes(science_exposures, reference_exposures, options)
    notes += option_notes(options, int(references.valid.sum()))
    return Inputs(
        *(association, science_exposures, reference_exposures, mask, grid, science, references, pixel_maps),
        visited=visited,
        window=window,
        star=star,
        corrected=corrected,
        backgrounds=backgrounds,
        resolution=resolution(science_exposures[0]),
        blur=blur_sigma(science_exposures[0])[0],
        notes=tuple(notes),
    )


def _without_background(
    association: Association, exposures: tuple[Exposure, ...]
) -> tuple[tuple[Exposure, ...], tuple[BackgroundImage | None, ...], list[str]]:
    """The exposures less the background exposures of the association; what was subtracted; notes on it."""
    from .io.background import subtract_backgrounds
    from .io.consistency import check_consistent
    from .io.exposure import read_exposure

    none: tuple[BackgroundImage | None, ...] = (None,) * len(exposures)
    if not association.background:
        return exposures, none, []
    backgrounds = tuple(read_exposure(path) for path in association.background)
    check_consistent(association, exposures + backgrounds)
    done = subtract_backgrounds(exposures, backgrounds)
    return done.exposures, done.images, list(done.notes)


def _star(exposures: tuple[Exposure, ...], options: Options) -> tuple[CommonStar, list[str]]:
    """The star in every science exposure and on the sky, and what is to be said of it."""
    from .io.star_wcs import common_star
    from .star import locate_stars

    found = locate_stars(exposures, options=options.star)
    pixels, errors = np.array([(p.x, p.y) for p in found]), np.array([p.error for p in found])
    star = common_star(exposures, pixels, errors, [p.source for p in found])
    if options.star.source == "wcs" and options.star.positions is None:
        return star, []
    return star, [*dict.fromkeys(p.note for p in found if p.note), *star.notes]


def _background_variance(
    backgrounds: tuple[BackgroundImage | None, ...], exposures: tuple[Exposure, ...]
) -> np.ndarray | None:
    """Noise of the backgrounds that were subtracted from the exposures, [exp y x]; None: of none."""
    own = backgrounds[: len(exposures)]
    if all(background is None for background in own):
        return None
    zero = np.zeros(exposures[0].shape[1:], np.float32)
    return np.stack([zero if background is None else background.variance for background in own])


def _exposure_notes(science: tuple[Exposure, ...], references: tuple[Exposure, ...], options: Options) -> list[str]:
    """What is to be said of the exposures, each and together."""
    from .io.consistency import observation_notes
    from .io.sampling import blur_sigma

    notes = _grouped_notes(science + references)
    blur_note = blur_sigma(science[0])[1]
    if options.align_refs.blur and not options.align_refs.skip and blur_note:
        notes.append(blur_note)
    return [*notes, *observation_notes(science, references)]


def _grouped_notes(exposures: tuple[Exposure, ...]) -> list[str]:
    """What is to be said of the exposures, once each: of which file, or of how many."""
    files: dict[str, list[str]] = {}
    for exposure in exposures:
        for note in exposure.notes:
            files.setdefault(note, []).append(exposure.path.name)
    return [f"{names[0] if len(names) == 1 else f'{len(names)} exposures'}: {note}" for note, names in files.items()]


def _geometry(
    exposures: tuple[Exposure, ...], options: Options
) -> tuple[OutputGrid | None, np.ndarray, np.ndarray, int]:
    """The output grid; the pixel map of every science exposure and its visited pixels; the window of the overlaps."""
    from .io.wcs import output_grid, pixel_map
    from .ops import overlap_window, visited_pixels

    chosen = options.resample
    if chosen.skip:
        frames = (len(exposures), *exposures[0].shape[-2:])
        return None, np.zeros((*frames, 2)), np.ones(frames, bool), 1
    grid = output_grid(
        exposures,
        pixel_scale_ratio=chosen.pixel_scale_ratio,
        pixel_scale=chosen.pixel_scale,
        rotation=chosen.rotation,
        output_shape=chosen.output_shape,
        crpix=chosen.crpix,
        crval=chosen.crval,
    )
    pixel_maps = np.stack([pixel_map(exposure, grid) for exposure in exposures])
    visited = np.stack([visited_pixels(one, grid.shape) for one in pixel_maps])
    return grid, pixel_maps, visited, max(overlap_window(one, chosen.pixfrac) for one in pixel_maps)


def padded_size(count: int) -> int:
    """The size of stack that so many planes are put into, so that a few more or less do not need another program.

    Args:
        count: how many planes there are.

    Returns:
        The next of four sizes to each power of two: up to 8 the count itself, and never more than a quarter beyond it.

    Example:
        >>> [padded_size(n) for n in (2, 8, 9, 18, 21, 100)]
        [2, 8, 10, 20, 24, 112]
    """
    step = max(1, 2 ** (math.ceil(math.log2(count)) - 3))
    return math.ceil(count / step) * step


def _rectangular(exposures: tuple[Exposure, ...], n_exposures: int) -> tuple[tuple[Exposure, ...], Cube, list[str]]:
    """Stack exposures of different depth; the shorter ones, and exposures beyond them, are invalid integrations.

    The exposures come back with their arrays in the stack, so that there is no second copy.
    """
    from .cube import VARIANCES, Cube

    size = n_exposures, padded_size(max(exposure.shape[0] for exposure in exposures))
    own: list[dict[str, Any]] = [{} for _ in exposures]
    stacks: dict[str, Any] = {}
    notes = []
    for name in ("sci", "err", "dq", "valid", *VARIANCES):
        arrays = [getattr(exposure.cube, name) for exposure in exposures]
        missing = [exposure.path.name for exposure, array in zip(exposures, arrays, strict=True) if array is None]
        stack = None if missing else _aligned_zeros((*size, *arrays[0].shape[1:]), arrays[0].dtype)
        if missing and len(missing) < len(exposures):
            notes.append(f"{name.upper()} is not used, since {', '.join(missing)} has none")
        for i, array in enumerate(arrays):
            own[i][name] = array
            if stack is not None:
                stack[i, : len(array)] = array
                own[i][name] = _read_only(stack[i, : len(array)])
        stacks[name] = None if stack is None else _read_only(stack)
    moved = tuple(dataclasses.replace(e, cube=Cube(**arrays)) for e, arrays in zip(exposures, own, strict=True))
    return moved, Cube(**stacks), notes


def _read_only(array: np.ndarray) -> np.ndarray:
    """JAX computes on it while Python goes on: a change would be seen by some steps and not by others."""
    array.flags.writeable = False
    return array


def _aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin where the processor's cache lines do: JAX then works on them without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def _exposure_time(exposure: Exposure) -> float:
    """Weight of an exposure for `weight_type="exptime"`, s: the measurement time where the header has it."""
    return float(exposure.keyword("TMEASURE") or exposure.keyword("EFFEXPTM") or 1.0)


def _background(exposure: Exposure) -> float:
    """Level that the header names and says is still in the data, MJy/sr."""
    return 0.0 if exposure.keyword("BKGSUB") else float(exposure.keyword("BKGLEVEL") or 0.0)
