"""The steps on an accelerator and on the processor beside it: python -m benchmarks.accelerator [--size quick].

Arrays lie on the device before and after: what is timed is the compiled program, the copies are not. Errors are against
the same step in float64 on the processor. Rows that fail say why, and the others go on.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import coronjax
from benchmarks.rows import klip, median, registration
from coronjax import ops
from coronjax.options import Klip, Options

SIZES = {
    "full": {"references": 100, "many": 1000, "size": 320, "planes": 100, "simulate": {}},
    "quick": {"references": 20, "many": 60, "size": 64, "planes": 8, "simulate": {"shape": (80, 80)}},
}
REPEATS = 9

Work = Callable[..., jax.Array]


class Job(NamedTuple):
    """A step with its arguments: numpy arrays, whose floats are taken to the precision of each run."""

    name: str
    work: Work
    arguments: tuple[Any, ...]
    precisions: tuple[str, ...] = ("float64", "float32")


class Run(NamedTuple):
    first: float  # s
    median: float  # s
    output: np.ndarray


def plain(science: jax.Array, references: jax.Array, count: int) -> jax.Array:
    """KLIP in the fewest lines: what anybody would write, and the floor of the table."""
    rows = references.reshape(len(references), -1)
    rows = rows - rows.mean(1, keepdims=True)
    target = science.reshape(len(science), -1)
    target = target - target.mean(1, keepdims=True)
    values, vectors = jnp.linalg.eigh(jnp.matmul(rows, rows.T, precision="highest"))
    values, vectors = values[-count:], vectors[:, -count:]
    weights = jnp.matmul(target, rows.T, precision="highest") @ vectors / values @ vectors.T
    return (target - jnp.matmul(weights, rows, precision="highest")).reshape(science.shape)


def jobs(size: dict[str, Any], rng: np.random.Generator) -> Iterator[Job]:
    modes = size["references"] // 2
    options = Klip(truncate=modes)

    def ours(science: jax.Array, references: jax.Array) -> jax.Array:
        return ops.klip(science, references, options=options, error=False).residual

    def with_error(science: jax.Array, references: jax.Array) -> jax.Array:
        return ops.klip(science, references, options=options, error=True).error

    def slope(science: jax.Array, references: jax.Array) -> jax.Array:
        return jax.grad(lambda r: jnp.sum(ours(science, r) ** 2))(references)

    few = klip.arrays(rng, 16, size["references"], size["size"], modes)
    images = few["science"], few["references"]
    yield Job("KLIP", ours, images)
    yield Job("KLIP, plain `jax.numpy`", lambda s, r: plain(s, r, modes), images)
    yield Job("KLIP with error image", with_error, images)
    yield Job("KLIP, gradient in the references", slope, images)
    many = klip.arrays(rng, 10, size["many"], size["size"], modes)
    yield Job("KLIP, many references", ours, (many["science"], many["references"]))
    yield Job("the same, plain", lambda s, r: plain(s, r, modes), (many["science"], many["references"]))
    yield Job("every number of modes, combined", lambda s, r: ops.klip_sweep(s, r, jnp.arange(1, len(r) + 1)), images)

    def register(targets: jax.Array, moving: jax.Array, weight: jax.Array) -> jax.Array:
        return ops.register_all(targets, moving, weight, jnp.ones(len(targets), bool)).shift

    moved = registration.arrays(rng, size["planes"], size["size"], 1.5)
    yield Job("registration", register, (moved["targets"], moved["moving"], moved["weight"]))
    stack = median.arrays(rng, 50, size["size"])["stack"]
    yield Job("NaN-median", lambda s: ops.nanmedian(s, s == s), (stack,), ("float32",))
    yield from chains(size["simulate"])


def chains(settings: dict[str, Any]) -> Iterator[Job]:
    """The chain as a whole on a simulated NIRCam association, and its gradient."""
    with tempfile.TemporaryDirectory() as folder:
        made = coronjax.simulate.simulate("nircam", folder, seed=1, **settings)
        given = coronjax.load(made.asn, psfmask=made.psf_mask).arguments()
    arrays = {name: given.pop(name) for name in ("science", "references", "psf_mask", "pixel_maps")}
    static = {name: given.pop(name) for name in ("output_shape", "window")}
    official = Options.official()
    newton = dataclasses.replace(official, align_refs=dataclasses.replace(official.align_refs, minimiser="newton"))

    def chain(options: Options) -> Work:
        def work(arrays: dict[str, Any], rest: dict[str, Any]) -> jax.Array:
            precision = "float64" if arrays["psf_mask"].dtype == jnp.float64 else "float32"
            chosen = dataclasses.replace(options, precision=precision)
            return coronjax.reduce(**arrays, **rest, **static, options=chosen).i2d.sci

        return work

    def slope(arrays: dict[str, Any], rest: dict[str, Any]) -> jax.Array:
        def total(sci: jax.Array) -> jax.Array:
            science = dataclasses.replace(arrays["science"], sci=sci)
            return jnp.nansum(chain(newton)({**arrays, "science": science}, rest) ** 2)

        return jax.grad(total)(arrays["science"].sci)

    for name, work in (
        ("reduce, official steps", chain(newton)),
        ("reduce, default options", chain(Options())),
        ("gradient of reduce, official steps", slope),
    ):
        yield Job(name, work, (arrays, given))


def cast(tree: Any, precision: str, device: Any) -> Any:
    """Arrays on a device, all floats in one precision."""

    def moved(array: Any) -> Any:
        array = np.asarray(array)
        floats = array.dtype.kind == "f"
        return jax.device_put(array.astype(precision) if floats else array, device)

    return jax.tree.map(moved, tree)


def measure(job: Job, precision: str, device: Any) -> Run:
    with jax.enable_x64(precision == "float64"), jax.default_device(device):
        arguments = cast(job.arguments, precision, device)
        compiled = jax.jit(job.work)
        times = []
        for _ in range(1 + REPEATS):
            begin = time.perf_counter()
            output = jax.block_until_ready(compiled(*arguments))
            times.append(time.perf_counter() - begin)
        return Run(times[0], statistics.median(times[1:]), np.asarray(output, float))


def error(output: np.ndarray, truth: np.ndarray) -> str:
    """Root mean square difference over the truth's scatter, and how many pixels are NaN in one alone."""
    lost = int((np.isnan(output) != np.isnan(truth)).sum())
    size = np.sqrt(np.nanmean((output - truth) ** 2)) / np.nanstd(truth)
    return f"{size:.1e}" + (f", {lost} pixels NaN in one alone" if lost else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    processor, device = jax.devices("cpu")[0], jax.devices()[0]
    print(f"{device.device_kind}, jax {jax.__version__}; errors against float64 on the processor\n")
    print("| | precision | first call | time | on the processor | error |\n|---|---|---:|---:|---:|---:|", flush=True)
    failed = 0
    for job in jobs(SIZES[arguments.size], np.random.default_rng(arguments.seed)):
        truth = None
        for precision in job.precisions:
            try:
                if truth is None:
                    truth = measure(job, "float64" if len(job.precisions) > 1 else precision, processor)
                run = measure(job, precision, device)
                times = f"{run.first:.2f} s | {1e3 * run.median:.2f} ms | {1e3 * truth.median:.1f} ms"
                print(f"| {job.name} | {precision} | {times} | {error(run.output, truth.output)} |", flush=True)
            except Exception as problem:  # of whatever kind: what a device cannot do is a line of the table
                failed += 1
                traceback.print_exc()
                print(f"| {job.name} | {precision} | {type(problem).__name__} | | | |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
