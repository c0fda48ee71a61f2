"""Time one subject of one row in a process of its own: child ROW SUBJECT INPUT OUTPUT REPEATS SECONDS THREADS."""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def main(
    row_name: str, subject_name: str, source: str, target: str, repeats: int, seconds: float, threads: int
) -> None:
    if hasattr(os, "sched_setaffinity"):  # XLA starts as many threads as it sees processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import numpy as np

    row = importlib.import_module(f"benchmarks.rows.{row_name}").ROW
    subject = next(s for s in row.subjects if s.name == subject_name)
    with np.load(source) as file:
        call = subject.prepare(dict(file))
    first, output = timed(call)
    times: list[float] = []
    for _ in range(subject.repeats or repeats):
        if times and sum(times) > seconds:
            break
        times.append(timed(call)[0])
    np.savez(target, **output)
    report = {"first": first, "times": times, "memory": peak_memory(), "versions": versions(subject.packages)}
    print("\n" + json.dumps(report))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and output of a call, which may time itself and give its seconds with the output."""
    start = time.perf_counter()
    output = call()
    seconds = time.perf_counter() - start
    return float(output.pop("seconds", seconds)), output


def peak_memory() -> float:
    """The most memory that this process, or one it started, ever held, MB."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kibibytes elsewhere
    return max(resource.getrusage(w).ru_maxrss for w in who) / unit


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found


if __name__ == "__main__":
    row, subject, source, target, repeats, seconds, threads = sys.argv[1:]
    main(row, subject, source, target, int(repeats), float(seconds), int(threads))
