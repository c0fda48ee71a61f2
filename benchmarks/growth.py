"""How the time of each step grows with references, integrations and pixels: python -m benchmarks.growth.

Writes benchmarks/GROWTH.md and docs/images/growth.png. Takes less than ten minutes and 8 GB.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.environments import ROOT
from benchmarks.harness import star
from benchmarks.report import duration, machine
from coronjax import ops
from coronjax.ops import spectral

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Call = Callable[[], Any]
LONGEST = 60.0  # s; a size that would take longer, at the growth of the last two, is left out
MODES = 50
DENSE_UP_TO = {"weights of max_modes": spectral.DENSE}  # above, all eigenpairs are no longer found


@dataclass(frozen=True)
class Problem:
    """The numbers of frames and pixels of one measurement."""

    references: int
    science: int
    side: int

    def stack(self, n: int, seed: int) -> jax.Array:
        """Frames of noise, float64: the time does not depend on what is in them."""
        return jax.random.normal(jax.random.key(seed), (n, self.side, self.side), float)


@dataclass
class Curve:
    """The times of one step along one axis."""

    step: str
    sizes: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # s

    @property
    def exponent(self) -> float:
        """Of a power law through the upper half of the sizes; through those that are not dense, if there are two."""
        dense = sum(size <= DENSE_UP_TO.get(self.step, 0) for size in self.sizes)
        first = max(len(self.sizes) // 2, dense if dense <= len(self.sizes) - 2 else 0)
        slope = float(np.polyfit(np.log(self.sizes[first:]), np.log(self.times[first:]), 1)[0])
        return round(slope, 2) + 0.0  # no -0.00


def gram(problem: Problem) -> Call:
    given = problem.stack(problem.references, 1), problem.stack(problem.science, 2)
    return _jitted(ops.gram, *given)


def weights(problem: Problem, max_modes: int | None = None) -> Call:
    n = problem.references
    strength = 1 / jnp.arange(1, n + 1) + 0.01  # as of wavefront modes above noise: finding a few depends on it
    frames, science = strength * jax.random.normal(jax.random.key(1), (n, n)), problem.stack(problem.science, 2)
    products = frames @ frames.T
    cross = jax.random.normal(jax.random.key(3), (n, len(science)))
    means = jnp.zeros((1, n)), jnp.zeros((1, len(science)))
    found = ops.Gram(products[None], cross[None], jnp.full(1, float(problem.side**2)), *means)
    modes = jnp.asarray(min(MODES, n))
    return _jitted(lambda g, k: ops.klip_weights(g, truncate=k, max_modes=max_modes), found, modes)


def leading(problem: Problem) -> Call:
    return weights(problem, max_modes=min(MODES, problem.references))


def apply(problem: Problem) -> Call:
    given = problem.stack(problem.science, 2), problem.stack(problem.references, 1)
    return _jitted(ops.subtract, *given, jnp.ones((1, problem.science, problem.references)))


def registration(problem: Problem) -> Call:
    side, n = problem.side, problem.references
    moving = jnp.asarray(1000 * star((side, side), (side - 1) / 2, (side - 1) / 2, side / 40))
    shifts = jax.random.uniform(jax.random.key(4), (n, 2), float, -1.5, 1.5)
    targets = jax.lax.map(lambda shift: ops.fourier_shift(moving, shift), shifts, batch_size=16)
    targets += problem.stack(n, 1)
    return _jitted(ops.register_all, targets, moving, jnp.ones_like(moving), jnp.ones(n, bool))


def median(problem: Problem) -> Call:
    stack = problem.stack(problem.references, 1).astype(jnp.float32)
    return _jitted(lambda planes: ops.nanmedian(planes, planes == planes), stack)


STEPS: dict[str, Callable[[Problem], Call]] = {
    "gram": gram,
    "weights": weights,
    "weights of max_modes": leading,
    "apply": apply,
    "registration": registration,
    "median": median,
}


@dataclass(frozen=True)
class Axis:
    """What grows, what is held, and which steps depend on it."""

    name: str
    held: str
    sizes: tuple[int, ...]
    problem: Callable[[int], Problem]
    steps: tuple[str, ...]


AXES = (
    Axis(
        "references",
        "80 x 80 pixels, 16 integrations; registration and median take as many images",
        (10, 30, 100, 300, 1000, 3000, 10000),
        lambda n: Problem(n, 16, 80),
        tuple(STEPS),
    ),
    Axis(
        "integrations",
        "160 x 160 pixels, 100 references",
        (1, 3, 10, 30, 100, 300, 1000),
        lambda n: Problem(100, n, 160),
        ("gram", "weights", "apply"),
    ),
    Axis(
        "pixels",
        "50 references, 8 integrations; registration and median of 50 images",
        tuple(side**2 for side in (80, 160, 240, 320, 512, 720, 1024)),
        lambda n: Problem(50, 8, round(n**0.5)),
        ("gram", "weights", "apply", "registration", "median"),
    ),
)


def _jitted(function: Callable[..., Any], *given: Any) -> Call:
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*given))


def seconds(call: Call, *, enough: float = 0.7, most: int = 100) -> float:
    """The least time of calls after the first: what disturbs them only lengthens them."""
    call()
    times: list[float] = []
    while len(times) < 3 or (len(times) < most and sum(times) < enough):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if times[-1] > LONGEST / 10:
            break
    return min(times)


def follow(axis: Axis, step: str, points: int | None = None) -> Curve:
    """The times of a step along an axis, from the smallest size up, until it takes too long."""
    curve = Curve(step)
    for size in axis.sizes[:points]:
        if len(curve.times) > 1:
            rate = np.log(curve.times[-1] / curve.times[-2]) / np.log(curve.sizes[-1] / curve.sizes[-2])
            if curve.times[-1] * (size / curve.sizes[-1]) ** max(rate, 1) > LONGEST:
                break
        curve.times.append(seconds(STEPS[step](axis.problem(size))))
        curve.sizes.append(size)
        jax.clear_caches()
    return curve


def table(axis: Axis, curves: list[Curve]) -> str:
    """An axis as Markdown: exponents, and times at both ends."""
    lines = [
        f"## {axis.name.capitalize()}\n",
        f"{axis.held}.\n",
        "| step | exponent | from | time | to | time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for curve in curves:
        ends = " | ".join(f"{curve.sizes[i]} | {duration(curve.times[i])}" for i in (0, -1))
        lines.append(f"| {curve.step} | {curve.exponent:.2f} | {ends} |")
    return "\n".join(lines) + "\n"


def draw(found: list[tuple[Axis, list[Curve]]], path: Path) -> None:
    """A panel for each axis, both scales logarithmic."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(4.2 * len(found), 4.4), sharey=True, layout="constrained")
    for panel, (axis, curves) in zip(panels, found, strict=True):
        _panel(panel, axis, curves)
    panels[0].set_ylabel("time, s")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(panel: Axes, axis: Axis, curves: list[Curve]) -> None:
    for curve in curves:
        k = list(STEPS).index(curve.step)
        label = f"{curve.step}, exponent {curve.exponent:.2f}"
        panel.loglog(curve.sizes, curve.times, "os*D^v"[k] + "-", color=f"C{k}", markersize=5, label=label)
    panel.set_xlabel(axis.name)
    panel.set_title(axis.held.split(";")[0], fontsize=9)
    panel.grid(which="major", alpha=0.3)
    panel.legend(fontsize=8, frameon=False)


