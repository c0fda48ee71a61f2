"""Many associations, each a task of its own, on the processors of this machine or of a cluster."""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import AssociationError, CoronjaxError
from .options import Options
from .workers import client_of, each_result

if TYPE_CHECKING:
    from astropy.table import Table

TABLE = "outcomes.ecsv"
LOG = "messages.log"  # in the folder of each association


@dataclass(frozen=True)
class Outcome:
    """What became of one association."""

    association: str
    status: Literal["done", "skipped", "failed"]
    seconds: float
    products: int
    folder: str
    message: str = ""  # why it failed


@dataclass(frozen=True)
class Task:
    """One association to reduce, and how."""

    asn: Path
    folder: Path
    options: Options
    psfmask: Path | None = None
    allow_outside: bool = False


def batch(
    patterns: Sequence[str | Path],
    *,
    output_dir: str | Path,
    options: Options | None = None,
    psfmask: str | Path | None = None,
    allow_outside: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[Outcome, int, int], None] | None = None,
) -> tuple[Outcome, ...]:
    """Reduce many associations, skipping those that are complete already.

    Each is a task with its own outcome: a failure stops nothing, a worker that is killed loses nothing, since its task
    is given to another. Products go to a folder named after the association file, with a manifest written last. An
    association counts as complete while the manifest agrees with checksums of input and products, options and version.
    A script that calls this needs `if __name__ == "__main__":`, since the workers import it.

    Args:
        patterns: association files, or patterns with `*`, `?` and `**` for them.
        output_dir: folder of the folders, and of the table `outcomes.ecsv`.
        options: every choice; by default `Options()`.
        psfmask: path of a PSFMASK file for all of them.
        allow_outside: accept members outside an association's folder.
        workers: processes on this machine; by default one for each processor.
        scheduler: address of a running dask scheduler whose workers see the same files, instead.
        progress: told of each outcome, how many there are, and of how many.

    Returns:
        Outcomes, in the order of the associations.

    Raises:
        AssociationError: no file matches, or two have the same name.
        OptionsError: no scheduler answers, or both it and workers are given.
        OutputError: the table cannot be written.

    Example:
        >>> batch(["no_such_folder/*_asn.json"], output_dir="out")
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: no_such_folder/*_asn.json: no association file matches
    """
    tasks = plan(patterns, Path(output_dir), Options() if options is None else options, psfmask, allow_outside)
    found: dict[Path, Outcome] = {}
    try:
        with client_of(workers, scheduler, len(tasks)) as client:
            for task, outcome, wrong in each_result(client, perform, tasks):
                if wrong is not None:
                    outcome = replace(_failure(task), message=wrong)
                found[task.asn] = outcome
                if progress is not None:
                    progress(outcome, len(found), len(tasks))
    finally:  # also of those that were done before an interruption
        if found:
            write_outcomes([found[task.asn] for task in tasks if task.asn in found], Path(output_dir) / TABLE)
    return tuple(found[task.asn] for task in tasks)


def plan(
    patterns: Sequence[str | Path], output_dir: Path, options: Options, psfmask: Any = None, allow_outside: bool = False
) -> list[Task]:
    """The tasks that patterns stand for, in the order of their paths.

    Args:
        patterns: files or patterns.
        output_dir: folder of their folders.
        options: of every task.
        psfmask: of every task.
        allow_outside: of every task.

    Returns:
        A task for each file.

    Raises:
        AssociationError: no file matches, or two have the same name.

    Example:
        >>> plan(["nothing_*.json"], Path("out"), Options())
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: nothing_*.json: no association file matches
    """
    if not patterns:
        raise AssociationError("no association file was named")
    paths: set[Path] = set()
    for pattern in map(str, patterns):
        matches = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
        files = {Path(match).absolute() for match in matches if os.path.isfile(match)}
        if not files:
            raise AssociationError("no association file matches", file=pattern)
        paths |= files
    stems: dict[str, Path] = {}
    for path in sorted(paths):
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise AssociationError(f"has the same name as {other}, so their products would mix", file=path)
    mask = None if psfmask is None else Path(psfmask).absolute()
    folder = output_dir.absolute()
    return [Task(path, folder / stem, options, mask, allow_outside) for stem, path in stems.items()]


def perform(task: Task) -> Outcome:
    """Reduce one association, unless that is done; whatever goes wrong becomes the outcome.

    Args:
        task: what to do.

    Returns:
        `Outcome`.

    Example:
        >>> perform(Task(Path("no_such_asn.json"), Path("out"), Options())).message
        'no_such_asn.json: no such association file'
    """
    from .io.manifest import MANIFEST, complete_products, fingerprint, write_manifest
    from .pipeline import run

    begin = time.perf_counter()
    outcome = _failure(task)
    try:
        made_of = fingerprint(
            task.asn,
            version=version("coronjax"),
            options=repr(task.options),
            psfmask=task.psfmask,
            allow_outside=task.allow_outside,
        )
        if products := complete_products(task.folder, made_of):
            return replace(outcome, status="skipped", seconds=time.perf_counter() - begin, products=len(products))
        (task.folder / MANIFEST).unlink(missing_ok=True)
        with _log_in(task.folder / LOG):
            result = run(
                task.asn,
                output_dir=task.folder,
                psfmask=task.psfmask,
                options=task.options,
                allow_outside=task.allow_outside,
            )
        write_manifest(task.folder, made_of, result.paths)
        outcome = replace(outcome, status="done", products=len(result.paths))
    except CoronjaxError as error:
        outcome = replace(outcome, message=str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        outcome = replace(outcome, message=f"{where}{error.strerror or error}")
    except Exception as error:  # a fault of this program in one association is no reason to lose the others
        outcome = replace(outcome, message=f"{type(error).__name__}: {error}")
    return replace(outcome, seconds=time.perf_counter() - begin)


def _failure(task: Task) -> Outcome:
    return Outcome(str(task.asn), "failed", 0.0, 0, str(task.folder))


@contextmanager
def _log_in(path: Path) -> Iterator[None]:
    """Messages of a reduction go to a file beside its products, not to the screen that all share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger, handler = logging.getLogger("coronjax"), logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(level)
        logger.propagate = propagate


def write_outcomes(outcomes: Sequence[Outcome], path: Path) -> Path:
    """Write a table of outcomes as ECSV.

    Args:
        outcomes: a row each.
        path: of the table.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written.

    Example:
        >>> import tempfile
        >>> outcome = Outcome("a_asn.json", "done", 3.2, 17, "out/a_asn")
        >>> write_outcomes([outcome], Path(tempfile.mkdtemp()) / "outcomes.ecsv").name
        'outcomes.ecsv'
    """
    import io

    from .io.writing import write_text_atomically

    text = io.StringIO()
    outcome_table(outcomes).write(text, format="ascii.ecsv")
    return write_text_atomically(text.getvalue(), path)


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Outcomes as a table, times in seconds.

    Args:
        outcomes: a row each.

    Returns:
        The table.

    Example:
        >>> outcome_table([Outcome("a_asn.json", "done", 3.2, 17, "out/a_asn")])["status"][0] == "done"
        True
    """
    from astropy import units
    from astropy.table import Table

    names = list(Outcome.__dataclass_fields__)
    table = Table({name: [asdict(outcome)[name] for outcome in outcomes] for name in names})
    table["seconds"].unit = units.s
    table["seconds"].format = ".2f"
    return table
