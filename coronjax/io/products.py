"""The products of a coronagraphic reduction, as calwebb_coron3 names and describes them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from ..errors import ExposureError
from .blend import blended_keywords, header_table, table
from .product import Extension, Product, images, plain_header, set_card
from .tree import carried_over, with_wcs
from .writing import write_atomically

if TYPE_CHECKING:
    from ..cube import Cube
    from .association import Association
    from .exposure import Exposure
    from .wcs import OutputGrid

Provenance = Mapping[str, tuple[Any, str]]  # value and comment by keyword
_Tree = dict[str, Any]  # entries of the ASDF tree by place

_SUFFIX = re.compile(r"[_-](calints|crfints|rateints|psfsub|psfalign|psfstack|cal|crf|rate|i2d)$")
# Keywords of the first exposure's WCS that do not hold for the sky image.
_EXPOSURE_WCS = re.compile(
    r"WCSAXES|(CRPIX|CRVAL|CTYPE|CUNIT|CDELT|CROTA)\d|(PC|CD)\d_\d|[AB]P?_(ORDER|DMAX|\d+_\d+)|LONPOLE|LATPOLE|RADESYS"
    r"|V[23]_REF|(RA|DEC|ROLL)_REF|VPARITY|V3I_YANG|S_REGION"
)
# Step: keyword and comment, place in the metadata tree.
_STEPS = {
    "outlier_detection": ("S_OUTLIR", "Outlier Detection", "outlier_detection"),
    "stack_refs": ("S_PSFSTK", "Coronagraphic PSF Stacking", "stack_psfs"),
    "align_refs": ("S_PSFALI", "Coronagraphic PSF Alignment", "align_psfs"),
    "klip": ("S_KLIP", "Coronagraphic PSF Subtraction", "klip"),
    "resample": ("S_RESAMP", "Image resampling", "resample"),
}


def provenance(options: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Header cards that say with what a product was made.

    Args:
        options: of the reduction, nested mappings of names to numbers and text.

    Returns:
        Value and comment by keyword: versions, and the options as JSON.

    Example:
        >>> provenance({"klip": {"truncate": 20}})["CJOPTION"][0]
        '{"klip": {"truncate": 20}}'
    """
    return {
        "CORONJAX": (metadata.version("coronjax"), "Version of coronjax that made this"),
        "JAXVER": (metadata.version("jax"), "Version of JAX it ran on"),
        "CJOPTION": (json.dumps(_jsonable(options)), "Options, JSON"),
    }


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
    name = _exposure_name(exposure, association, "crfints")
    primary, tree = _metadata(exposure, association, name, {"outlier_detection": "COMPLETE"}, provenance)
    return Product(name, "crfints", primary, _cube_extensions(exposure, cube), _asdf(exposure, tree))


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
    steps = {"outlier_detection": _done(outliers_skipped), "stack_refs": "COMPLETE"}
    primary, tree = _metadata(references[0], association, name, steps, provenance)
    extensions = images({"SCI": cube.sci, "ERR": cube.err, "DQ": cube.dq}, references[0].headers)
    content = _asdf(references[0], tree, keep_wcs=False)
    return Product(name, "psfstack", primary, tuple(extensions), content)


