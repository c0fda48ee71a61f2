"""The commands and their options: what tyro turns into a command line."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .options import Options

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all commands have in common."""

    quiet: bool = False
    """Print errors only."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """Least level of messages that are shown; DEBUG adds tracebacks."""

    def __call__(self) -> int:
        """Do it; the result is the exit status."""
        raise NotImplementedError

    def _output(self) -> Console:
        """Where results go: nowhere if quiet."""
        from .report import make_console

        console = make_console()
        console.quiet = self.quiet
        return console


@dataclass(frozen=True, kw_only=True)
class _Reduction(Command):
    """How to reduce."""

    output_dir: Path = Path()
    """Folder of the products, made where it is missing."""
    psfmask: Path | None = None
    """PSFMASK file, the weight of each pixel in the registration (1 = use); by default from a local CRDS cache, else
    uniform."""
    official: bool = False
    """Start from the options that reproduce calwebb_coron3; those given besides still count."""
    allow_outside: bool = False
    """Accept members outside the association's folder."""
    options: Options = field(default_factory=Options)
    """Every choice of the reduction."""


@dataclass(frozen=True, kw_only=True)
class _OfAssociation(_Reduction):
    """What it takes to reduce an association."""

    asn: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ASN")]
    """Association file (JSON)."""


@dataclass(frozen=True, kw_only=True)
class Run(_OfAssociation):
    """`coronjax run`."""

    def __call__(self) -> int:
        """Reduce, telling of each step, and sum up."""
        from . import pipeline, report
        from .fits_settings import settings_read_once

        with settings_read_once(), report.Progress(_errors(self.quiet)) as progress:
            result = pipeline.run(
                self.asn,
                output_dir=self.output_dir,
                psfmask=self.psfmask,
                options=self.options,
                allow_outside=self.allow_outside,
                progress=progress,
            )
        report.show_summary(result, self._output())
        return 0


@dataclass(frozen=True, kw_only=True)
class Info(_OfAssociation):
    """`coronjax info`."""

    def __call__(self) -> int:
        """Look at headers alone; the status is 1 where a run would fail."""
        from . import report
        from .inspection import inspect

        found = inspect(
            self.asn,
            output_dir=self.output_dir,
            psfmask=self.psfmask,
            options=self.options,
            allow_outside=self.allow_outside,
        )
        report.show_inspection(found, self.options, Options(), self._output())
        for error in found.errors:
            if self.quiet:
                _errors().print(f"coronjax: error: {error}", markup=False, soft_wrap=True)
        return 1 if found.errors else 0


@dataclass(frozen=True, kw_only=True)
class Batch(_Reduction):
    """`coronjax batch`."""

    patterns: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN [PATTERN ...]")]
    """Association files, or patterns for them in quotes: *, ? and, for folders in folders, **."""
    workers: int | None = None
    """Processes on this machine; by default one for each processor."""
    scheduler: str | None = None
    """Address of a running dask scheduler whose workers see the same files, instead of processes on this machine."""

    def __call__(self) -> int:
        """Reduce all that are not complete, telling of each; the status is 1 where any failed."""
        from . import associations, report

        progress = report.OutcomeProgress(_errors(self.quiet))
        outcomes = associations.batch(
            self.patterns,
            output_dir=self.output_dir,
            options=self.options,
            psfmask=self.psfmask,
            allow_outside=self.allow_outside,
            workers=self.workers,
            scheduler=self.scheduler,
            progress=progress,
        )
        report.show_outcomes(outcomes, self.output_dir / associations.TABLE, self._output())
        if self.quiet:
            for outcome in outcomes:
                if outcome.status == "failed":
                    _errors().print(f"coronjax: error: {outcome.message}", markup=False, soft_wrap=True)
        return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


