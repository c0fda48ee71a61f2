"""The benchmark at its smallest size: our subjects and the floors run, and do the same work."""

import importlib
from itertools import takewhile
from pathlib import Path

import jax
import numpy as np
import pytest

import coronjax
from benchmarks import accelerator, profile
from benchmarks.harness import Limit
from benchmarks.run import Measurement, exceeded, measure_row, parse

LIMITS = {  # the errors' units are the rows' own
    "klip": 1e-4,
    "klip_error": 1e-4,
    "klip_many": 1e-8,
    "klip_sweep": 1e-8,
    "klip_cubes": 1e-8,
    "klip_zones": 1e-8,
    "median": 1e-7,
    "registration": 1e-6,
    "padding": 1e-8,
    "padding_registration": 1e-6,
    "drizzle": 1e-6,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_row(name: str, tmp_path: Path) -> None:
    row = importlib.import_module(f"benchmarks.rows.{name}").ROW
    arguments = parse(["--size", "tiny", "--no-peers", "--rounds", "1", "--repeats", "1"])
    found = measure_row(name, row, arguments, tmp_path)
    assert not [m.failure for m in found if m.failure]
    assert max(m.error for m in found) < LIMITS[name]
    known = {subject.name for subject in row.subjects}
    assert {name for limit in row.limits for name in (limit.subject, limit.against)} <= known


@pytest.mark.slow
def test_steps_of_a_reduction(tmp_path: Path) -> None:
    made = coronjax.simulate.simulate("nircam", tmp_path, seed=1, shape=(48, 48), n_references=2)
    options = coronjax.Options.official()
    inputs = coronjax.load(made.asn, psfmask=made.psf_mask, options=options)
    found = profile.steps(inputs, options)
    assert sum(seconds for name, seconds in found.items() if name != "the whole") > 0
    assert len(found) == 7


@pytest.mark.slow
def test_steps_on_a_device() -> None:
    device = jax.devices()[0]
    jobs = accelerator.jobs(accelerator.SIZES["quick"], np.random.default_rng(0))
    for job in takewhile(lambda job: not job.name.startswith("reduce"), jobs):
        truth = accelerator.measure(job, "float64", device)
        for precision in job.precisions:
            found = accelerator.measure(job, precision, device)
            assert float(accelerator.error(found.output, truth.output)) < 1e-3, (job.name, precision)


def test_a_broken_limit_is_named() -> None:
    row = importlib.import_module("benchmarks.rows.median").ROW
    times = {"coronjax": 3.0, "numpy `nanmedian`": 1.0}
    found = [Measurement(s, times=[times[s.name]] if s.name in times else []) for s in row.subjects]
    assert row.limits == (Limit("coronjax", "numpy `nanmedian`", 1.0),)
    assert exceeded(row, found) == ["NaN-median: coronjax: 3.00 x numpy `nanmedian`, at most 1.0"]
    assert not exceeded(row, [Measurement(s, times=[1.0]) for s in row.subjects])
