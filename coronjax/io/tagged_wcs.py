"""An exposure's WCS evaluated from the YAML of its ASDF extension, without building gwcs objects."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .transforms import Transform, UnknownTransformError, chain, transform_of
from .tree import load_tree

_BLOCK = struct.Struct(">4sH I4sQQQ")  # magic, size of the header, flags, compression, allocated, used, size of data


class Wcs(Protocol):
    """What of a WCS is used here; gwcs objects have it too."""

    def __call__(self, x: Any, y: Any, *, with_bounding_box: bool = True) -> Any:
        """Right ascension and declination, degrees, of 0-based pixels; NaN outside the bounding box."""

    def backward_transform(self, ra: Any, dec: Any) -> Any:
        """Pixels of places on the sky."""


@dataclass(frozen=True, eq=False)
class TaggedWcs:
    """From pixels to the sky; called like a gwcs object."""

    transform: Transform
    bounding_box: tuple[tuple[float, float], ...] | None  # ((x0, x1), (y0, y1)), pixels

    def __call__(self, x: Any, y: Any, *, with_bounding_box: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Right ascension and declination, degrees, of 0-based pixels; NaN outside the bounding box."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        ra, dec = self.transform.forward(x, y)
        if with_bounding_box and self.bounding_box is not None:
            inside = np.ones(x.shape, bool)
            for values, (low, high) in zip((x, y), self.bounding_box, strict=True):
                inside &= (values >= low) & (values <= high)
            ra, dec = np.where(inside, ra, np.nan), np.where(inside, dec, np.nan)
        return ra, dec

    def backward_transform(self, ra: Any, dec: Any) -> tuple[np.ndarray, ...]:
        """Pixels of places on the sky.

        Raises:
            NotImplementedError: a distortion among the transforms has no inverse.
        """
        if self.transform.inverse is None:
            raise NotImplementedError("the WCS has no inverse")
        return self.transform.inverse(np.asarray(ra, float), np.asarray(dec, float))


def tagged_wcs(content: bytes) -> TaggedWcs | None:
    """The WCS at `meta.wcs`, evaluated from its description.

    Args:
        content: of an ASDF file.

    Returns:
        `TaggedWcs`; None where there is none, or one with parts that are not known here: gwcs decides what it is.
    """
    try:
        tree, blocks, _ = load_tree(content)
        node = tree["meta"]["wcs"]
        return _wcs_of(node["steps"], lambda array: _array(array, blocks))
    except Exception:  # whatever is wrong with it, the libraries are to say so
        return None


def _wcs_of(steps: Any, read: Any) -> TaggedWcs:
    parts = [transform_of(step["transform"], read) for step in steps[:-1]]
    widths = [2, *(n for part in parts for n in (part.n_inputs, part.n_outputs)), 2]
    if steps[-1].get("transform") is not None or not parts or widths[::2] != widths[1::2]:
        raise UnknownTransformError("not a WCS of an image, or steps that do not fit")
    forwards = [part.forward for part in parts]
    backwards = [part.inverse for part in reversed(parts) if part.inverse is not None]
    inverse = chain(*backwards) if len(backwards) == len(parts) else None
    return TaggedWcs(Transform(2, 2, chain(*forwards), inverse), _bounding_box(steps[0]["transform"]))


def _bounding_box(node: Mapping[str, Any]) -> tuple[tuple[float, float], ...] | None:
    """That of the first transform, in the order of its inputs."""
    box = node.get("bounding_box")
    if box is None:
        return None
    if box.get("ignore") or set(box["intervals"]) != set(node["inputs"]):
        raise UnknownTransformError("a bounding box of some inputs only")
    intervals = [box["intervals"][name] for name in node["inputs"]]
    return tuple((float(low), float(high)) for low, high in intervals)


def _array(node: Any, blocks: list[bytes]) -> np.ndarray:
    """The array of a `core/ndarray` node, inline or in a binary block."""
    if not isinstance(node, Mapping):
        return np.array(node, float)
    if "data" in node:
        return np.array(node["data"], float)
    if set(node) - {"source", "datatype", "byteorder", "shape"}:
        raise UnknownTransformError("an array with an offset, strides or a mask")
    block = blocks[node["source"]]
    _, header, _, compression, _, used, _ = _BLOCK.unpack(block[: _BLOCK.size])
    if compression != b"\0\0\0\0":
        raise UnknownTransformError("a compressed array")
    kind = np.dtype(node["datatype"]).newbyteorder(">" if node["byteorder"] == "big" else "<")
    data = block[6 + header : 6 + header + used]
    return np.frombuffer(data, kind)[: int(np.prod(node["shape"]))].reshape(node["shape"]).astype(float)
