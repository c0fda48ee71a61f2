"""From an association on disk to products: `run` is read, `reduce`, write, and nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .chain import reduce
from .inputs import load
from .io.writing import check_folder
from .options import Options
from .programs import load_ahead
from .result import Result, assemble
from .session import application_settings, cache_folder
from .tally import count_inputs, count_reduction, doubts

logger = logging.getLogger("coronjax")


@dataclass(frozen=True)
class Step:
    """A step of a run, as told to a `progress` function when it begins and when it has ended."""

    name: str
    detail: str = ""  # counts, once it has ended
    seconds: float | None = None  # None: it begins


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
        OutputError: products cannot be written to `output_dir`; it is looked at before anything is read.

    Example:
        >>> run("no_such_asn.json")
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: no_such_asn.json: no such association file

    Source: calwebb_coron3 of jwst 3.0.0.
    """
    options = Options() if options is None else options
    tell = progress or (lambda step: None)
    if output_dir is not None:
        check_folder(output_dir)
    load_ahead(cache_folder())
    with timed_step("read", tell) as counts:
        inputs = load(asn, psfmask=psfmask, options=options, allow_outside=allow_outside)
        counts.append(count_inputs(inputs))
    logger.info("weights of the registration: %s", inputs.mask.source)
    for note in inputs.notes:
        logger.warning(note)
    with timed_step("reduce", tell) as counts, application_settings(options.precision):
        # Headers are made while the arrays are computed.
        result = assemble(inputs, reduce(**inputs.arguments(), options=options), options)
        counts.append(count_reduction(inputs, result.reduction))
    for warning in doubts(inputs, result.reduction, options):
        logger.warning(warning)
    if output_dir is not None:
        with timed_step("write", tell) as counts:
            result = result.write(Path(output_dir))
            counts.append(f"{len(result.paths)} files in {output_dir}")
    return result


@contextmanager
def timed_step(name: str, tell: Callable[[Step], None]) -> Iterator[list[str]]:
    """Time a step and tell of its beginning and end; what is put into the list becomes its detail."""
    tell(Step(name))
    counts: list[str] = []
    begin = time.perf_counter()
    yield counts
    tell(Step(name, " ".join(counts), time.perf_counter() - begin))