@dataclass(frozen=True, kw_only=True)
class Simulate(Command):
    """`coronjax simulate`."""

    mode: tyro.conf.Positional[Literal["nircam", "nircam_bar", "miri_4qpm", "miri_lyot"]]
    """Instrument and kind of mask."""
    directory: tyro.conf.Positional[Path]
    """Folder of the association, made where it is missing."""
    seed: int = 1
    """The same seed makes the same data."""
    noise_seed: int | None = None
    """Another seed for the noise alone, by default the same."""
    filter: str | None = None
    """One of the mode's filters; by default the one most used."""
    shape: tuple[int, int] | None = None
    """Rows and columns of the images; by default those of the subarray."""
    n_science: int = 2
    """Number of exposures of the target, each at its roll."""
    n_references: int | None = None
    """Number of exposures of the reference star; by default what is usual for the mode, as below."""
    n_backgrounds: int = 0
    """Number of exposures of blank sky, dithered."""
    nints_science: int | None = None
    """Integrations in each exposure of the target."""
    nints_references: int | None = None
    """Integrations in each exposure of the reference star."""
    roll: float = 10.0
    """Angle from one exposure of the target to the next, degrees."""
    companions: tuple[tuple[float, float, float], ...] | None = None
    """Separation (arcsec), position angle (degrees) and contrast of each; by default what suits the mode."""
    distorted: bool = True
    """Distort the detector's coordinates."""
    jitter_between: float = 0.0
    """Rms of the star's position from integration to integration, mas along each axis."""
    drift_between: float = 0.0
    """Rms difference between the wavefronts of two integrations, nm."""
    telegraph: float = 0.0
    """Share of the good pixels that jump between two levels, unflagged."""
    negative: float = 0.0
    """Share of the hits by cosmic rays that are negative."""
    crpix_error: float = 0.0
    """Largest distance from the star to where the files put it, pixels."""
    glow: float = 0.0
    """Peak of the instrument's own light over the background; MIRI only."""

    def __call__(self) -> int:
        """Simulate, and say where the files are."""
        from .simulate import simulate

        own = {f.name for f in dataclasses.fields(self)} - {f.name for f in dataclasses.fields(Command)}
        made = simulate(**{name: getattr(self, name) for name in own})
        console = self._output()
        for path in (made.asn, made.psf_mask, made.truth_file):
            console.print(str(path), markup=False, soft_wrap=True)
        return 0


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """`coronjax demo`."""

    directory: tyro.conf.Positional[Path] = Path("demo")
    """Folder for input, products and picture, made where it is missing."""
    seed: int = 1
    """The same seed makes the same data."""

    def __call__(self) -> int:
        """Simulate, reduce, measure, draw."""
        from . import demo, report

        console = self._output()
        with report.Progress(_errors(self.quiet)) as progress:
            shown = demo.demonstrate(self.directory, seed=self.seed, progress=progress)
        report.show_summary(shown.result, console)
        report.show_recovery(shown.companions, console)
        console.print(f"picture {shown.picture}", markup=False, soft_wrap=True)
        return 0


_CLASSES: dict[str, type[Command]] = {"run": Run, "batch": Batch, "info": Info, "simulate": Simulate, "demo": Demo}


def command_class(name: str, words: Sequence[str]) -> tuple[Any, Any]:
    """The class of a command, in the form tyro reads it, and the instance that holds its defaults.

    Args:
        name: of the command.
        words: of the command line after it.

    Returns:
        Class and instance, or class and None where the class has them itself.

    Example:
        >>> command_class("run", ["--official"])[1].options.klip.truncate == Options.official().klip.truncate
        True
    """
    chosen = _CLASSES[name]
    default = None
    if issubclass(chosen, _Reduction):
        official = "--official" in words
        options = Options.official() if official else Options()
        missing = "asn" if issubclass(chosen, _OfAssociation) else "patterns"
        default = chosen(**{missing: tyro.MISSING}, options=options)
    return tyro.conf.configure(tyro.conf.FlagCreatePairsOff)(chosen), default


@contextmanager
def session(command: Command) -> Iterator[None]:
    """Show log messages of the command's level on standard error, for the length of a `with` block.

    Args:
        command: that is about to run.

    Example:
        >>> with session(Demo(log_level="DEBUG")):
        ...     logging.getLogger("coronjax").level == logging.DEBUG
        True
    """
    from .report import LogHandler

    logger = logging.getLogger("coronjax")
    level, propagate = logger.level, logger.propagate
    handler = LogHandler(_errors())
    logger.addHandler(handler)
    logger.setLevel("ERROR" if command.quiet else command.log_level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _errors(quiet: bool = False) -> Console:
    import sys

    from .report import make_console

    console = make_console(sys.stderr)
    console.quiet = quiet
    return console
