"""The ASDF extension of products: the input's tree carried over as YAML, without building the objects it describes.

Reading a WCS into objects and writing it again costs tens of milliseconds for each file and rewrites what it does not
know; the tagged YAML and its binary blocks pass through unchanged instead.
"""

from __future__ import annotations

import copy
import io
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from .table import table_hdu
from .wcs_nodes import shifted_transform

if TYPE_CHECKING:
    import gwcs

_BLOCK_MAGIC = b"\xd3BLK"
_HASH = "_fits_hash"  # of headers that are about to change
_FITS_KEYS = ("extra_fits", _HASH)  # what readers rebuild from the FITS file itself
_WRITER_KEYS = ("history", "asdf_library")  # what wrote the input, and the versions of the tags in it
_PREAMBLE = b"#ASDF 1.0.0\n#ASDF_STANDARD %s\n"


def carried_over(content: bytes | None, updates: Mapping[str, Any], *, drop: tuple[str, ...] = ()) -> bytes:
    """An input's ASDF content with a few entries changed.

    Array entries that stand for FITS extensions are left out: they go stale, and readers take them from the extensions.

    Args:
        content: of the input's ASDF extension; None where it has none.
        updates: entries by place, for example `meta.filename`; None removes one.
        drop: places to leave out, for example `meta.wcs`.

    Returns:
        Content of the new extension.
    """
    tree, blocks, standard = (_empty_tree(), [], "1.6.0") if content is None else load_tree(content)
    return _dump(_changed(tree, {**dict.fromkeys(drop), **updates}), blocks, standard)


def with_wcs(
    content: bytes | None, wcs: gwcs.WCS | Mapping, updates: Mapping[str, Any], *, drop: tuple[str, ...] = ()
) -> bytes:
    """The same, with another WCS in place of the input's.

    Args:
        content: of the input's ASDF extension; None where it has none.
        wcs: the new `meta.wcs`: an object, or its tagged node by version 1.6.0 of the ASDF standard.
        updates: entries by place; None removes one.
        drop: places to leave out.

    Returns:
        Content of the new extension.
    """
    tree, blocks, standard = _described(wcs)
    if content is not None:
        old = _without(load_tree(content)[0], "meta.wcs")
        # Tags of another version of the standard would not be understood beside the new ones: plain entries only.
        for key, value in old.items():
            if key not in (*tree, *_WRITER_KEYS) and (plain := _plain(value)) is not None:
                tree[key] = plain
        tree["meta"] = {**(_plain(old.get("meta")) or {}), "wcs": tree["meta"]["wcs"]}
    return _dump(_changed(tree, {**dict.fromkeys(drop), **updates}), blocks, standard)


def _described(wcs: Any) -> tuple[Any, list[bytes], str]:
    """A tree with a WCS alone."""
    if isinstance(wcs, Mapping):
        return _empty_tree({"wcs": wcs}), [], "1.6.0"
    import asdf

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asdf.AsdfFile({"meta": {"wcs": wcs}}).write_to(buffer, all_array_storage="inline")
    return load_tree(buffer.getvalue())


def with_shift(content: bytes, shift: tuple[float, float]) -> bytes:
    """The same, with the WCS of pixels that are moved before anything else.

    Args:
        content: of the input's ASDF extension, with a WCS at `meta.wcs`.
        shift: (x, y) added to 0-based pixels.

    Returns:
        Content of the new extension: `new(x, y) = old(x + dx, y + dy)`, within the same bounding box.
    """
    tree, blocks, standard = load_tree(content)
    steps = copy.copy(tree["meta"]["wcs"]["steps"])
    steps[0] = copy.copy(steps[0])
    steps[0]["transform"] = shifted_transform(steps[0]["transform"], shift, standard)
    return _dump(_with(tree, "meta.wcs.steps", steps), blocks, standard)


def has_wcs(content: bytes) -> bool:
    """Whether the content describes a gwcs object, by its tag; nothing is built.

    Args:
        content: of an ASDF extension.

    Returns:
        True where it does.

    Example:
        >>> has_wcs(b"meta: {wcs: !<tag:stsci.edu:gwcs/wcs-1.4.0> {}}")
        True
    """
    return re.search(rb"gwcs/wcs-\d", content) is not None


def asdf_hdu(content: bytes) -> fits.BinTableHDU:
    """The extension ASDF around the content.

    Args:
        content: of an ASDF file.

    Returns:
        A table with one row and one column of bytes.
    """
    data = np.frombuffer(content, np.uint8)[None, :]
    column = fits.Column(name="ASDF_METADATA", format=f"{data.size}B", array=data)
    return table_hdu([column], "ASDF")


def _empty_tree(meta: dict[str, Any] | None = None) -> Any:
    from asdf.tagged import TaggedDict

    return TaggedDict({"meta": meta or {}}, "tag:stsci.edu:asdf/core/asdf-1.1.0")


