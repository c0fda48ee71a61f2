"""The Python environments that subjects run in: ours, and one for each package we compare with."""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = {
    "pyklip": ["pyklip==2.10.1"],
    "vip": ["vip_hci==2.1.1"],
    "bottleneck": ["bottleneck==1.6.0"],
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
