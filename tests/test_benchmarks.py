"""The benchmark at its smallest size: our subjects and the floors run, and do the same work."""

import importlib
from pathlib import Path

import pytest

from benchmarks.run import measure_row, parse

LIMITS = {"klip": 1e-4, "median": 1e-7, "registration": 1e-6, "drizzle": 1e-6}  # the errors' units are the rows' own


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_row(name: str, tmp_path: Path) -> None:
    row = importlib.import_module(f"benchmarks.rows.{name}").ROW
    arguments = parse(["--size", "tiny", "--no-peers", "--rounds", "1", "--repeats", "1"])
    found = [m for m in measure_row(name, row, arguments, tmp_path) if m.subject.environment == "coronjax"]
    assert not [m.failure for m in found if m.failure]
    assert max(m.error for m in found) < LIMITS[name]
