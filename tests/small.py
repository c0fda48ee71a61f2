"""Two small simulated associations with the products of jwst 3.0.0, made by tests/official/make_reference.py."""

import dataclasses
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from coronjax import Cube, Options

FILE = Path(__file__).parent / "data/official_small.npz"
MODES = ("nircam", "miri_4qpm")
CUBE = tuple(field.name for field in fields(Cube))
_OFFICIAL = Options.official()
OPTIONS = dataclasses.replace(_OFFICIAL, klip=dataclasses.replace(_OFFICIAL.klip, truncate=2))


def read(mode: str, kind: str) -> dict[str, np.ndarray]:
    """The arrays of a mode: `input` of `reduce`, or `official` products."""
    with np.load(FILE) as file:
        start = f"{mode}/{kind}/"
        return {name.removeprefix(start): file[name] for name in file.files if name.startswith(start)}


def arguments(mode: str) -> dict[str, Any]:
    """The arguments of `coronjax.reduce`."""
    arrays = read(mode, "input")
    found: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
    for kind in ("science", "references"):
        found[kind] = Cube(**{part: arrays[f"{kind}.{part}"] for part in CUBE})
    shape = tuple(int(n) for n in arrays["output_shape"])
    return found | {"output_shape": shape, "window": int(arrays["window"]), "options": OPTIONS}
