"""The products of a coronagraphic reduction, as calwebb_coron3 names and describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .blend import table
from .metadata import (
    Cards,
    Provenance,
    asdf_content,
    exposure_name,
    product_metadata,
    provenance,
    step_status,
)
from .pending import Pending
from .product import Extension, Product, cube_planes, images, set_card, shared_variances
from .sky_products import i2d, unresampled
from .writing import begin_writing

if TYPE_CHECKING:
    from ..cube import Cube
    from .association import Association
    from .exposure import Exposure

__all__ = [
    "Product",
    "crfints",
    "i2d",
    "provenance",
    "psfalign",
    "psfstack",
    "psfsub",
    "unresampled",
    "write",
]


def crfints(exposure: Exposure, association: Association, cube: Cube, provenance: Provenance) -> Product:
    """An exposure with its outliers flagged.

    Args:
        exposure: as read.
        association: it belongs to.
        cube: its integrations after outlier detection, [integration y x].
        provenance: header cards on the software.

    Returns:
        `Product`: SCI ERR DQ AREA INT_TIMES VAR_* and whatever else the file held, with its WCS.
    """
    name = exposure_name(exposure, association, "crfints")
    primary, tree = product_metadata(exposure, association, name, {"outlier_detection": "COMPLETE"}, provenance)
    return Product(name, "crfints", primary, _cube_extensions(exposure, cube), asdf_content(exposure, tree))


def psfstack(
    references: Sequence[Exposure],
    association: Association,
    cube: Cube,
    provenance: Provenance,
    *,
    outliers_skipped: bool = False,
) -> Product:
    """All integrations of all reference exposures, with the metadata of the first.

    Args:
        references: reference exposures.
        association: they belong to.
        cube: their integrations one after the other, [plane y x].
        provenance: header cards on the software.
        outliers_skipped: outlier detection was left out.

    Returns:
        `Product`: SCI ERR DQ, without a WCS in the ASDF extension.
    """
    name = f"{association.product_name}_psfstack.fits"
    steps = {"outlier_detection": step_status(outliers_skipped), "stack_refs": "COMPLETE"}
    primary, tree = product_metadata(references[0], association, name, steps, provenance)
    extensions = images({"SCI": cube.sci, "ERR": cube.err, "DQ": cube.dq}, references[0].headers)
    content = asdf_content(references[0], tree, keep_wcs=False)
    return Product(name, "psfstack", primary, tuple(extensions), content)


def psfalign(
    exposure: Exposure,
    references: Sequence[Exposure],
    association: Association,
    *,
    sci: np.ndarray | Pending,
    err: np.ndarray | Pending,
    alignment: Mapping[str, np.ndarray],
    mask_source: str,
    provenance: Provenance,
    dq: np.ndarray | Pending | None = None,
    cards: Cards | None = None,
    skipped: bool = False,
    outliers_skipped: bool = False,
) -> Product:
    """All reference integrations aligned to one science exposure, with the metadata of the first reference.

    Args:
        exposure: the science exposure, which names the product.
        references: reference exposures.
        association: they belong to.
        sci: aligned images, [plane y x], MJy/sr.
        err: their errors, [plane y x], MJy/sr.
        alignment: how each plane was aligned: columns of the table ALIGNMENT.
        mask_source: where the weight of the registration came from.
        provenance: header cards on the software.
        dq: their flags, [plane y x]; by default none is set.
        cards: further cards of the primary header: value and comment by keyword.
        skipped: alignment was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        `Product`: SCI ERR DQ, without a WCS in the ASDF extension, and the table ALIGNMENT.
    """
    name = exposure_name(exposure, association, "psfalign")
    outliers, aligned = step_status(outliers_skipped), step_status(skipped)
    steps = {"outlier_detection": outliers, "stack_refs": "COMPLETE", "align_refs": aligned}
    primary, tree = product_metadata(references[0], association, name, steps, {**provenance, **(cards or {})})
    set_card(primary, "R_PSFMAS", str(mask_source), "PSF mask reference file")
    tree["meta.ref_file.psfmask.name"] = str(mask_source)
    dq = np.zeros(np.shape(sci), np.uint32) if dq is None else dq
    extensions = images({"SCI": sci, "ERR": err, "DQ": dq}, references[0].headers)
    if not skipped:
        extensions.append(Extension.of(table(alignment, "ALIGNMENT")))
    content = asdf_content(references[0], tree, keep_wcs=False)
    return Product(name, "psfalign", primary, tuple(extensions), content)


def psfsub(
    exposure: Exposure,
    association: Association,
    cube: Cube,
    *,
    n_modes: int,
    provenance: Provenance,
    var_references: np.ndarray | None = None,
    var_speckles: np.ndarray | None = None,
    cards: Cards | None = None,
    skipped: bool = False,
    outliers_skipped: bool = False,
) -> Product:
    """A science exposure with the star subtracted.

    Args:
        exposure: as read, or `corrected_exposure` of it.
        association: it belongs to.
        cube: its integrations after the subtraction, [integration y x].
        n_modes: number of KL modes subtracted.
        provenance: header cards on the software.
        var_references: variance by the noise of the references, which all integrations share, [y x], (MJy/sr)^2.
        var_speckles: that by what the references leave of the star, [y x], (MJy/sr)^2.
        cards: further cards of the primary header: value and comment by keyword.
        skipped: the subtraction was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        `Product`: SCI ERR DQ AREA INT_TIMES VAR_* and whatever else the file held, with its WCS; VAR_REFERENCES and
        VAR_SPECKLES where they are given.
    """
    name = exposure_name(exposure, association, "psfsub")
    steps = {"outlier_detection": step_status(outliers_skipped), "klip": step_status(skipped)}
    primary, tree = product_metadata(exposure, association, name, steps, {**provenance, **(cards or {})})
    set_card(primary, "KLMODES", 0 if skipped else int(n_modes), "Number of KL modes subtracted")
    shared = shared_variances({"VAR_REFERENCES": var_references, "VAR_SPECKLES": var_speckles})
    extensions = (*_cube_extensions(exposure, cube), *shared)
    return Product(name, "psfsub", primary, extensions, asdf_content(exposure, tree))


def write(made: Iterable[Product], folder: str | Path) -> tuple[Path, ...]:
    """Write products under their names; a name appears only once its file is complete.

    Args:
        made: the products.
        folder: made where it is missing; files of the same names are replaced.

    Returns:
        Paths of the files.

    Raises:
        OutputError: the folder or a file cannot be written. What is complete by then stays.
    """
    folder = Path(folder)
    ends: list[Future[Path]] = []
    with ThreadPoolExecutor(1) as disk:  # waits for it, while the next file is made, and no more than that
        for product in made:
            if len(ends) > 1:
                ends[-2].result()
            ends.append(disk.submit(begin_writing(product.hdulist(), folder / product.name)))
    return tuple(end.result() for end in ends)


def _cube_extensions(exposure: Exposure, cube: Cube) -> tuple[Extension, ...]:
    """The extensions of an exposure around new arrays."""
    arrays = cube_planes(cube)
    variances = {name: arrays.pop(name) for name in ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")}
    before = images({**arrays, "AREA": exposure.area}, exposure.headers)
    times = []
    if exposure.int_times_bytes is not None:
        times = [Extension.of_table(exposure.headers["INT_TIMES"], exposure.int_times_bytes)]
    others = [Extension.of(hdu) for hdu in exposure.others]
    return (*before, *times, *images(variances, exposure.headers), *others)
