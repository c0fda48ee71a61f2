"""The whole process, from the command to the products on disk."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.environments import image_of, official_run, run_measured
from benchmarks.harness import Arrays, Call, Row, Subject
from benchmarks.rows import drizzle, reduce


def arrays(rng: np.random.Generator, options: str, name: str) -> Arrays:
    return reduce.arrays(rng, options, name)


def ours(*flags: str, filled: bool = True) -> Callable[[Arrays], Call]:
    """The compilation cache is empty at the first call and filled afterwards, or empty at every call."""

    def prepare(data: Arrays) -> Call:
        cache = tempfile.mkdtemp()
        asn = Path(str(data["asn"]))
        command = [str(Path(sys.executable).parent / "coronjax"), "run", str(asn), *flags, "--quiet"]
        command += ["--psfmask", str(asn.parent / "psfmask.fits")]

        def call() -> Arrays:
            with tempfile.TemporaryDirectory() as folder:
                products = Path(folder) / "products"
                programs = cache if filled else f"{folder}/programs"
                memory = run_measured([*command, "--output-dir", str(products)], {"CORONJAX_CACHE_DIR": programs})
                image = image_of(products) if "--official" in flags else {}
            return {**image, "memory": memory}

        return call

    return prepare


def jwst(*flags: str) -> Callable[[Arrays], Call]:
    def prepare(data: Arrays) -> Call:
        def call() -> Arrays:
            with tempfile.TemporaryDirectory() as folder:
                return official_run(sys.executable, Path(str(data["asn"])), Path(folder), *flags)

        return call

    return prepare


def error(output: Arrays, truth: Arrays) -> float | None:
    return drizzle.error(output, truth) if "sci" in output else None


ROW = Row(
    title="Whole process",
    work="From the command to the products on disk: {name}. With an empty cache no call finds compiled programs; "
    "otherwise the first finds none, the others those it left. The time includes the start of Python, the memory is "
    "that of the calls after the first. The default options do more, see docs/differences.md: their image is another "
    "one, so that no error is given.",
    sizes=reduce.ROW.sizes,
    arrays=arrays,
    reference=reduce.ROW.reference,
    error=error,
    unit="error of image, relative",
    subjects=(
        Subject("`coronjax run --official`", ours("--official"), packages=("coronjax", "jax", "jaxlib"), repeats=3),
        Subject(
            "`coronjax run --official`, empty cache",
            ours("--official", filled=False),
            packages=("coronjax", "jax", "jaxlib"),
            repeats=3,
        ),
        Subject("`coronjax run`", ours(), packages=("coronjax", "jax", "jaxlib"), repeats=3),
        Subject("jwst, as shipped", jwst(), "official", ("jwst", "numpy"), repeats=2),
        Subject("jwst, registration in float64", jwst("--f64-align"), "official", ("jwst", "numpy"), repeats=2),
    ),
)
