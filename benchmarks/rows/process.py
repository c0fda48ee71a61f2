"""The whole process, from the command to the products on disk."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import image_of, official_run
from benchmarks.harness import Arrays, Call, Row, Subject
from benchmarks.rows import drizzle, reduce


def arrays(rng: np.random.Generator, options: str, name: str) -> Arrays:
    return reduce.arrays(rng, options, name)


def ours(data: Arrays) -> Call:
    """The compilation cache is empty at the first call and filled afterwards."""
    cache = tempfile.mkdtemp()
    asn = Path(str(data["asn"]))
    command = [str(Path(sys.executable).parent / "coronjax"), "run", str(asn), "--official", "--quiet"]
    command += ["--psfmask", str(asn.parent / "psfmask.fits")]

    def call() -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "CORONJAX_CACHE_DIR": cache}
            subprocess.run([*command, "--output-dir", folder], check=True, env=environment, capture_output=True)
            return image_of(Path(folder))

    return call


def jwst(*flags: str) -> Any:
    def prepare(data: Arrays) -> Call:
        def call() -> Arrays:
            with tempfile.TemporaryDirectory() as folder:
                return official_run(sys.executable, Path(str(data["asn"])), Path(folder), *flags)

        return call

    return prepare


ROW = Row(
    title="Whole process",
    work="From the command to the products on disk: {name}. The first call of coronjax finds no compiled programs, the "
    "others those it left. The time includes the start of Python.",
    sizes=reduce.ROW.sizes,
    arrays=arrays,
    reference=reduce.ROW.reference,
    error=drizzle.error,
    unit="error of image, relative",
    subjects=(
        Subject("`coronjax run --official`", ours, packages=("coronjax", "jax", "jaxlib"), repeats=3),
        Subject("jwst, as shipped", jwst(), "official", ("jwst", "numpy"), repeats=2),
        Subject("jwst, registration in float64", jwst("--f64-align"), "official", ("jwst", "numpy"), repeats=2),
    ),
)
