"""What a bare import costs."""

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.environments import run_measured
from benchmarks.harness import Arrays, Call, Limit, Row, Subject

# Nothing of these is needed before the first function is called.
HEAVY = ("optax", "astropy", "gwcs", "rich", "asdf", "scipy", "matplotlib", "tyro")
LIST = f"import sys; print(*(name for name in {HEAVY} if name in sys.modules))"


def imported(statement: str) -> Callable[[Arrays], Call]:
    """A process that runs one statement and ends."""

    def prepare(data: Arrays) -> Call:
        del data
        lists = [sys.executable, "-c", f"{statement}; {LIST}"]
        names = subprocess.run(lists, check=True, capture_output=True, text=True).stdout.split()
        remark = f"loads {', '.join(names)}" if names else ""
        command = [sys.executable, "-c", statement]
        found = {"heavy": np.array(len(names)), "remark": np.array(remark), "memory": run_measured(command)}

        def call() -> Arrays:
            start = time.perf_counter()
            subprocess.run(command, check=True)
            return {**found, "seconds": np.array(time.perf_counter() - start)}

        return call

    return prepare


ROW = Row(
    title="Import",
    work="The wall time of a process that imports and ends, the start of Python included. Heavy modules are "
    + ", ".join(HEAVY)
    + ".",
    sizes={"full": {}, "quick": {}, "tiny": {}},
    arrays=lambda rng: {},
    reference=lambda data: {},
    error=lambda output, truth: int(output["heavy"]),
    unit="heavy modules loaded",
    subjects=(
        Subject("`import coronjax`", imported("import coronjax"), packages=("coronjax",)),
        Subject("`import coronjax.ops`", imported("import coronjax.ops"), packages=("coronjax",)),
        Subject("`import jax`", imported("import jax"), packages=("jax", "jaxlib")),
        Subject("Python alone", imported("pass"), packages=()),
    ),
    limits=(Limit("`import coronjax`", "`import jax`", 1.5),),
)
