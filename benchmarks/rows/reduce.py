"""The chain from cubes to sky image on a NIRCam association, files left aside."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from benchmarks.harness import Arrays, Call, Row, Subject
from benchmarks.rows import drizzle, klip, median, registration

CUBE = ("sci", "err", "dq", "valid", "var_poisson", "var_rnoise", "var_flat")


def arrays(rng: np.random.Generator, options: str, name: str) -> Arrays:
    del name
    import coronjax
    from benchmarks.environments import simulated_association

    asn = simulated_association("nircam", 1, *options.split())
    given = coronjax.load(asn, psfmask=asn.parent / "psfmask.fits").arguments()
    cubes = {f"{kind}_{part}": getattr(given[kind], part) for kind in ("science", "references") for part in CUBE}
    rest = {key: np.asarray(given[key]) for key in ("psf_mask", "pixel_maps", "output_shape", "visited", "window")}
    return {**cubes, **rest, "asn": np.array(str(asn))}


def ours(precision: Literal["float64", "float32"]) -> Any:
    def prepare(data: Arrays) -> Call:
        import jax

        jax.config.update("jax_enable_x64", True)
        import coronjax

        science, references = (
            coronjax.Cube(**{part: jax.device_put(data[f"{kind}_{part}"]) for part in CUBE})
            for kind in ("science", "references")
        )
        given = jax.device_put((science, references, data["psf_mask"], data["pixel_maps"]))
        visited = jax.device_put(data["visited"])
        shape = (int(data["output_shape"][0]), int(data["output_shape"][1]))
        options = coronjax.Options.official()
        if precision == "float32":  # in which lmdif cannot be followed
            align_refs = replace(options.align_refs, minimiser="newton")
            options = replace(options, align_refs=align_refs, precision=precision)

        def call() -> Arrays:
            done = coronjax.reduce(
                *given, visited=visited, output_shape=shape, window=int(data["window"]), options=options
            )
            image = jax.block_until_ready(done).i2d
            return {"sci": np.asarray(image.sci), "weight": np.asarray(image.weight)}

        return call

    return prepare


def _flagged(data: Arrays, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Values, NaN where bad, and which pixels are, after outliers have been found in every exposure."""
    cubes, bad = [], []
    for sci, err, dq in zip(*(data[f"{kind}_{part}"] for part in ("sci", "err", "dq")), strict=True):
        unusable = (dq & 1) != 0
        middle = median.floor({"stack": np.where(unusable, np.float32(np.nan), sci)})()["median"]
        with np.errstate(invalid="ignore"):
            unusable |= (np.abs(sci - middle) > 5 * np.nan_to_num(err)) | np.isnan(sci)
        cubes.append(np.where(unusable, np.nan, sci))
        bad.append(unusable)
    return np.array(cubes), np.array(bad)


def _repaired(images: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Bad pixels replaced by the median of the good ones around; 0 in the first row and column."""
    padded = np.pad(np.where(bad, np.nan, images), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    plane, y, x = np.nonzero(bad)
    around = np.stack([padded[plane, y + j, x + i] for j in range(3) for i in range(3)])
    around = np.where((y == 0) | (x == 0), np.nan, around)
    fill = median.floor({"stack": around[:, None]})()["median"][0]
    filled = images.copy()
    filled[plane, y, x] = np.nan_to_num(fill)
    return filled


def floor(data: Arrays) -> Call:
    """The floors of the other rows, one after another, in float64."""

    def call() -> Arrays:
        science, science_bad = _flagged(data, "science")
        there = data["references_valid"]  # the others are padding
        references, references_bad = (a[there] for a in _flagged(data, "references"))
        stack = _repaired(references, references_bad)
        residuals = []
        for exposure, bad in zip(science, science_bad, strict=True):
            target = _repaired(exposure, bad)
            given = {"targets": stack, "moving": target[0], "weight": data["psf_mask"]}
            shifts = registration.floor(given)()["shift"]
            spectra, shape = np.fft.rfft2(stack), stack.shape[1:]
            aligned = [registration.shifted(s, shape, -shift)[0] for s, shift in zip(spectra, shifts, strict=True)]
            given = {"science": target, "references": np.array(aligned), "modes": np.array(50)}
            residuals.append(klip.floor(error=True)(given)()["residual"])
        given = {name: data[f"science_{name}"] for name in drizzle.VARIANCES}
        dq = (data["science_dq"] & 513) | science_bad | ~data["visited"][:, None]
        given |= {"sci": np.array(residuals), "dq": dq, "maps": data["pixel_maps"], "shape": data["output_shape"]}
        return drizzle.floor(given)()

    return call


def jwst(*flags: str) -> Callable[[Arrays], Call]:
    """The steps of the official pipeline; files are read and written outside the clock."""
    import json
    import sys
    import tempfile
    from pathlib import Path

    from benchmarks.environments import official_run

    def prepare(data: Arrays) -> Call:
        def call() -> Arrays:
            with tempfile.TemporaryDirectory() as folder:
                image = official_run(sys.executable, Path(str(data["asn"])), Path(folder), *flags)
                steps = json.loads((Path(folder) / "timings.json").read_text())["steps"]
            return {**image, "seconds": np.array(sum(step["total"] for step in steps.values()))}

        return call

    return prepare


ROW = Row(
    title="reduce",
    work="From cubes to sky image, in memory: {name}.",
    sizes={
        "full": {"options": "", "name": "NIRCam, 320 x 320 pixels, 2 x 3 integrations, 18 reference integrations"},
        "quick": {"options": "--shape 160 160", "name": "the same with 160 x 160 pixels"},
        "tiny": {"options": "--shape 64 64 --n-ref 3", "name": "64 x 64 pixels, 2 x 3 integrations, 6 references"},
    },
    arrays=arrays,
    reference=lambda data: floor(data)(),
    error=drizzle.error,
    unit="error of image, relative",
    subjects=(
        Subject("coronjax", ours("float64"), packages=("jax", "jaxlib")),
        Subject("coronjax, float32", ours("float32"), packages=("jax", "jaxlib")),
        Subject("numpy, LAPACK, pocketfft, scipy.sparse", floor, packages=("numpy", "scipy")),
        Subject("jwst, its five steps, as shipped", jwst(), "official", ("jwst", "numpy"), repeats=1),
        Subject(
            "jwst, its five steps, registration in float64",
            jwst("--f64-align"),
            "official",
            ("jwst", "numpy"),
            repeats=1,
        ),
    ),
)
