"""What the property tests have to know of an op."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arguments = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """How the property tests meet an op."""

    name: str  # its name in coronjax.ops
    call: Callable[..., Any]  # call(*arguments, **numbers)
    sample: Callable[[np.random.Generator], Arguments]  # valid arguments, float64, small
    differentiable: tuple[int, ...]  # positions of the arguments that gradients are taken in
    output: Callable[[Any], Any] = lambda result: result  # the differentiable, floating part of the result
    numbers: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # traced keywords: two values, one compilation
    spoil: Callable[[Arguments], Arguments] | None = None  # put NaN and flags in: result and gradient stay finite
    pad: Callable[[Arguments], Arguments] | None = None  # add invalid planes (full of NaN) ...
    unpad: Callable[[Any], Any] = lambda result: result  # ... and cut them off the result again
    degenerate: Callable[[Arguments], Arguments] | None = None  # repeated or zero references, flat images
    tolerance: float = 1e-5  # relative, derivative against finite differences
