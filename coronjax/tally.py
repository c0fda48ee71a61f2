"""A run in numbers: what was read, what was found, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .cube import DQ

if TYPE_CHECKING:
    from .inputs import Inputs
    from .io.exposure import Exposure
    from .options import Options
    from .reduction import Reduction


def count_inputs(inputs: Inputs) -> str:
    """How many exposures and integrations there are."""

    def count(kind: str, exposures: tuple[Exposure, ...]) -> str:
        return f"{len(exposures)} {kind} ({sum(e.shape[0] for e in exposures)} integrations)"

    return f"{count('science', inputs.science_exposures)}, {count('reference', inputs.reference_exposures)}"


def count_reduction(inputs: Inputs, reduction: Reduction) -> str:
    """How many outliers were flagged, registrations converged and modes subtracted."""
    valid = np.asarray(inputs.references.valid).ravel()
    converged = int(np.sum(reduction.registration.converged[:, valid]))
    outliers = sum(
        int(np.sum((np.asarray(cube.dq) & DQ.OUTLIER.value != 0) & np.asarray(cube.valid)[..., None, None]))
        for cube in (reduction.science, reduction.references)
    )
    return (
        f"{outliers} outliers flagged, {converged} of {valid.sum() * len(inputs.science_exposures)} registrations"
        f" converged, {', '.join(str(n) for n in reduction.subtraction.n_modes)} KL modes"
    )


def doubts(inputs: Inputs, reduction: Reduction, options: Options) -> Iterator[str]:
    """What the numbers of a reduction say against it."""
    valid = np.asarray(inputs.references.valid).ravel()
    used = np.asarray(reduction.used_references)
    empty = int(np.sum(valid & ~used))
    if empty:
        yield f"{empty} reference planes have no good pixel and are left out"
    lost = int(np.sum(~np.asarray(reduction.registration.converged)[:, used]))
    if lost and not options.align_refs.skip:
        yield f"{lost} registrations did not converge: see the table ALIGNMENT of the psfalign products"
    if reduction.i2d is not None and int(reduction.i2d.n_lost):
        yield f"{int(reduction.i2d.n_lost)} pixels of the i2d miss a part of their light: the pixel maps are too uneven"
