"""The sky image of a reduction, or the single images in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from .blend import blended_keywords, header_table
from .metadata import Cards, Provenance, asdf_content, associated_headers, product_metadata, step_status
from .product import Extension, Product, cube_planes, images, plain_header, set_card, shared_variances
from .tree import with_wcs

if TYPE_CHECKING:
    from ..cube import Cube
    from .association import Association
    from .exposure import Exposure
    from .wcs import OutputGrid

# Keywords of the first exposure's WCS that do not hold for the sky image.
_EXPOSURE_WCS = re.compile(
    r"WCSAXES|(CRPIX|CRVAL|CTYPE|CUNIT|CDELT|CROTA)\d|(PC|CD)\d_\d|[AB]P?_(ORDER|DMAX|\d+_\d+)|LONPOLE|LATPOLE|RADESYS"
    r"|V[23]_REF|(RA|DEC|ROLL)_REF|VPARITY|V3I_YANG|S_REGION"
)

_IMAGES = ("SCI", "ERR", "DQ", "CON", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")  # in the order of the file


def i2d(
    exposures: Sequence[Exposure],
    association: Association,
    grid: OutputGrid,
    arrays: Mapping[str, np.ndarray | None],
    *,
    resampling: Mapping[str, Any],
    provenance: Provenance,
    cards: Cards | None = None,
    klip_skipped: bool = False,
    outliers_skipped: bool = False,
) -> Product:
    """The sky image of all science exposures.

    Args:
        exposures: science exposures as read; their headers are combined and listed.
        association: they belong to.
        grid: pixels of the image.
        arrays: sci, err, dq, wht, var_poisson, var_rnoise, var_flat, var_references, var_speckles [y x] and
            con [word y x]; None leaves one out.
        resampling: options of the resampling: pixfrac, kernel, weight_type, fillval.
        provenance: header cards on the software.
        cards: further cards of the primary header: value and comment by keyword.
        klip_skipped: the subtraction was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        `Product`: SCI ERR DQ CON WHT VAR_* HDRTAB, with the WCS of the grid.

    Source: calwebb_coron3 of jwst 3.0.0; of the first exposure's keywords, those in `blend_rules` are combined.
    """
    name = f"{association.product_name}_i2d.fits"
    first = exposures[0]
    steps = _steps(outliers_skipped, klip_skipped, "COMPLETE")
    made_with = {**provenance, **(cards or {})}
    primary, tree = product_metadata(first, association, name, steps, made_with, model="ImageModel")
    sci = _sky_header(first, grid)
    headers = [associated_headers(exposure, association) for exposure in exposures]
    for extension, keyword, place, value in blended_keywords(headers):
        (primary if extension == "PRIMARY" else sci)[keyword] = value
        tree[f"meta.{place}"] = value
    pointings = len({_group(exposure) for exposure in exposures})
    tree["meta.resample"] = _describe_resampling(primary, resampling, pointings, grid.pixel_scale_ratio)
    ordered = {key: arrays.get(key.lower()) for key in _IMAGES}
    known = {"SCI": sci, "ERR": first.headers.get("ERR", fits.Header())}
    shared = shared_variances({key: arrays.get(key.lower()) for key in ("VAR_REFERENCES", "VAR_SPECKLES")})
    extensions = (*images(ordered, known), *shared, Extension.of(header_table(headers)))
    content = with_wcs(first.asdf_bytes, grid.wcs_node(), tree, drop=("meta.wcsinfo",))
    return Product(name, "i2d", primary, extensions, content)


def unresampled(
    exposures: Sequence[Exposure],
    association: Association,
    cubes: Sequence[Cube],
    *,
    provenance: Provenance,
    shared: Sequence[Mapping[str, Any]] = (),
    cards: Cards | None = None,
    klip_skipped: bool = False,
    outliers_skipped: bool = False,
) -> tuple[Product, ...]:
    """The integrations of all science exposures as single images, in place of a sky image.

    Args:
        exposures: science exposures as read, or `corrected_exposure` of it.
        association: they belong to.
        cubes: their integrations after the subtraction, [integration y x].
        provenance: header cards on the software.
        shared: var_references and var_speckles of every exposure, [y x].
        cards: further cards of the primary headers: value and comment by keyword.
        klip_skipped: the subtraction was left out.
        outliers_skipped: outlier detection was left out.

    Returns:
        One `Product` per integration, numbered from 0: SCI ERR DQ AREA VAR_*, with the exposure's WCS, and what its
        integrations share.
    """
    made: list[Product] = []
    steps, made_with = _steps(outliers_skipped, klip_skipped, "SKIPPED"), {**provenance, **(cards or {})}
    for exposure, cube, common in zip(exposures, cubes, shared or [{}] * len(cubes), strict=True):
        variances = shared_variances({name.upper(): array for name, array in common.items()})
        for plane in range(len(cube.sci)):
            name = f"{association.product_name}_{len(made)}_i2d.fits"
            primary, tree = product_metadata(exposure, association, name, steps, made_with, model="ImageModel")
            arrays = {key: None if array is None else array[plane] for key, array in cube_planes(cube).items()}
            cut = {"SCI": arrays.pop("SCI"), "ERR": arrays.pop("ERR"), "DQ": arrays.pop("DQ")}
            extensions = images({**cut, "AREA": exposure.area, **arrays}, exposure.headers)
            made.append(Product(name, "i2d", primary, (*extensions, *variances), asdf_content(exposure, tree)))
    return tuple(made)


def _steps(outliers_skipped: bool, klip_skipped: bool, resampled: str) -> dict[str, str]:
    """The status of every step."""
    done = {"outlier_detection": step_status(outliers_skipped), "klip": step_status(klip_skipped)}
    return {**done, "resample": resampled}


def _describe_resampling(
    primary: fits.Header, resampling: Mapping[str, Any], pointings: int, pixel_scale_ratio: float
) -> dict[str, Any]:
    """The resampling in the header; and as an entry of the tree."""
    set_card(primary, "NDRIZ", pointings, "Number of exposures resampled")
    set_card(primary, "RESWHT", str(resampling["weight_type"]), "Weighting of the resampling")
    set_card(primary, "PIXFRAC", float(resampling["pixfrac"]), "Side of a drop in input pixels")
    set_card(primary, "PXSCLRT", pixel_scale_ratio, "Pixel scale ratio, output over input")
    return {
        "pointings": pointings,
        "weight_type": str(resampling["weight_type"]),
        "pixfrac": float(resampling["pixfrac"]),
        "pixel_scale_ratio": pixel_scale_ratio,
        "kernel": str(resampling["kernel"]),
        "fillval": str(float(resampling["fillval"])).upper(),
    }


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
