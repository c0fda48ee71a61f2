"""Time one subject of one row in a process of its own: child ROW SUBJECT INPUT OUTPUT REPEATS SECONDS THREADS."""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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
    memories = [float(output.pop("memory", 0))]  # of processes that the call starts
    for _ in range(subject.repeats or repeats):
        if times and sum(times) > seconds:
            break
        again, output = timed(call)
        times.append(again)
        memories.append(float(output.pop("memory", 0)))
    # The first call compiles, which is told apart in memory as in time.
    report = {"first": first, "times": times, "memory": max(memories[1:] or memories) or peak_memory()}
    np.savez(target, **output)
    report["versions"] = versions(subject.packages)
    print("\n" + json.dumps(report))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and output of a call, which may time itself and give its seconds with the output."""
    start = time.perf_counter()
    output = call()
    seconds = time.perf_counter() - start
    return float(output.pop("seconds", seconds)), output


def peak_memory() -> float:
    """The most memory that this process ever held, MB; a call that starts processes reports theirs itself."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there begins with the memory of the process that started this one
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


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
