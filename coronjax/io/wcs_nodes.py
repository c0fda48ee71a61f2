"""Nodes of ASDF trees that describe a WCS as gwcs does, written without its objects."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Tags of the parts of a shift, by version of the ASDF standard from which on they hold.
_SHIFT_TAGS = {
    "1.6.0": {"compose": "1.4.0", "concatenate": "1.4.0", "shift": "1.4.0"},
    "1.5.0": {"compose": "1.2.0", "concatenate": "1.2.0", "shift": "1.2.0"},
}


def image_wcs(
    *,
    crpix: Sequence[float],
    crval: Sequence[float],
    cdelt: Sequence[float],
    pc: Sequence[Sequence[float]],
    bounding_box: Sequence[Sequence[float]],
    pixel_shape: Sequence[int],
) -> Any:
    """The WCS of an image without distortion: linear, gnomonic, ICRS.

    Args:
        crpix: 0-based pixel (x, y) of the reference point.
        crval: its right ascension and declination, degrees.
        cdelt: scales, degrees.
        pc: [2 2] rotation.
        bounding_box: ((x0, x1), (y0, y1)), pixels.
        pixel_shape: (nx, ny).

    Returns:
        The tagged node, by version 1.6.0 of the ASDF standard and 1.4.0 of gwcs's WCS.

    Source: the schemas gwcs/wcs-1.4.0 and gwcs/fitswcs_imaging-1.0.0.
    """
    box = {name: [float(end) for end in interval] for name, interval in zip("xy", bounding_box, strict=True)}
    transform = _tagged(
        "stsci.edu:gwcs/fitswcs_imaging-1.0.0",
        bounding_box=_tagged(
            "stsci.edu:asdf/transform/property/bounding_box-1.2.0", ignore=[], intervals=box, order="F"
        ),
        cdelt=_array(cdelt),
        crpix=_array(crpix),
        crval=_array(crval),
        pc=_array(pc),
        inputs=["x", "y"],
        outputs=["lon", "lat"],
        projection=_tagged(
            "stsci.edu:asdf/transform/gnomonic-1.4.0", direction="pix2sky", inputs=["x", "y"], outputs=["phi", "theta"]
        ),
    )
    detector = _tagged("stsci.edu:gwcs/frame2d-1.2.0", **_axes("detector", "pixel", ("x", "y"), "custom:{}"))
    icrs = _tagged("astropy.org:astropy/coordinates/frames/icrs-1.1.0", frame_attributes={})
    axes = {**_axes("world", "deg", ("lon", "lat"), ""), "axis_physical_types": ["pos.eq.ra", "pos.eq.dec"]}
    world = _tagged("stsci.edu:gwcs/celestial_frame-1.2.0", **axes, reference_frame=icrs)
    step = "stsci.edu:gwcs/step-1.3.0"
    steps = [_tagged(step, frame=detector, transform=transform), _tagged(step, frame=world, transform=None)]
    shape = [int(n) for n in pixel_shape]
    return _tagged("stsci.edu:gwcs/wcs-1.4.0", name="", pixel_shape=shape, steps=steps)


def shifted_transform(node: Any, shift: tuple[float, float], standard: str) -> Any:
    """A transform of two coordinates that are moved first.

    Args:
        node: of the transform, whose bounding box the new one has.
        shift: added to the coordinates.
        standard: version of the ASDF standard that its tags follow.

    Returns:
        The tagged node.
    """
    versions = _SHIFT_TAGS["1.5.0" if re.match(r"1\.[0-5](\.|$)", standard) else "1.6.0"]
    tag = {name: f"stsci.edu:asdf/transform/{name}-{version}" for name, version in versions.items()}
    names = [f"star_{axis}" for axis in "xy"]
    shifts = [
        _tagged(tag["shift"], inputs=["x"], name=name, offset=float(offset), outputs=["y"])
        for name, offset in zip(names, shift, strict=True)
    ]
    both = _tagged(tag["concatenate"], forward=shifts, inputs=["x0", "x1"], outputs=["y0", "y1"])
    node = copy.copy(node)  # another node may be the same one
    box = node.pop("bounding_box", None)
    inputs = list(node.get("inputs", ["x0", "x1"]))
    made = _tagged(tag["compose"], forward=[both, node], inputs=inputs, outputs=list(node.get("outputs", ["y0", "y1"])))
    if box is not None:
        made["bounding_box"] = box
    return made


def _axes(name: str, unit: str, axes: tuple[str, str], kind: str) -> Mapping[str, Any]:
    """What frames of two axes have in common."""
    from asdf.tagged import TaggedString

    units = []
    for _ in axes:
        one = TaggedString(unit)
        one._tag = "tag:stsci.edu:asdf/unit/unit-1.0.0"
        units.append(one)
    types = [kind.format(axis) for axis in axes]
    return {
        "axes_names": list(axes),
        "axes_order": [0, 1],
        "axis_physical_types": types,
        "name": name,
        "unit": units,
    }


def _array(values: Sequence[Any]) -> Any:
    rows = [[float(v) for v in row] if isinstance(row, Sequence) else float(row) for row in values]
    shape = [len(rows), len(rows[0])] if isinstance(rows[0], list) else [len(rows)]
    return _tagged("stsci.edu:asdf/core/ndarray-1.1.0", data=rows, datatype="float64", shape=shape)


def _tagged(tag: str, **entries: Any) -> Any:
    from asdf.tagged import TaggedDict

    return TaggedDict(entries, f"tag:{tag}")