def psfalign(
    exposure: Exposure,
    references: Sequence[Exposure],
    association: Association,
    *,
    sci: np.ndarray,
    err: np.ndarray,
    alignment: Mapping[str, np.ndarray],
    mask_source: str,
    provenance: Provenance,
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
        skipped: alignment was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        `Product`: SCI ERR DQ, without a WCS in the ASDF extension, and the table ALIGNMENT.
    """
    name = _exposure_name(exposure, association, "psfalign")
    outliers, aligned = _done(outliers_skipped), _done(skipped)
    steps = {"outlier_detection": outliers, "stack_refs": "COMPLETE", "align_refs": aligned}
    primary, tree = _metadata(references[0], association, name, steps, provenance)
    set_card(primary, "R_PSFMAS", str(mask_source), "PSF mask reference file")
    tree["meta.ref_file.psfmask.name"] = str(mask_source)
    arrays = {"SCI": sci, "ERR": err, "DQ": np.zeros(np.shape(sci), np.uint32)}
    extensions = [*images(arrays, references[0].headers), Extension.of(table(alignment, "ALIGNMENT"))]
    content = _asdf(references[0], tree, keep_wcs=False)
    return Product(name, "psfalign", primary, tuple(extensions), content)


def psfsub(
    exposure: Exposure,
    association: Association,
    cube: Cube,
    *,
    n_modes: int,
    provenance: Provenance,
    skipped: bool = False,
    outliers_skipped: bool = False,
) -> Product:
    """A science exposure with the star subtracted.

    Args:
        exposure: as read.
        association: it belongs to.
        cube: its integrations after the subtraction, [integration y x].
        n_modes: number of KL modes subtracted.
        provenance: header cards on the software.
        skipped: the subtraction was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        `Product`: SCI ERR DQ AREA INT_TIMES VAR_* and whatever else the file held, with its WCS.
    """
    name = _exposure_name(exposure, association, "psfsub")
    steps = {"outlier_detection": _done(outliers_skipped), "klip": _done(skipped)}
    primary, tree = _metadata(exposure, association, name, steps, provenance)
    set_card(primary, "KLMODES", int(n_modes), "Number of KL modes subtracted")
    return Product(name, "psfsub", primary, _cube_extensions(exposure, cube), _asdf(exposure, tree))


def i2d(
    exposures: Sequence[Exposure],
    association: Association,
    grid: OutputGrid,
    arrays: Mapping[str, np.ndarray | None],
    *,
    resampling: Mapping[str, Any],
    provenance: Provenance,
    klip_skipped: bool = False,
    outliers_skipped: bool = False,
) -> Product:
    """The sky image of all science exposures.

    Args:
        exposures: science exposures as read; their headers are combined and listed.
        association: they belong to.
        grid: pixels of the image.
        arrays: sci, err, wht, var_poisson, var_rnoise, var_flat [y x] and con [word y x]; None leaves one out.
        resampling: options of the resampling: pixfrac, kernel, weight_type, fillval.
        provenance: header cards on the software.
        klip_skipped: the subtraction was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        `Product`: SCI ERR CON WHT VAR_* HDRTAB, with the WCS of the grid.

    Source: calwebb_coron3 of jwst 3.0.0; of the first exposure's keywords, those in `blend_rules` are combined.
    """
    name = f"{association.product_name}_i2d.fits"
    first = exposures[0]
    steps = {"outlier_detection": _done(outliers_skipped), "klip": _done(klip_skipped), "resample": "COMPLETE"}
    primary, tree = _metadata(first, association, name, steps, provenance, model="ImageModel")
    sci = _sky_header(first, grid)
    headers = [_associated(exposure, association) for exposure in exposures]
    for extension, keyword, place, value in blended_keywords(headers):
        (primary if extension == "PRIMARY" else sci)[keyword] = value
        tree[f"meta.{place}"] = value
    pointings = len({_group(exposure) for exposure in exposures})
    set_card(primary, "NDRIZ", pointings, "Number of exposures resampled")
    set_card(primary, "RESWHT", str(resampling["weight_type"]), "Weighting of the resampling")
    set_card(primary, "PIXFRAC", float(resampling["pixfrac"]), "Side of a drop in input pixels")
    set_card(primary, "PXSCLRT", grid.pixel_scale_ratio, "Pixel scale ratio, output over input")
    tree["meta.resample"] = {
        "pointings": pointings,
        "weight_type": str(resampling["weight_type"]),
        "pixfrac": float(resampling["pixfrac"]),
        "pixel_scale_ratio": grid.pixel_scale_ratio,
        "kernel": str(resampling["kernel"]),
        "fillval": str(float(resampling["fillval"])).upper(),
    }
    order = ("SCI", "ERR", "CON", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
    ordered = {key: arrays.get(key.lower()) for key in order}
    known = {"SCI": sci, "ERR": first.headers.get("ERR", fits.Header())}
    extensions = (*images(ordered, known), Extension.of(header_table(headers)))
    content = with_wcs(first.asdf_bytes, grid.wcs, tree, drop=("meta.wcsinfo",))
    return Product(name, "i2d", primary, extensions, content)


def unresampled(
    exposures: Sequence[Exposure],
    association: Association,
    cubes: Sequence[Cube],
    *,
    provenance: Provenance,
    klip_skipped: bool = False,
    outliers_skipped: bool = False,
) -> tuple[Product, ...]:
    """The integrations of all science exposures as single images, in place of a sky image.

    Args:
        exposures: science exposures as read.
        association: they belong to.
        cubes: their integrations after the subtraction, [integration y x].
        provenance: header cards on the software.
        klip_skipped: the subtraction was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        One `Product` per integration, numbered from 0: SCI ERR DQ AREA VAR_*, with the exposure's WCS.
    """
    made: list[Product] = []
    steps = {"outlier_detection": _done(outliers_skipped), "klip": _done(klip_skipped), "resample": "SKIPPED"}
    for exposure, cube in zip(exposures, cubes, strict=True):
        for plane in range(len(cube.sci)):
            name = f"{association.product_name}_{len(made)}_i2d.fits"
            primary, tree = _metadata(exposure, association, name, steps, provenance, model="ImageModel")
            arrays = {key: None if array is None else array[plane] for key, array in _planes(cube).items()}
            cut = {"SCI": arrays.pop("SCI"), "ERR": arrays.pop("ERR"), "DQ": arrays.pop("DQ")}
            extensions = images({**cut, "AREA": exposure.area, **arrays}, exposure.headers)
            made.append(Product(name, "i2d", primary, tuple(extensions), _asdf(exposure, tree)))
    return tuple(made)


def write(product: Product, folder: str | Path) -> Path:
    """Write a product under its name; the name appears only once the file is complete.

    Args:
        product: to be written.
        folder: made where it is missing; a file of the same name is replaced.

    Returns:
        Path of the file.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    return write_atomically(product.hdulist(), Path(folder) / product.name)


def _exposure_name(exposure: Exposure, association: Association, kind: str) -> str:
    return f"{_SUFFIX.sub('', exposure.path.name.split('.fits')[0])}_{association.asn_id}_{kind}.fits"


def _done(skipped: bool) -> str:
    return "SKIPPED" if skipped else "COMPLETE"


def _associated(exposure: Exposure, association: Association) -> dict[str, fits.Header]:
    """Headers of an exposure, the primary one with the association's name."""
    primary = plain_header(exposure.primary)
    set_card(primary, "ASNPOOL", association.asn_pool, "Name of the ASN pool")
    set_card(primary, "ASNTABLE", association.table_name, "Name of the ASN table")
    return {"PRIMARY": primary, "SCI": exposure.sci_header}


def _metadata(
    exposure: Exposure,
    association: Association,
    name: str,
    steps: Mapping[str, str],
    provenance: Provenance,
    *,
    model: str = "CubeModel",
) -> tuple[fits.Header, _Tree]:
    """Primary header of a product, and the changes to the ASDF tree that go with it."""
    header = _associated(exposure, association)["PRIMARY"]
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    set_card(header, "DATE", now, "UTC date file created")
    set_card(header, "FILENAME", name, "Name of the file")
    set_card(header, "DATAMODL", model, "Type of data model")
    tree: _Tree = {
        "meta.date": now,
        "meta.filename": name,
        "meta.model_type": model,
        "meta.asn.pool_name": association.asn_pool,
        "meta.asn.table_name": association.table_name,
    }
    for step, status in steps.items():
        keyword, comment, place = _STEPS[step]
        if status == "COMPLETE" or header.get(keyword) != "COMPLETE":  # done in an earlier stage is done
            set_card(header, keyword, status, comment)
            tree[f"meta.cal_step.{place}"] = status
    for keyword, (value, comment) in provenance.items():
        set_card(header, keyword, value, comment)
        tree[f"coronjax.{keyword.lower()}"] = value
    return header, tree


def _planes(cube: Cube) -> dict[str, np.ndarray | None]:
    names = ("sci", "err", "dq", "var_poisson", "var_rnoise", "var_flat")
    return {name.upper(): None if (a := getattr(cube, name)) is None else np.asarray(a) for name in names}


def _cube_extensions(exposure: Exposure, cube: Cube) -> tuple[Extension, ...]:
    """The extensions of an exposure around new arrays."""
    arrays = _planes(cube)
    variances = {name: arrays.pop(name) for name in ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")}
    before = images({**arrays, "AREA": exposure.area}, exposure.headers)
    times = [] if exposure.int_times is None else [Extension.of(exposure.int_times)]
    others = [Extension.of(hdu) for hdu in exposure.others]
    return (*before, *times, *images(variances, exposure.headers), *others)


def _asdf(exposure: Exposure, tree: _Tree, *, keep_wcs: bool = True) -> bytes:
    """The exposure's ASDF content with changes; its WCS from the FITS keywords where it has no better one."""
    try:
        if not keep_wcs:
            return carried_over(exposure.asdf_bytes, tree, drop=("meta.wcs",))
        if exposure.gwcs() is not None:
            return carried_over(exposure.asdf_bytes, tree)
    except ExposureError:
        raise
    except Exception as error:  # YAML and block errors have no common base
        text = " ".join(str(error).split())
        message = f"the ASDF extension cannot be read: {text}"
        raise ExposureError(message, file=exposure.path, keyword="EXTNAME", value="ASDF") from error
    from .wcs import exposure_wcs

    return with_wcs(exposure.asdf_bytes, exposure_wcs(exposure)[0], tree)


def _sky_header(exposure: Exposure, grid: OutputGrid) -> fits.Header:
    """The exposure's SCI header with the WCS of the sky image."""
    header = plain_header(exposure.sci_header)
    for keyword in {key for key in header if _EXPOSURE_WCS.fullmatch(key)}:
        header.remove(keyword, remove_all=True)
    header.extend([(key, value, comment) for key, (value, comment) in grid.keywords().items()])
    set_card(header, "RADESYS", "ICRS", "Celestial frame")
    if region := grid.s_region():
        set_card(header, "S_REGION", region, "Spatial footprint of the observation")
    return header


def _group(exposure: Exposure) -> tuple[Any, ...]:
    """What integrations of one exposure have in common: its place in the programme, else its file."""
    keys = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")
    values = tuple(exposure.keyword(key) for key in keys)
    return (exposure.path,) if None in values else values


def _jsonable(node: Any) -> Any:
    """Mappings, lists, numbers and text that JSON knows."""
    if isinstance(node, Mapping):
        return {str(key): _jsonable(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_jsonable(value) for value in node]
    if isinstance(node, (str, bool, int)) or node is None:
        return node
    if np.ndim(node):
        return np.asarray(node).tolist()
    value = float(node)
    return value if math.isfinite(value) else str(value)
