"""Many associations on one and on two workers."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.environments import simulated_association
from benchmarks.harness import Arrays, Call, Row, Subject


def arrays(rng: np.random.Generator, count: int, options: str) -> Arrays:
    del rng
    return {"asn": np.array(str(simulated_association("nircam", 1, *options.split()))), "count": np.array(count)}


def reference(data: Arrays) -> Arrays:
    return {"done": data["count"]}


def ours(workers: int) -> Callable[[Arrays], Call]:
    """The workers are started, find compiled programs, and are stopped within the time."""

    def prepare(data: Arrays) -> Call:
        import coronjax

        asn = Path(str(data["asn"]))
        content = json.loads(asn.read_text(encoding="utf-8"))
        for product in content["products"]:
            for member in product["members"]:
                member["expname"] = str(asn.parent / member["expname"])
        folder = Path(tempfile.mkdtemp())
        for i in range(int(data["count"])):
            (folder / f"copy{i:02}_asn.json").write_text(json.dumps(content), encoding="utf-8")

        def call() -> Arrays:
            with tempfile.TemporaryDirectory() as products:
                found = coronjax.batch(
                    [folder / "*_asn.json"],
                    output_dir=products,
                    options=coronjax.Options.official(),
                    psfmask=asn.parent / "psfmask.fits",
                    allow_outside=True,
                    workers=workers,
                )
            return {"done": np.array(sum(one.status == "done" for one in found))}

        return call

    return prepare


def error(output: Arrays, truth: Arrays) -> float:
    return float(truth["done"] - output["done"])


ROW = Row(
    title="Many associations",
    work="{count} copies of the association of the whole process, official options: `coronjax.batch`, from files to "
    "files, workers started and stopped. The memory is that of the process that hands out the work.",
    sizes={
        "full": {"count": 20, "options": ""},
        "quick": {"count": 2, "options": "--shape 64 64 --n-ref 3"},
        "tiny": {"count": 2, "options": "--shape 64 64 --n-ref 3"},
    },
    arrays=arrays,
    reference=reference,
    error=error,
    unit="associations not done",
    subjects=(
        Subject("two workers", ours(2), packages=("coronjax", "distributed"), repeats=1),
        Subject("one worker", ours(1), packages=("coronjax", "distributed"), repeats=1),
    ),
)