HEAD = """# Growth

Written by `make bench-growth`: the least time of several calls of each step, compiled, in float64 but for the median,
as one number grows and the others are held. The exponent is that of a power law through the upper half of the sizes.
`gram` is the inner products of references and integrations, `weights` the eigenproblem and what follows from it, of
50 modes, also where `max_modes` asks for no more and above 2000 references only those are found (of a spectrum
that falls as one over the mode, above noise of a hundredth; the exponent is that of the sizes above 2000, if there are
two), `apply` the subtraction. A size that would take more than {longest:.0f} s is left out.

{machine}

![Time of each step](../docs/images/growth.png)
"""


def main(words: list[str] | None = None) -> None:
    """Measure, write the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, help="of each curve, from the smallest; by default all")
    parser.add_argument("--table", type=Path, default=ROOT / "benchmarks/GROWTH.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/growth.png")
    arguments = parser.parse_args(words)
    found, tables = [], [HEAD.format(longest=LONGEST, machine=machine(os.cpu_count() or 1))]
    with jax.enable_x64(True):
        for axis in AXES:
            curves = [follow(axis, step, arguments.points) for step in axis.steps]
            found.append((axis, curves))
            tables.append(table(axis, curves))
            print(tables[-1], flush=True)
    arguments.table.write_text("\n".join(tables), encoding="utf-8")
    draw(found, arguments.picture)


if __name__ == "__main__":
    main()
