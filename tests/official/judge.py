"""The official pipeline and the script that compares products, both run as programs of their own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import coronjax

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("CORONJAX_SHARED", ROOT.parent / "shared"))
TOOLS = SHARED / "tools"
OFFICIAL = Path(os.environ.get("CORONJAX_OFFICIAL_PYTHON", ROOT / ".venv-official/bin/python"))


def program(*command: object) -> str:
    """Run a program and give back what it printed; what it printed is the message where it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment, check=False)
    name = next(Path(str(word)).name for word in command if str(word).endswith(".py"))
    assert done.returncode == 0, f"{name} failed:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def compare(output: Path, *golden: Path, suffixes: tuple[str, ...] = ()) -> None:
    """Fail with the differences where products and reference products do not agree."""
    only = ("--suffix", *suffixes) if suffixes else ()
    program(sys.executable, "-W", "ignore", TOOLS / "compare_products.py", output, *golden, *only, "--quiet")


def make_dataset(case: str, folder: Path, *arguments: object) -> Path:
    """Make an association of a mode with the official data models."""
    program(OFFICIAL, TOOLS / "make_dataset.py", case, folder, *arguments)
    return association(folder)


def run_official(asn: Path, folder: Path, settings: dict[str, Any], mask: Path | None = None) -> None:
    """Run the official pipeline, its registration in double precision."""
    words = [f"{name}={_as_official(name, value)}" for name, value in settings.items()]
    masks = () if mask is None else (mask,)
    program(
        OFFICIAL, TOOLS / "run_official.py", asn, folder, *masks, "--f64-align", *(["--set", *words] if words else [])
    )


def _as_official(name: str, value: Any) -> str:
    if name == "outlier_detection.snr":
        return f"{value} {value}"  # of the two numbers it wants it uses the first
    return str(value)


def run_ours(asn: Path, folder: Path, settings: dict[str, Any]) -> Any:
    """Reduce the association with the official options and the given ones."""
    options = coronjax.Options.official()
    for name, value in settings.items():
        step, parameter = name.split(".")
        options = replace(options, **{step: replace(getattr(options, step), **{parameter: value})})
    return coronjax.run(asn, output_dir=folder, psfmask=asn.parent / "psfmask.fits", options=options)


def association(folder: Path) -> Path:
    """The one association of a folder."""
    (path,) = folder.glob("*_asn.json")
    return path


def worst_shift(result: Any, timings: Path) -> float:
    """The largest difference between our shifts and the official ones, pixels."""
    official = json.loads(timings.read_text())["align_shifts_xshift_yshift_beta_per_target"]
    assert len(result.alignment) == len(official)
    pairs = zip(result.alignment, official, strict=True)
    return max(float(np.abs(np.asarray(ours.shift) - np.array(theirs)[:, :2]).max()) for ours, theirs in pairs)
