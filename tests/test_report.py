"""What the command line shows, as plain text."""

import io
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from coronjax import report
from coronjax.demo import Recovery
from coronjax.pipeline import Step

HIDDEN_CURSOR, SHOWN_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_colour_codes_and_long_lines_in_a_file() -> None:
    stream = io.StringIO()
    console = report.make_console(stream)
    console.print("[red]x" * 60)
    assert console.width == report.PLAIN_WIDTH
    assert stream.getvalue() == "x" * 60 + "\n"


def test_steps_are_shown_when_they_end() -> None:
    stream = io.StringIO()
    with report.Progress(report.make_console(stream)) as progress:
        progress(Step("read"))
        progress(Step("read", "11 exposures [odd]", 1.25))
    assert stream.getvalue() == "read          1.25 s  11 exposures [odd]\n"


def test_the_spinner_ends_with_an_error() -> None:
    stream = Terminal()
    progress = report.Progress(Console(file=stream, force_terminal=True))

    def fail() -> None:
        with progress:
            progress(Step("reduce"))
            assert HIDDEN_CURSOR in stream.getvalue()
            raise KeyError("reduce")

    with pytest.raises(KeyError):
        fail()
    assert SHOWN_CURSOR in stream.getvalue()


def test_log_records_keep_their_brackets() -> None:
    stream = io.StringIO()
    handler = report.LogHandler(report.make_console(stream))
    handler.handle(logging.makeLogRecord({"msg": "keyword [x]", "levelname": "WARNING", "levelno": logging.WARNING}))
    assert stream.getvalue() == "warning: keyword [x]\n"


def summary(*, converged: bool, skip: bool = False) -> str:
    """The summary of a small made-up result: one science exposure, two reference planes."""
    dq = np.zeros((1, 2, 4, 4), np.uint32)
    dq[0, 0, 1, 1] = 17
    dq[0, 1, 2, 2] = 17  # in a plane of padding: does not count
    valid = np.array([[True, False]])
    cube = SimpleNamespace(dq=dq, valid=valid)
    alignment = SimpleNamespace(
        names=("a", "b"), shift=np.array([[0.3, 0.4], [0.0, 0.1]]), converged=np.array([True, converged])
    )
    result = SimpleNamespace(
        association=SimpleNamespace(science=(Path("jw1_calints.fits"),)),
        alignment=(alignment,),
        options=SimpleNamespace(klip=SimpleNamespace(skip=skip)),
        reduction=SimpleNamespace(science=cube, references=cube, subtraction=SimpleNamespace(n_modes=np.array([7]))),
        paths=(Path("out/jw1_psfsub.fits"),),
    )
    stream = io.StringIO()
    report.show_summary(result, report.make_console(stream))  # type: ignore[arg-type]
    return stream.getvalue()


def test_summary() -> None:
    text = summary(converged=False)
    row = next(line for line in text.splitlines() if "jw1" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["jw1", "1", "1", "1 of 2", "0.500", "7"]
    assert "1 reference integrations with 1 outliers" in text
    assert "1 files in out" in text
    assert "jw1_psfsub.fits" in text
    assert "skipped" in summary(converged=True, skip=True)


def test_recovery() -> None:
    stream = io.StringIO()
    found = Recovery((0.95, 65.0), (0.953, 65.2), 0.004, 12.34, (10.0, 11.0))
    report.show_recovery([found, found], report.make_console(stream))
    row = next(line for line in stream.getvalue().splitlines() if line.startswith("│ c"))
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["c", "0.950", "0.953", "65.0", "65.2", "4", "12.3"]
