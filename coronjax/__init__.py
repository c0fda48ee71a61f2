"""coronjax: the JWST stage 3 coronagraphic pipeline as a functional, differentiable JAX library."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import analysis, ops, simulate
    from .associations import Outcome, batch
    from .chain import reduce
    from .cube import DQ, Cube
    from .errors import AssociationError, CoronjaxError, ExposureError, OptionsError, OutputError, PrecisionError
    from .inputs import Inputs, load
    from .library import klip_library
    from .options import AlignRefs, Background, Klip, Options, OutlierDetection, Resample, Star
    from .pipeline import Step, run
    from .reduction import Reduction
    from .result import Result

__version__ = version("coronjax")

# Where each public name lives. It is imported when it is first used, so that `import coronjax` costs nothing by itself.
_HOME = {
    "DQ": "cube",
    "Cube": "cube",
    "AssociationError": "errors",
    "CoronjaxError": "errors",
    "ExposureError": "errors",
    "OptionsError": "errors",
    "OutputError": "errors",
    "PrecisionError": "errors",
    "AlignRefs": "options",
    "Background": "options",
    "Klip": "options",
    "Options": "options",
    "OutlierDetection": "options",
    "Resample": "options",
    "Star": "options",
    "Inputs": "inputs",
    "Outcome": "associations",
    "batch": "associations",
    "Step": "pipeline",
    "klip_library": "library",
    "load": "inputs",
    "run": "pipeline",
    "Reduction": "reduction",
    "reduce": "chain",
    "Result": "result",
}
_MODULES = ("analysis", "ops", "simulate")

__all__ = [
    "DQ",
    "AlignRefs",
    "AssociationError",
    "Background",
    "CoronjaxError",
    "Cube",
    "ExposureError",
    "Inputs",
    "Klip",
    "Options",
    "OptionsError",
    "Outcome",
    "OutlierDetection",
    "OutputError",
    "PrecisionError",
    "Reduction",
    "Resample",
    "Result",
    "Star",
    "Step",
    "analysis",
    "batch",
    "klip_library",
    "load",
    "ops",
    "reduce",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
