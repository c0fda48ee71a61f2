"""The table as Markdown."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Row

if TYPE_CHECKING:
    from benchmarks.run import Measurement


def head(arguments: argparse.Namespace) -> str:
    """What was measured, how and on what."""
    return f"""# Measurements

Written by `make bench`. Every subject runs in turn with the others, in a process of its own, on the same arrays; rounds
of this: {arguments.rounds}. The first call of a process stands apart, since it compiles or warms caches; the time is
the median of the calls after it. Errors are against the same work in float64. Memory is the peak of the whole process.
Ratios are against the first line: 2 means twice as long. Our sources are compiled to bytecode beforehand, as pip does
with the packages it installs.

{machine(arguments.threads)} Size: {arguments.size}.
"""


def machine(threads: int) -> str:
    """What it was measured on."""
    return f"""Machine: {_processor()}, {os.cpu_count()} logical processors, {threads} threads for everybody;
{platform.system()} {platform.machine()}, Python {platform.python_version()}."""


def table(row: Row, size: dict[str, Any], found: list[Measurement]) -> str:
    """One row of the benchmark: a table of all subjects."""
    lines = [
        f"## {row.title}\n",
        row.work.format(**size) + "\n",
        f"| | time | ratio | first call | memory | {row.unit} | versions |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    base = next((m.median for m in found if m.times), None)
    for m in found:
        if not m.times or base is None:
            lines.append(f"| {m.subject.name} | {m.failure} | | | | | |")
            continue
        versions = ", ".join(f"{name} {version}" for name, version in m.versions.items())
        figures = (
            duration(m.median),
            f"{m.median / base:.2f}",
            duration(min(m.first)),
            f"{m.memory:.0f} MB",
            _error(m.error),
        )
        name = f"{m.subject.name} ({m.remark})" if m.remark else m.subject.name
        lines.append(f"| {name} | {' | '.join(figures)} | {versions} |")
    return "\n".join(lines) + "\n"


def missing(row: Row, reason: str) -> str:
    """A row that could not be measured at all."""
    return f"## {row.title}\n\nNot measured: {reason}.\n"


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.9995 else f"{1e3 * seconds:.3g} ms"


def _error(value: float | None) -> str:
    return "–" if value is None else f"{value}" if isinstance(value, int) else f"{value:.1e}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
