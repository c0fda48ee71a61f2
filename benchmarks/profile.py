"""Where a reduction spends its time: python -m benchmarks.profile ASSOCIATION. Prints a table of its steps.

Each step is compiled and timed alone, on what the steps before it made.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import coronjax
from benchmarks.report import duration
from coronjax.alignment import Circumstances, align_references, register_references
from coronjax.chain import reduce
from coronjax.frames import flag_all, prepare
from coronjax.ops import klip, resample, stack_references
from coronjax.session import application_settings

REPEATS = 5


class Timed:
    """Calls functions, compiled, and keeps how long each takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, step: Callable[..., Any], *given: Any) -> Any:
        """What the function returns."""
        compiled = jax.jit(step)
        result = jax.block_until_ready(compiled(*given))
        self.seconds[name] = seconds(lambda: jax.block_until_ready(compiled(*given)))
        return result


def steps(inputs: Any, options: coronjax.Options) -> dict[str, float]:
    """Seconds of each step, for one science exposure where there is a choice, and of the whole."""
    timed, arguments = Timed(), jax.device_put(inputs.arguments())
    shapes = {"output_shape": inputs.grid.shape, "window": inputs.window}
    references, science = timed(
        "outliers", lambda r, s: flag_all(r, s, options), arguments["references"], arguments["science"]
    )
    stack = stack_references(references)
    box = arguments["zero_non_science"]
    planes, targets = timed(
        "repair", lambda *cubes: prepare(cubes, zero_non_science=box, options=options), stack, science
    )
    frames, cube = (jax.tree.map(lambda a: a[0], one) for one in (targets, science))
    star_steps(timed, (planes, stack.valid, frames, cube), circumstances(arguments, options), options)
    given = {name: arguments[name] for name in ("exposure_times", "background")}
    timed(
        "resampling",
        lambda c, maps, given: resample(c, maps, **given, **shapes, options=options.resample),
        *(science, arguments["pixel_maps"], given),
    )
    whole = arguments | shapes
    jax.block_until_ready(reduce(**whole, options=options))
    timed.seconds["the whole"] = seconds(lambda: jax.block_until_ready(reduce(**whole, options=options)))
    return timed.seconds


def star_steps(timed: Timed, images: tuple, known: Circumstances, options: coronjax.Options) -> None:
    """Time the steps that remove the star from one exposure."""
    planes, valid, frames, cube = images
    working = jnp.dtype(options.precision)
    frames = eqx.tree_at(lambda f: f.image, frames, frames.image.astype(working))
    registration = timed(
        "registration, one exposure",
        lambda p, f: register_references(p, valid, f, cube.valid, known, options),
        *(planes, frames),
    )
    aligned = timed(
        "shift, one exposure", lambda p, r: align_references(p, valid, r, known.blur, options), planes, registration
    )
    timed(
        "KLIP, one exposure",
        lambda s, r: klip(s, r, options=options.klip, valid_references=valid, error=False),
        *(frames.image, aligned.image.astype(working)),
    )


def circumstances(arguments: dict[str, Any], options: coronjax.Options) -> Circumstances:
    """Those of the first science exposure."""
    blur = arguments["blur"]
    return Circumstances(
        psf_mask=arguments["psf_mask"],
        psf_mismatch=jnp.asarray(arguments["psf_mismatch"]),
        star=arguments["star"][0],
        resolution=jnp.asarray(arguments["resolution"]),
        blur=jnp.asarray(blur) if blur is not None and options.align_refs.blur else None,
        background_variance=None,
        same_background=jnp.asarray(False),
    )


def seconds(call: Callable[[], Any]) -> float:
    """The median time of a few calls."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("association")
    parser.add_argument("--psfmask")
    arguments = parser.parse_args()
    chosen = {"official": coronjax.Options.official(), "default": coronjax.Options()}
    found = {}
    with application_settings("float64"):
        for name, options in chosen.items():
            inputs = coronjax.load(arguments.association, psfmask=arguments.psfmask, options=options)
            found[name] = steps(inputs, options)
    print("| step | " + " | ".join(found) + " |\n|---|" + "---:|" * len(found))
    for step in found["default"]:
        print(f"| {step} | " + " | ".join(duration(times[step]) for times in found.values()) + " |")


if __name__ == "__main__":
    main()
