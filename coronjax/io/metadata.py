"""Headers and metadata trees that the products have in common."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from ..errors import ExposureError
from .product import plain_header, set_card
from .sip import gwcs_from_keywords
from .tree import AsdfContent, carried_over, has_wcs, with_shift, with_wcs

if TYPE_CHECKING:
    from .association import Association
    from .exposure import Exposure

Cards = Mapping[str, tuple[Any, str]]  # value and comment by keyword
Provenance = Cards
Tree = dict[str, Any]  # entries of the ASDF tree by place

_SUFFIX = re.compile(r"[_-](calints|crfints|rateints|psfsub|psfalign|psfstack|cal|crf|rate|i2d)$")
# Step: keyword and comment, place in the metadata tree.
_STEPS = {
    "background": ("S_BKDSUB", "Background subtraction", "bkg_subtract"),
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


def exposure_name(exposure: Exposure, association: Association, kind: str) -> str:
    """File name of a product of one exposure.

    Args:
        exposure: its file names the product.
        association: its asn_id enters the name.
        kind: suffix of the product.

    Returns:
        The exposure's name without the suffix of its stage, asn_id, suffix.
    """
    return f"{_SUFFIX.sub('', exposure.path.name.split('.fits')[0])}_{association.asn_id}_{kind}.fits"


def step_status(skipped: bool) -> str:
    """Value of a step's keyword.

    Args:
        skipped: the step was left out.

    Returns:
        SKIPPED or COMPLETE.
    """
    return "SKIPPED" if skipped else "COMPLETE"


def associated_headers(exposure: Exposure, association: Association) -> dict[str, fits.Header]:
    """Headers of an exposure, the primary one with the association's name.

    Args:
        exposure: as read.
        association: it belongs to.

    Returns:
        A copy of its PRIMARY header, and its SCI header.
    """
    primary = plain_header(exposure.primary)
    set_card(primary, "ASNPOOL", association.asn_pool, "Name of the ASN pool")
    set_card(primary, "ASNTABLE", association.table_name, "Name of the ASN table")
    return {"PRIMARY": primary, "SCI": exposure.sci_header}


def product_metadata(
    exposure: Exposure,
    association: Association,
    name: str,
    steps: Mapping[str, str],
    provenance: Provenance,
    *,
    model: str = "CubeModel",
) -> tuple[fits.Header, Tree]:
    """Primary header of a product, and the changes to the ASDF tree that go with it.

    Args:
        exposure: whose metadata the product has.
        association: it belongs to.
        name: file name of the product.
        steps: status by step.
        provenance: header cards on the software, and whatever else is to be said; a number that is not finite becomes
            an undefined value.
        model: name of the product's data model.

    Returns:
        The header, and entries of the tree by place.
    """
    header = associated_headers(exposure, association)["PRIMARY"]
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    set_card(header, "DATE", now, "UTC date file created")
    set_card(header, "FILENAME", name, "Name of the file")
    set_card(header, "DATAMODL", model, "Type of data model")
    tree: Tree = {
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
    places = {keyword: f"meta.cal_step.{place}" for keyword, _, place in _STEPS.values()}
    for keyword, (value, comment) in provenance.items():
        plain = _card_value(value)
        set_card(header, keyword, plain, comment)
        tree[places.get(keyword, f"coronjax.{keyword.lower()}")] = plain
    return header, tree


def repointed(exposure: Exposure, correction: tuple[float, float]) -> Exposure:
    """An exposure whose WCS has pixels moved before anything else; its keywords are left as they are.

    Args:
        exposure: as read; it is left alone.
        correction: (x, y) added to 0-based pixels.

    Returns:
        `Exposure`.
    """
    content = exposure.asdf_bytes
    try:
        if content is None or exposure.wcs() is None:  # the keywords serve: what they say is what is moved
            content = with_wcs(content, gwcs_from_keywords(exposure), {})
        content = with_shift(content, correction)
    except ExposureError:
        raise
    except Exception as error:  # YAML, and what is missing in it, have no common base
        raise _unreadable(exposure, error) from error
    return dataclasses.replace(exposure, asdf_bytes=AsdfContent(content))


def with_keywords(exposure: Exposure, cards: Mapping[str, tuple[Any, str] | None]) -> Exposure:
    """An exposure with other keywords of its WCS, in its header and in its tree.

    Args:
        exposure: as read; it is left alone.
        cards: of the SCI header, for example CRPIX1; None removes one.

    Returns:
        `Exposure`.
    """
    header = exposure.sci_header.copy()
    tree: Tree = {}
    for keyword, card in cards.items():
        if card is None:
            header.remove(keyword, ignore_missing=True)
            continue
        set_card(header, keyword, _card_value(card[0]), card[1])
        tree[f"meta.wcsinfo.{keyword.lower()}"] = _card_value(card[0])
    content = asdf_content(exposure, tree)
    return dataclasses.replace(exposure, headers={**exposure.headers, "SCI": header}, asdf_bytes=AsdfContent(content))


def asdf_content(exposure: Exposure, tree: Tree, *, keep_wcs: bool = True) -> bytes:
    """The exposure's ASDF content with changes; its WCS from the FITS keywords where it has no better one.

    Args:
        exposure: as read.
        tree: entries of the tree by place.
        keep_wcs: false leaves the WCS out.

    Returns:
        Content of the ASDF extension.

    Raises:
        ExposureError: the exposure's ASDF extension is damaged, or it has no WCS at all.
    """
    try:
        if not keep_wcs:
            return carried_over(exposure.asdf_bytes, tree, drop=("meta.wcs",))
        if exposure.asdf_bytes is not None and has_wcs(exposure.asdf_bytes):
            return carried_over(exposure.asdf_bytes, tree)
    except ExposureError:
        raise
    except Exception as error:  # YAML and block errors have no common base
        raise _unreadable(exposure, error) from error
    return with_wcs(exposure.asdf_bytes, gwcs_from_keywords(exposure), tree)


def _unreadable(exposure: Exposure, error: Exception) -> ExposureError:
    text = " ".join(str(error).split()) or type(error).__name__
    message = f"the ASDF extension cannot be read: {text}"
    return ExposureError(message, file=exposure.path, keyword="EXTNAME", value="ASDF")


def _card_value(value: Any) -> Any:
    """The value as a header can hold it: plain Python, undefined where it is not finite."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
