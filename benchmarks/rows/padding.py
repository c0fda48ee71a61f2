"""KLIP with as many references as a compiled program takes, and with one more, padded to the next size."""

from collections.abc import Callable

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, relative_error
from benchmarks.rows import klip


def padded(stack: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first planes of a stack with planes of nothing behind them, and which are valid."""
    found = np.zeros((size, *stack.shape[1:]), stack.dtype)
    found[:count] = stack[:count]
    return found, np.arange(size) < count


def cases(n: int) -> dict[str, tuple[int, int]]:
    """Number of planes and size of the stack they are in, by what the output is called."""
    from coronjax.inputs import padded_size

    return {"edge": (n, n), "above": (n + 1, n + 1), "padded": (n + 1, padded_size(n + 1))}


def arrays(rng: np.random.Generator, n: int, **numbers: int) -> Arrays:
    return {**klip.arrays(rng, n_references=n + 1, **numbers), "n": np.array(n)}


def reference(data: Arrays) -> Arrays:
    n = int(data["n"])
    found = {}
    for name, (count, _) in cases(n).items():
        science = klip.rows_of(data["science"])
        modes = klip.leading_modes(klip.rows_of(data["references"][:count]), int(data["modes"]))
        found[name] = klip.shaped(data, science - (science @ modes.T) @ modes)["residual"]
    return found


def ours(case: str) -> Callable[[Arrays], Call]:
    def prepare(data: Arrays) -> Call:
        import jax

        jax.config.update("jax_enable_x64", True)
        from coronjax import ops
        from coronjax.options import Klip

        @jax.jit
        def compiled(science: jax.Array, references: jax.Array, valid: jax.Array, modes: jax.Array) -> jax.Array:
            planes = science.astype(float), references.astype(float)
            return ops.klip(*planes, options=Klip(truncate=modes), valid_references=valid, error=False).residual

        references, valid = padded(data["references"], *cases(int(data["n"]))[case])
        given = jax.device_put((data["science"], references, valid, data["modes"]))
        return lambda: {case: np.asarray(compiled(*given))}

    return prepare


def floor(data: Arrays) -> Call:
    n = int(data["n"])
    call = klip.floor(error=False)({**data, "references": data["references"][:n]})
    return lambda: {"edge": call()["residual"]}


ROW = Row(
    title="Padding, KLIP",
    work="{n} references fill a size of stack, one more is padded to the next of four sizes to a power of two with "
    "planes that are not valid; {n_science} integrations of {size} x {size} pixels, {modes} modes, float64, no "
    "error image.",
    sizes={
        "full": {"n": 64, "n_science": 16, "size": 320, "modes": 50},
        "quick": {"n": 64, "n_science": 8, "size": 160, "modes": 30},
        "tiny": {"n": 8, "n_science": 2, "size": 40, "modes": 4},
    },
    arrays=arrays,
    reference=reference,
    error=relative_error("edge", "above", "padded"),
    unit="error of residual, relative",
    subjects=(
        Subject("coronjax, a full stack", ours("edge"), packages=("jax", "jaxlib")),
        Subject("coronjax, one reference more, padded", ours("padded"), packages=("jax", "jaxlib")),
        Subject("coronjax, one reference more as it is", ours("above"), packages=("jax", "jaxlib")),
        Subject("numpy, LAPACK, a full stack", floor),
    ),
    limits=(Limit("coronjax, one reference more, padded", "coronjax, a full stack", 2.5),),
)