class AsdfContent(bytes):
    """The content of an ASDF extension, whose tree is read once, whoever asks for it."""

    @cached_property
    def parsed(self) -> tuple[Any, list[bytes], str]:
        """What `load_tree` returns of it."""
        return _parsed(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """The bytes alone: nodes with tags cannot be pickled."""
        return type(self), (bytes(self),)


def load_tree(content: bytes) -> tuple[Any, list[bytes], str]:
    """The tagged YAML tree, which is not to be changed, the binary blocks, and the version of the ASDF standard."""
    return content.parsed if isinstance(content, AsdfContent) else _parsed(content)


def _parsed(content: bytes) -> tuple[Any, list[bytes], str]:
    import asdf

    tree = asdf.util.load_yaml(io.BytesIO(content), tagged=True)
    if not isinstance(tree, Mapping):
        raise ValueError(f"its tree is no mapping but a {type(tree).__name__}")
    head = content[:200].split(b"#ASDF_STANDARD ", 1)
    standard = head[1].split(b"\n", 1)[0].strip().decode() if len(head) == 2 else "1.5.0"
    return tree, list(_blocks(content)), standard


def _blocks(content: bytes) -> Iterator[bytes]:
    """The binary blocks that follow the tree, in order, whole."""
    position = content.find(b"\n...")
    position = content.find(_BLOCK_MAGIC, position) if position >= 0 else -1
    while position >= 0 and content[position : position + 4] == _BLOCK_MAGIC:
        (header,) = struct.unpack(">H", content[position + 4 : position + 6])
        (allocated,) = struct.unpack(">Q", content[position + 14 : position + 22])
        end = position + 6 + header + allocated
        yield content[position:end]
        position = end


def _changed(tree: Any, updates: Mapping[str, Any]) -> Any:
    """The tree without what the FITS file says itself, with entries changed; None removes one."""
    tree = copy.copy(tree)
    for key in list(tree):
        if key in _FITS_KEYS or "ndarray" in str(getattr(tree[key], "_tag", "")):
            del tree[key]
    for place, value in updates.items():
        tree = _without(tree, place) if value is None else _with(tree, place, value)
    return tree


def _with(node: Any, place: str, value: Any) -> Any:
    """A copy of a node in which one entry is another; what leads to it is copied too, or made."""
    name, _, rest = place.partition(".")
    node = copy.copy(node) if isinstance(node, Mapping) else {}
    node[name] = _with(node.get(name), rest, value) if rest else value
    return node


def _without(node: Any, place: str) -> Any:
    """A copy of a node that lacks one entry."""
    name, _, rest = place.partition(".")
    if not isinstance(node, Mapping) or name not in node:
        return node
    node = copy.copy(node)
    if rest:
        node[name] = _without(node[name], rest)
    else:
        del node[name]
    return node


def _plain(node: Any) -> Any:
    """The node without tagged parts; None where it is tagged itself."""
    if getattr(node, "_tag", None) is not None:
        return None
    if isinstance(node, Mapping):
        parts = {key: _plain(value) for key, value in node.items()}
        return {key: value for key, value in parts.items() if value is not None}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return node


def _arrays(node: Any, seen: set[int]) -> Iterator[Any]:
    """Every array in the tree that is kept in a binary block."""
    if id(node) in seen:
        return
    if isinstance(node, Mapping):
        seen.add(id(node))
        if "ndarray" in str(getattr(node, "_tag", "")) and isinstance(node.get("source"), int):
            yield node
        for value in node.values():
            yield from _arrays(value, seen)
    elif isinstance(node, list):
        seen.add(id(node))
        for value in node:
            yield from _arrays(value, seen)


def _dump(tree: Any, blocks: list[bytes], standard: str) -> bytes:
    """Write the tree as YAML, followed by those blocks that it still refers to."""
    import yaml

    numbers: dict[int, int] = {}
    moved = {
        id(array): _with(array, "source", numbers.setdefault(array["source"] % len(blocks), len(numbers)))
        for array in _arrays(tree, set())
    }
    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class TaggedDumper(base):  # type: ignore[misc, valid-type]
        """Writes each node with the tag it was read with."""

        def represent_data(self, data: Any) -> Any:
            data = moved.get(id(data), data)
            node = super().represent_data(getattr(data, "data", data) if hasattr(data, "_tag") else data)
            if getattr(data, "_tag", None) is not None:
                node.tag = data._tag
            return node

    text = io.BytesIO(_PREAMBLE % standard.encode())
    text.seek(0, io.SEEK_END)
    yaml.dump_all(
        [tree],
        text,
        Dumper=TaggedDumper,
        default_flow_style=None,
        explicit_start=True,
        explicit_end=True,
        version=(1, 1),
        tags={"!": "tag:stsci.edu:asdf/"},
        allow_unicode=True,
        encoding="utf-8",
        sort_keys=False,
    )
    return text.getvalue() + b"".join(blocks[number] for number in numbers)
