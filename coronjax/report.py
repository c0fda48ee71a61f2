"""What the command line shows: progress while a run lasts, tables afterwards. Presentation alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from .cube import DQ

if TYPE_CHECKING:
    import equinox as eqx

    from .associations import Outcome
    from .demo import Recovery
    from .inspection import Inspection
    from .options import Options
    from .pipeline import Step
    from .result import Result

PLAIN_WIDTH = 160  # columns where no terminal says how many it has


def make_console(stream: TextIO | None = None) -> Console:
    """A console that writes plain text, in long lines, wherever it is no terminal.

    Args:
        stream: where to; standard output by default.

    Returns:
        The console.

    Example:
        >>> make_console().soft_wrap
        False
    """
    stream = sys.stdout if stream is None else stream
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False)


class Progress:
    """Shows each `Step` of a run: a spinner on a terminal while it lasts, a line when it has ended."""

    def __init__(self, console: Console):
        """Show on this console."""
        self._console = console
        self._status: Status | None = None

    def __call__(self, step: Step) -> None:
        """Take note of a step that begins or has ended."""
        self._stop()
        if step.seconds is None:
            if self._console.is_terminal:
                self._status = self._console.status(f"{escape(step.name)} ...")
                self._status.start()
        else:
            line = f"{step.name:<10} {step.seconds:7.2f} s"
            self._console.print(f"[bold]{escape(line)}[/]  {escape(step.detail)}", soft_wrap=True)

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no spinner behind, whatever happened."""
        self._stop()

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


class OutcomeProgress:
    """Tells of each association of many that has ended, a line each."""

    def __init__(self, console: Console):
        """Tell on this console."""
        self._console = console

    def __call__(self, outcome: Outcome, count: int, total: int) -> None:
        """Take note of an outcome, the `count`-th of `total`."""
        colour = {"done": "green", "skipped": "dim", "failed": "red"}[outcome.status]
        name = escape(Path(outcome.association).name)
        message = f"  {escape(outcome.message)}" if outcome.message else ""
        line = f"{count:>{len(str(total))}} of {total}  [{colour}]{outcome.status:<7}[/] {outcome.seconds:7.2f} s"
        self._console.print(f"{line}  {name}{message}", soft_wrap=True)


class LogHandler(logging.Handler):
    """Prints log records on a console, so that they do not run into its spinner."""

    def __init__(self, console: Console):
        """Print on this console."""
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        style = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}.get(record.levelname, "dim")
        text = escape(self.format(record))
        self._console.print(f"[{style}]{record.levelname.lower()}:[/] {text}", soft_wrap=True)


def show_summary(result: Result, console: Console) -> None:
    """Print what a run found, exposure by exposure, and the files it wrote.

    Args:
        result: of the run.
        console: to print on.
    """
    table = _table("Science exposures")
    for heading in ("integrations", "outliers", "converged", "worst shift (px)", "KL modes"):
        table.add_column(heading, justify="right")
    reduction, paths = result.reduction, result.association.science
    for i, (path, alignment) in enumerate(zip(paths, result.alignment, strict=True)):
        valid = np.asarray(reduction.science.valid[i])
        farthest = np.hypot(*alignment.shift.T).max(initial=0.0)
        converged = int(np.sum(alignment.converged))
        table.add_row(
            _root(path),
            str(valid.sum()),
            str(_count_outliers(np.asarray(reduction.science.dq[i]), valid)),
            _flagged(f"{converged} of {len(alignment.names)}", converged < len(alignment.names)),
            f"{farthest:.3f}",
            "skipped" if result.options.klip.skip else str(int(reduction.subtraction.n_modes[i])),
        )
    console.print(table)
    references = np.asarray(reduction.references.valid)
    outliers = _count_outliers(np.asarray(reduction.references.dq), references)
    console.print(f"{references.sum()} reference integrations with {outliers} outliers")
    if result.paths:
        console.print(f"\n{len(result.paths)} files in {escape(str(result.paths[0].parent))}", soft_wrap=True)
        for path in result.paths:
            console.print(f"  {escape(path.name)}", soft_wrap=True)


