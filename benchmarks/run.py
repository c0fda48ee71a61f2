"""Measure every row and write the table: python -m benchmarks.run [--size quick] [--rows klip median] ..."""

import argparse
import compileall
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.environments import ROOT, Unavailable, python_of
from benchmarks.harness import Row, Subject

ORDER = (
    *("klip", "klip_error", "klip_many", "klip_sweep", "klip_cubes", "klip_zones"),
    *("registration", "median", "drizzle", "padding", "padding_registration", "imports", "reduce", "process"),
    "batch",
)


@dataclass
class Measurement:
    """What is known about one subject after all rounds."""

    subject: Subject
    first: list[float] = field(default_factory=list)  # s, one for each process
    times: list[float] = field(default_factory=list)  # s, the calls after the first
    memory: float = 0.0  # MB
    error: float | None = float("nan")  # None: there is none to give
    versions: dict[str, str] = field(default_factory=dict)
    remark: str = ""
    failure: str = ""

    @property
    def median(self) -> float:
        """The median of the calls after the first, s."""
        return statistics.median(self.times)


def measure_row(name: str, row: Row, arguments: argparse.Namespace, folder: Path) -> list[Measurement]:
    """Every subject in turn, and all of them again in each further round, so that a disturbance meets them alike."""
    arrays = row.arrays(np.random.default_rng(arguments.seed), **row.sizes[arguments.size])
    source = folder / f"{name}.npz"
    np.savez(source, **arrays)  # type: ignore[arg-type]
    reference = row.reference(arrays)
    subjects = [s for s in row.subjects if s.environment == "coronjax" or not arguments.no_peers]
    found = [Measurement(subject) for subject in subjects]
    for _ in range(arguments.rounds):
        for measurement in found:
            if not measurement.failure:
                _measure(measurement, name, source, arguments)
            output = source.with_suffix(".out.npz")
            if not measurement.failure:
                with np.load(output) as file:
                    made = dict(file)
                measurement.remark = str(made.pop("remark", ""))
                measurement.error = row.error(made, reference)
                output.unlink()
    return found


def _measure(measurement: Measurement, row: str, source: Path, arguments: argparse.Namespace) -> None:
    """One process of one subject; what goes wrong is kept for the table."""
    subject = measurement.subject
    try:
        python = python_of(subject.environment, install=not arguments.no_install)
    except Unavailable as error:
        measurement.failure = str(error)
        return
    threads = {f"{name}_NUM_THREADS": str(arguments.threads) for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    environment = {**os.environ, **threads, "PYTHONWARNINGS": "ignore", **subject.variables}
    words = (row, subject.name, source, source.with_suffix(".out.npz"))
    numbers = (arguments.repeats, arguments.seconds, arguments.threads)
    command = [str(word) for word in (python, "-m", "benchmarks.child", *words, *numbers)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        measurement.failure = f"failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:160]}"
        return
    result = json.loads(done.stdout.splitlines()[-1])
    measurement.first.append(result["first"])
    measurement.times += result["times"]
    measurement.memory = max(measurement.memory, result["memory"])
    measurement.versions = result["versions"]


def exceeded(row: Row, found: list[Measurement]) -> list[str]:
    """The limits of a row that were not kept, in words; of the best times, since a disturbance only lengthens them."""
    best = {m.subject.name: min(m.times) for m in found if m.times}
    broken = []
    for limit in row.limits:
        if limit.subject in best and limit.against in best:
            ratio = best[limit.subject] / best[limit.against]
            if ratio > limit.ratio:
                broken.append(f"{row.title}: {limit.subject}: {ratio:.2f} x {limit.against}, at most {limit.ratio}")
    return broken


def measure(name: str, arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """The table of a row, and what is wrong with it; a limit counts as broken when it is twice in a row."""
    row: Row = importlib.import_module(f"benchmarks.rows.{name}").ROW
    if arguments.check and not row.limits:
        return "", []
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = measure_row(name, row, arguments, Path(folder))
            if arguments.check and exceeded(row, found):
                found = measure_row(name, row, arguments, Path(folder))
        except Unavailable as error:
            return report.missing(row, str(error)), []
    failed = [m for m in found if m.failure.startswith("failed") and m.subject.environment == "coronjax"]
    wrong = [f"{row.title}: {m.subject.name}: {m.failure}" for m in failed]
    if arguments.check:
        wrong += exceeded(row, found)
    return report.table(row, row.sizes[arguments.size], found), wrong


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """What to measure, and how long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("full", "quick", "tiny"), default="full")
    parser.add_argument("--rows", nargs="*", choices=ORDER, default=ORDER)
    parser.add_argument("--repeats", type=int, default=7, help="calls after the first, in each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each subject, all subjects in turn")
    parser.add_argument("--seconds", type=float, default=60, help="stop repeating after this time")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-peers", action="store_true", help="leave out what needs an environment of its own")
    parser.add_argument("--no-install", action="store_true", help="install no environments")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a row breaks one of its limits")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/RESULTS.md")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure and write; the exit status is 1 where one of our own subjects failed or broke a limit."""
    arguments = parse(words)
    # Where Python may not write it, as in a container, every process would make it again.
    if not compileall.compile_dir(ROOT / "coronjax", quiet=1):
        raise SystemExit(f"{ROOT / 'coronjax'}: its sources cannot be compiled to bytecode")
    tables, wrong = [report.head(arguments)], []
    for name in (name for name in ORDER if name in arguments.rows):
        table, problems = measure(name, arguments)
        if table:
            tables.append(table)
            print(table, flush=True)
        wrong += problems
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(tables), encoding="utf-8")
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
