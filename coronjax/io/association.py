"""Read a JWST level-3 association: which exposures belong together and what the products are called."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import AssociationError

# The fields of the JWST level-3 association schema that are text wherever they are present.
_TEXT_FIELDS = ("asn_type", "asn_rule", "asn_id", "program", "target", "asn_pool")


@dataclass(frozen=True)
class Association:
    """The exposures of one coronagraphic observation, in the order of the association file."""

    path: Path  # the association file
    asn_id: str  # enters the names of products per exposure, for example "c1001"
    asn_pool: str  # name of the pool the association was made from; "none" where the file has none
    product_name: str  # root of the names of products per association
    science: tuple[Path, ...]  # exposures of the target
    psf: tuple[Path, ...]  # exposures of reference stars
    background: tuple[Path, ...] = ()  # exposures of empty sky
    ignored: tuple[tuple[str, str], ...] = ()  # (expname, exptype) of members of other types
    notes: tuple[str, ...] = ()  # what a user should know, a sentence each

    @property
    def table_name(self) -> str:
        """Name of the association file without its folder (keyword ASNTABLE)."""
        return self.path.name

    @property
    def members(self) -> tuple[Path, ...]:
        """All exposures that take part: science first, then psf, then background."""
        return self.science + self.psf + self.background

    def __repr__(self) -> str:
        """List product, members and notes, a line each."""
        lines = [f"Association {self.path}"]
        lines += [f"  product {self.product_name}, asn_id {self.asn_id}, pool {self.asn_pool}"]
        for kind, paths in (("science", self.science), ("psf", self.psf), ("background", self.background)):
            lines += [f"  {kind:11}{path.name}" for path in paths]
        lines += [f"  ignored {name} ({exptype})" for name, exptype in self.ignored]
        return "\n".join([*lines, *(f"  note    {note}" for note in self.notes)])


def read_association(path: str | Path, *, allow_outside: bool = False, background: bool = True) -> Association:
    """Read and check an association file; its exposures must exist but are not opened.

    Args:
        path: a JSON file with the fields of the JWST level-3 association schema. Members of exptype `science`, `psf`
            and `background`, in any case, take part; their expname is relative to the file's folder. The first product
            counts.
        allow_outside: accept members outside the file's folder. A link that lies in the folder is a member of it.
        background: false ignores `background` members as it does members of other types.

    Returns:
        `Association`, members with absolute paths, in the order of the file.

    Raises:
        AssociationError: the file cannot be read, is not strict JSON, lacks a field, or names members that are missing,
            repeated, of two kinds, or outside its folder.

    Example:
        >>> read_association("no_such_asn.json")
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: no_such_asn.json: no such association file

    Source: jwst 3.0.0, asn_schema_jw_level3.json.
    """
    path = Path(path)
    content = _parse(path)
    notes: list[str] = []
    product = _first_product(path, content, notes)
    ignored: list[tuple[str, str]] = []
    members: dict[str, list[Path]] = {"science": [], "psf": [], **({"background": []} if background else {})}
    for expname, exptype in _members(path, product):
        if exptype.lower() in members:
            members[exptype.lower()].append(_resolve(path, expname, allow_outside))
        else:
            ignored.append((expname, exptype))
            notes.append(f"member {expname} of exptype {exptype} is ignored")
    for kind in ("science", "psf"):
        if not members[kind]:
            message = f"the product has no member of exptype {kind}"
            raise AssociationError(message, file=path, keyword="exptype", value=kind)
    _check_distinct(path, members)
    return Association(
        path=Path(os.path.abspath(path)),
        asn_id=_plain_name(path, "asn_id", content.get("asn_id")),
        asn_pool=_pool(content, notes),
        product_name=_plain_name(path, "name", product.get("name")),
        science=tuple(members["science"]),
        psf=tuple(members["psf"]),
        background=tuple(members.get("background", ())),
        ignored=tuple(ignored),
        notes=tuple(notes),
    )


def _parse(path: Path) -> dict[str, Any]:
    """The file's JSON object, with the types of the schema's text fields checked."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise AssociationError("no such association file", file=path) from None
    except OSError as error:
        raise AssociationError(f"the association file cannot be read: {error.strerror}", file=path) from None
    except UnicodeDecodeError as error:
        message = f"an association is UTF-8 text: {error.reason} at byte {error.start}"
        raise AssociationError(message, file=path) from None

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise AssociationError("the key occurs twice in one JSON object", file=path, keyword=key, value=value)
            seen[key] = value
        return seen

    def constant(name: str) -> NoReturn:
        raise AssociationError("JSON has no such number", file=path, keyword="number", value=name)

    try:
        content = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise AssociationError(_describe(text, error), file=path) from None
    except ValueError as error:  # a number of thousands of digits
        raise AssociationError(f"malformed JSON: {error}", file=path) from None
    except RecursionError:
        raise AssociationError("malformed JSON: nested too deeply", file=path) from None
    if not isinstance(content, dict):
        raise AssociationError("an association is a JSON object, {...}", file=path, keyword="content", value=content)
    for field in _TEXT_FIELDS:
        if field in content and not isinstance(content[field], str):
            raise AssociationError("must be text", file=path, keyword=field, value=content[field])
    return content


