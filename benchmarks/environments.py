"""The Python environments that subjects run in: ours, and one for each package we compare with."""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from benchmarks.harness import Arrays

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("CORONJAX_SHARED", ROOT.parent / "shared"))
REQUIREMENTS = {
    "pyklip": ["pyklip==2.10.1"],
    "vip": ["vip_hci==2.1.1"],
    "bottleneck": ["bottleneck==1.6.0"],
    "coronalyze": ["coronalyze==1.1.1", "jax==0.10.2", "jaxlib==0.10.2"],
}


class Unavailable(Exception):
    """An environment that cannot be had; the message says why."""


def python_of(name: str, *, install: bool = True) -> Path:
    """The interpreter of an environment, installed where that is asked for.

    Raises:
        Unavailable: it is not there, or its packages cannot be installed.
    """
    if name == "coronjax":
        return Path(sys.executable)
    if name == "official":
        return _official(install)
    folder = ROOT / f".venv-peer-{name}"
    return _installed(folder, REQUIREMENTS[name], install)


def simulated_association(case: str, seed: int, *arguments: str) -> Path:
    """The association file of a simulated dataset in the official file format, made once and kept in ./build.

    Raises:
        Unavailable: the program that makes it, or the environment it needs, is not there.
    """
    program = SHARED / "tools/make_dataset.py"
    if not program.exists():
        raise Unavailable(f"no program {program}")
    folder = ROOT / "build/benchmarks" / "-".join([case, str(seed), *(a.lstrip("-") for a in arguments)])
    if not list(folder.glob("*_asn.json")):
        python = python_of("official", install=False)
        command = [str(python), str(program), case, str(folder), "--seed", str(seed), *arguments]
        subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*_asn.json"))


def official_run(python: str, asn: Path, folder: Path, *flags: str) -> Arrays:
    """Run the official pipeline on an association; the image it makes."""
    command = [python, str(SHARED / "tools/run_official.py"), str(asn), str(folder), *flags]
    memory = run_measured(command)
    return {**image_of(folder), "memory": memory}


def run_measured(command: list[str], variables: dict[str, str] | None = None) -> np.ndarray:
    """Run a command; the most memory that it or a process it started ever held, MB.

    A process begins with the peak of the one that starts it, so that one is an interpreter with nothing imported.
    """
    with tempfile.NamedTemporaryFile(mode="r") as file:
        launcher = [sys.executable, "-S", str(Path(__file__).parent / "peak.py"), file.name, *command]
        subprocess.run(launcher, check=True, capture_output=True, env={**os.environ, **(variables or {})})
        return np.array(float(file.read()))


def image_of(folder: Path) -> Arrays:
    """The sky image among the products in a folder, and its weight."""
    from astropy.io import fits

    with fits.open(next(folder.glob("*_i2d.fits"))) as file:
        return {"sci": file["SCI"].data.astype(float), "weight": file["WHT"].data.astype(float)}


def _official(install: bool) -> Path:
    named = os.environ.get("CORONJAX_OFFICIAL_PYTHON")
    if named and Path(named).exists():
        return Path(named)
    requirements = ROOT / "tests/official/requirements.txt"
    return _installed(ROOT / ".venv-official", ["-r", str(requirements)], install)


def _installed(folder: Path, requirements: list[str], install: bool) -> Path:
    python, stamp = folder / "bin/python", folder / ".installed"
    if stamp.exists():
        return python
    if not install:
        raise Unavailable("not installed")
    venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if "ERROR" in line.upper()] or ["no reason given"]
        raise Unavailable(f"cannot be installed: {reasons[-1].strip()[:160]}")
    stamp.touch()
    return python