def show_outcomes(outcomes: Sequence[Outcome], table: Path, console: Console) -> None:
    """Print how many associations ended how, and where the table of all is.

    Args:
        outcomes: one for each association.
        table: path of the table.
        console: to print on.
    """
    counts = {status: sum(one.status == status for one in outcomes) for status in ("done", "skipped", "failed")}
    said = [f"{counts['done']} done", f"{counts['skipped']} complete before"]
    said.append(_flagged(f"{counts['failed']} failed", counts["failed"] > 0))
    console.print(f"{len(outcomes)} associations: {', '.join(said)}")
    console.print(escape(str(table)), soft_wrap=True)


def show_inspection(found: Inspection, options: Options, standard: Options, console: Console) -> None:
    """Print what is in an association, what a run would do with it, and what looks wrong.

    Args:
        found: by `coronjax.inspection.inspect`.
        options: those of the run.
        standard: the defaults; options that differ from them are marked.
        console: to print on.
    """
    association = found.association
    console.print(
        f"[bold]{escape(association.path.name)}[/]  product {escape(association.product_name)}", soft_wrap=True
    )
    console.print(_member_table(found))
    steps = Table(title="Steps", title_justify="left", box=None, show_header=False, padding=(0, 2))
    for name, text in found.steps:
        steps.add_row(name, text, " ".join(_settings(options, standard, name)))
    console.print(steps)
    console.print(f"precision {options.precision}, PSF mask {escape(found.mask)}", soft_wrap=True)
    _show_list(console, "Products", found.products)
    _show_list(console, "[yellow]Warnings[/]", found.warnings)
    _show_list(console, "[red]Errors[/]", found.errors)


def show_recovery(recovered: Sequence[Recovery], console: Console) -> None:
    """Print true and measured companions side by side.

    Args:
        recovered: one for each companion.
        console: to print on.
    """
    table = Table(title="Companions: true and recovered", title_justify="left")
    for heading in ("", 'separation (")', "", "PA (deg)", "", "off by (mas)", "S/N"):
        table.add_column(heading, justify="right")
    for i, one in enumerate(recovered):
        table.add_row(
            "bcdefghijk"[i],
            f"{one.true[0]:.3f}",
            f"{one.found[0]:.3f}",
            f"{one.true[1]:.1f}",
            f"{one.found[1]:.1f}",
            f"{one.offset * 1e3:.0f}",
            _flagged(f"{one.snr:.1f}", one.snr < 5),
        )
    console.print(table)


def _member_table(found: Inspection) -> Table:
    table = _table("Exposures")
    for heading in ("type", "target", "int", "size (x, y)", "filter", "mask", "time (s)", "roll (deg)"):
        table.add_column(heading, justify="left" if heading in ("type", "target", "filter", "mask") else "right")
    for member in found.members:
        planes, ny, nx = (0, 0, 0) if member.headers is None else member.headers.shape
        table.add_row(
            _root(member.path),
            member.kind,
            escape(member.keyword("TARGPROP")),
            "[red]?[/]" if member.headers is None else str(planes),
            f"{nx} x {ny}",
            escape(member.keyword("FILTER")),
            escape(member.keyword("CORONMSK")),
            f"{member.number('EFFEXPTM'):.1f}",
            f"{member.number('ROLL_REF'):.2f}",
        )
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("exposure", overflow="fold")
    return table


def _settings(options: Options, standard: Options, step: str) -> list[str]:
    """The options of a step as text, those that differ from the defaults in bold."""
    chosen: eqx.Module | None = getattr(options, step, None)
    if chosen is None:
        return []
    texts = []
    for name, value in vars(chosen).items():
        text = escape(f"{name}={value}")
        changed = str(value) != str(getattr(getattr(standard, step), name))  # as text: NaN differs from itself
        texts.append(f"[bold]{text} (changed)[/]" if changed else text)
    return texts


def _show_list(console: Console, title: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        console.print(f"\n{title}")
    for line in lines:
        console.print(f"  {escape(line)}", soft_wrap=True)


def _count_outliers(dq: np.ndarray, valid: np.ndarray) -> int:
    return int(np.sum((dq & DQ.OUTLIER.value != 0) & valid[..., None, None]))


def _flagged(text: str, bad: bool) -> str:
    return f"[red]{text}[/]" if bad else text


def _root(path: Path) -> str:
    return escape(path.name.removesuffix(".fits").removesuffix("_calints"))