def _describe(text: str, error: json.JSONDecodeError) -> str:
    """Say where the JSON breaks off, and which brackets are open there when it simply ends."""
    where = f"malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    if text[error.pos :].strip():
        return where
    opened: list[str] = []
    in_string = escaped = False
    for letter in text:
        if in_string:
            in_string = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            in_string = True
        elif letter in "{[":
            opened.append("}" if letter == "{" else "]")
        elif letter in "}]" and opened:
            opened.pop()
    if not opened:
        return where
    line = text.rstrip().count("\n") + 1
    return f"malformed JSON: the file ends at line {line} with {''.join(reversed(opened))!r} missing ({error.msg})"


def _first_product(path: Path, content: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    products = content.get("products")
    if not isinstance(products, list) or not products or not isinstance(products[0], dict):
        raise AssociationError("an association has a list of products", file=path, keyword="products", value=products)
    if len(products) > 1:
        notes.append(f"the association has {len(products)} products, only the first is made")
    if "asn_type" in content and content["asn_type"] != "coron3":
        notes.append(f"asn_type is {content['asn_type']!r}, not 'coron3'")
    return products[0]


def _members(path: Path, product: dict[str, Any]) -> Iterable[tuple[str, str]]:
    members = product.get("members")
    if not isinstance(members, list) or not members:
        raise AssociationError("the product has a list of members", file=path, keyword="members", value=members)
    for member in members:
        if not isinstance(member, dict):
            message = "a member is a JSON object with expname and exptype"
            raise AssociationError(message, file=path, keyword="members", value=member)
        for field in ("expname", "exptype"):
            value = member.get(field)
            if not isinstance(value, str) or not value.strip() or "\0" in value:
                raise AssociationError(f"every member has the text {field}", file=path, keyword=field, value=value)
        yield member["expname"], member["exptype"].strip()


def _resolve(path: Path, expname: str, allow_outside: bool) -> Path:
    """The member's path; a name with '..' or an absolute one is followed to see whether it stays in the folder."""
    folder = Path(os.path.abspath(path)).parent
    member = folder / expname
    leaves = Path(expname).is_absolute() or ".." in Path(expname).parts
    try:
        if leaves and not allow_outside and not member.resolve().is_relative_to(folder.resolve()):
            message = "the member lies outside the association's folder; allow_outside=True accepts it"
            raise AssociationError(message, file=path, keyword="expname", value=expname)
        found = member.is_file()
    except (OSError, RuntimeError):  # a name too long for the file system, a loop of links
        found = False
    if not found:
        raise AssociationError(f"no such file in {folder}", file=path, keyword="expname", value=expname)
    return Path(os.path.normpath(member)) if not leaves else member.resolve()


def _check_distinct(path: Path, members: dict[str, list[Path]]) -> None:
    """No file twice, and no two files whose products would have the same name."""
    kinds: dict[Path, str] = {}
    names: dict[str, Path] = {}
    for kind, paths in members.items():
        for member in paths:
            real = member.resolve()
            if real in kinds:
                twice = f"the {kind} member occurs twice"
                message = twice if kinds[real] == kind else f"the file is both a {kinds[real]} and a {kind} member"
                raise AssociationError(message, file=path, keyword="expname", value=member.name)
            if member.name in names:
                message = f"products of {names[member.name].parent} and {member.parent} would have the same names"
                raise AssociationError(message, file=path, keyword="expname", value=member.name)
            kinds[real], names[member.name] = kind, member


def _plain_name(path: Path, keyword: str, value: object) -> str:
    """Text that becomes part of a file name."""
    if not isinstance(value, str) or not value.strip():
        raise AssociationError("the field is missing or empty", file=path, keyword=keyword, value=value)
    if value.startswith(".") or any(letter in "/\\:" or not letter.isprintable() for letter in value):
        message = "names products, so it must be a plain file name: no slash, no leading dot"
        raise AssociationError(message, file=path, keyword=keyword, value=value)
    return value


def _pool(content: dict[str, Any], notes: list[str]) -> str:
    if "asn_pool" not in content:
        notes.append("the association names no asn_pool")
    return str(content.get("asn_pool", "none"))
