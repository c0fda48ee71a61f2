"""Registration of as many images as a compiled program takes, and of one more, padded to the next size."""

from collections.abc import Callable

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject
from benchmarks.rows import registration
from benchmarks.rows.padding import cases, padded


def arrays(rng: np.random.Generator, n: int, size: int, reach: float) -> Arrays:
    return {**registration.arrays(rng, n + 1, size, reach), "n": np.array(n)}


def ours(case: str) -> Callable[[Arrays], Call]:
    def prepare(data: Arrays) -> Call:
        count, size = cases(int(data["n"]))[case]
        targets, valid = padded(data["targets"], count, size)
        call = registration.register(targets, data["moving"], data["weight"], valid)
        return lambda: {"shift": call()[:count]}

    return prepare


def floor(data: Arrays) -> Call:
    return registration.floor({**data, "targets": data["targets"][: int(data["n"])]})


def largest(output: Arrays, truth: Arrays) -> float:
    return registration.largest(output, {"shift": truth["shift"][: len(output["shift"])]})


ROW = Row(
    title="Padding, registration",
    work="{n} images of {size} x {size} pixels fill a size of stack, one more is padded to the next of four sizes to a "
    "power of two with planes that are not valid.",
    sizes={
        "full": {"n": 64, "size": 320, "reach": 1.5},
        "quick": {"n": 64, "size": 96, "reach": 1.5},
        "tiny": {"n": 8, "size": 48, "reach": 0.5},
    },
    arrays=arrays,
    reference=registration.reference,
    error=largest,
    unit="largest error, pixels",
    subjects=(
        Subject("coronjax, a full stack", ours("edge"), packages=("jax", "jaxlib")),
        Subject("coronjax, one image more, padded", ours("padded"), packages=("jax", "jaxlib")),
        Subject("coronjax, one image more as it is", ours("above"), packages=("jax", "jaxlib")),
        Subject("numpy, pocketfft, Gauss-Newton, a full stack", floor),
    ),
    limits=(Limit("coronjax, one image more, padded", "coronjax, a full stack", 2.5),),
)
