"""From an association on disk to products: `run` is read, `reduce`, write, and nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .chain import reduce
from .options import Options
from .reduction import Reduction
from .result import Alignment, Result, assemble
from .session import application_settings
from .tally import count_inputs, count_reduction, doubts

if TYPE_CHECKING:
    from .cube import Cube
    from .io.association import Association
    from .io.exposure import Exposure
    from .io.psf_mask import PsfMask
    from .io.wcs import OutputGrid

__all__ = ["Alignment", "Inputs", "Result", "Step", "load", "run"]

logger = logging.getLogger("coronjax")


@dataclass(frozen=True)
class Step:
    """A step of a run, as told to a `progress` function when it begins and when it has ended."""

    name: str
    detail: str = ""  # counts, once it has ended
    seconds: float | None = None  # None: it begins


@dataclass(frozen=True)
class Inputs:
    """An association in memory: everything that `reduce` takes, and what the products need of the files."""

    association: Association
    science_exposures: tuple[Exposure, ...]
    reference_exposures: tuple[Exposure, ...]
    mask: PsfMask
    grid: OutputGrid | None  # None: resampling is skipped
    science: Cube  # [exp int y x], numpy, padded
    references: Cube  # [exp int y x], numpy, padded
    pixel_maps: np.ndarray  # [exp y x 2]
    visited: np.ndarray  # [exp y x], pixels that are resampled
    window: int
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
        `Inputs`; `reduce(**load(asn).arguments())` is the reduction.

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

    options = Options() if options is None else options
    association = read_association(asn, allow_outside=allow_outside)
    science_exposures = tuple(read_exposure(path) for path in association.science)
    reference_exposures = tuple(read_exposure(path) for path in association.psf)
    check_consistent(association, science_exposures + reference_exposures)
    mask = read_psf_mask(psfmask, science_exposures[0])
    science, science_notes = _rectangular(science_exposures)
    references, reference_notes = _rectangular(reference_exposures)
    grid, pixel_maps, visited, window = _geometry(science_exposures, options)
    notes = [*association.notes, *science_notes, *reference_notes, *(() if grid is None else grid.notes)]
    if mask.note:
        notes.append(mask.note)
    notes += _grouped_notes(science_exposures + reference_exposures)
    return Inputs(
        *(association, science_exposures, reference_exposures, mask, grid, science, references, pixel_maps),
        visited=visited,
        window=window,
        notes=tuple(notes),
    )


def run(
    asn: str | Path,
    *,
    output_dir: str | Path | None = None,
    psfmask: str | Path | np.ndarray | None = None,
    options: Options | None = None,
    allow_outside: bool = False,
    progress: Callable[[Step], None] | None = None,
) -> Result:
    """Reduce a JWST coronagraphic association, as calwebb_coron3 does.

    Args:
        asn: path of the association file (JSON).
        output_dir: folder of the products, made where it is missing; None writes nothing.
        psfmask: weight of each pixel in the registration `[y x]`, 1 = use, or the path of a PSFMASK file. By default
            one from a local CRDS cache, else 1 everywhere, with a note.
        options: every choice; `Options.official()` reproduces jwst 3.0.0. By default `Options()`.
        allow_outside: accept members outside the association's folder.
        progress: told of each `Step` when it begins and when it has ended.

    Returns:
        `Result`: the products with header and WCS, the fitted shifts, the paths written.

    Raises:
        AssociationError: the association is malformed, incomplete, or its members do not fit together.
        ExposureError: a file is damaged or not what it should be.

    Example:
        >>> run("no_such_asn.json")
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: no_such_asn.json: no such association file

    Source: calwebb_coron3 of jwst 3.0.0.
    """
    options = Options() if options is None else options
    tell = progress or (lambda step: None)
    with timed_step("read", tell) as counts:
        inputs = load(asn, psfmask=psfmask, options=options, allow_outside=allow_outside)
        counts.append(count_inputs(inputs))
    logger.info("weights of the registration: %s", inputs.mask.source)
    for note in inputs.notes:
        logger.warning(note)
    with timed_step("reduce", tell) as counts, application_settings(options.precision):
        reduction = _to_host(reduce(**inputs.arguments(), options=options))
        counts.append(count_reduction(inputs, reduction))
    for warning in doubts(inputs, reduction, options):
        logger.warning(warning)
    with timed_step("products", tell) as counts:
        result = assemble(inputs, reduction, options)
        counts.append(f"{len(result.products)} made")
    if output_dir is not None:
        with timed_step("write", tell) as counts:
            result = result.write(Path(output_dir))
            counts.append(f"{len(result.paths)} files in {output_dir}")
    return result


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


def _rectangular(exposures: tuple[Exposure, ...]) -> tuple[Cube, list[str]]:
    """Stack exposures of different depth, the shorter ones padded with invalid integrations."""
    from .cube import Cube

    depth = max(exposure.shape[0] for exposure in exposures)
    notes = []

    def stacked(name: str) -> Any:
        arrays = [getattr(exposure.cube, name) for exposure in exposures]
        missing = [exposure.path.name for exposure, array in zip(exposures, arrays, strict=True) if array is None]
        if missing:
            if len(missing) < len(exposures):
                notes.append(f"{name.upper()} is not used, since {', '.join(missing)} has none")
            return None
        return np.stack([_padded(array, depth) for array in arrays])

    names = ("sci", "err", "dq", "valid", "var_poisson", "var_rnoise", "var_flat")
    return Cube(*(stacked(name) for name in names)), notes


def _padded(array: np.ndarray, depth: int) -> np.ndarray:
    """The array with planes of zeros added up to a depth."""
    if array.shape[0] == depth:
        return array
    return np.concatenate([array, np.zeros((depth - array.shape[0], *array.shape[1:]), array.dtype)])


def _to_host(reduction: Reduction) -> Reduction:
    import jax

    return jax.tree.map(np.asarray, reduction)


def _exposure_time(exposure: Exposure) -> float:
    """Weight of an exposure for `weight_type="exptime"`, s: the measurement time where the header has it."""
    return float(exposure.keyword("TMEASURE") or exposure.keyword("EFFEXPTM") or 1.0)


def _background(exposure: Exposure) -> float:
    """Level that the header names and says is still in the data, MJy/sr."""
    return 0.0 if exposure.keyword("BKGSUB") else float(exposure.keyword("BKGLEVEL") or 0.0)


@contextmanager
def timed_step(name: str, tell: Callable[[Step], None]) -> Iterator[list[str]]:
    """Time a step and tell of its beginning and end; what is put into the list becomes its detail."""
    tell(Step(name))
    counts: list[str] = []
    begin = time.perf_counter()
    yield counts
    tell(Step(name, " ".join(counts), time.perf_counter() - begin))
