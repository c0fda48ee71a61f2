"""The manifest of a finished reduction: what went in and what came out, so that it need not be done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .association import read_association
from .writing import write_text_atomically

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Fingerprint:
    """All that a reduction depends on."""

    version: str  # of coronjax
    options: str
    inputs: Mapping[str, str]  # SHA-256 by file name: association, members, mask


def fingerprint(
    asn: str | Path, *, version: str, options: str, psfmask: str | Path | None = None, allow_outside: bool = False
) -> Fingerprint:
    """Read every input of a reduction and take its checksum.

    Args:
        asn: path of the association file.
        version: of coronjax.
        options: every choice, as text.
        psfmask: path of the PSFMASK file, if one is given.
        allow_outside: accept members outside the association's folder.

    Returns:
        `Fingerprint`.

    Raises:
        AssociationError: the association cannot be used.

    Example:
        >>> fingerprint("no_such_asn.json", version="1", options="")
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: no_such_asn.json: no such association file
    """
    association = read_association(asn, allow_outside=allow_outside)
    paths = [association.path, *association.members, *([] if psfmask is None else [Path(psfmask)])]
    return Fingerprint(version, options, {path.name: _checksum(path) for path in paths})


def complete_products(folder: Path, wanted: Fingerprint) -> tuple[Path, ...]:
    """The products of just this reduction, where a folder holds them all undamaged.

    Args:
        folder: of the products.
        wanted: what the reduction would be made of now.

    Returns:
        Their paths; none where the manifest is of another reduction, or a product is not as it was written.

    Example:
        >>> complete_products(Path("no_such_folder"), Fingerprint("1", "", {}))
        ()
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        same = (found["version"], found["options"], found["inputs"]) == (
            wanted.version,
            wanted.options,
            dict(wanted.inputs),
        )
        products = {folder / name: checksum for name, checksum in found["products"].items()}
        undamaged = same and all(_checksum(path) == checksum for path, checksum in products.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, half written, or not ours
        return ()
    return tuple(products) if undamaged else ()


def write_manifest(folder: Path, made_of: Fingerprint, products: Iterable[Path]) -> Path:
    """Write the manifest, after everything else.

    Args:
        folder: of the products.
        made_of: what the reduction was made of.
        products: their paths.

    Returns:
        Path of the manifest.

    Raises:
        OutputError: it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "i2d.fits").write_bytes(b"light")
        5
        >>> made_of = Fingerprint("1", "", {})
        >>> write_manifest(folder, made_of, [folder / "i2d.fits"]).name, len(complete_products(folder, made_of))
        ('manifest.json', 1)
    """
    content = {
        "version": made_of.version,
        "options": made_of.options,
        "inputs": dict(made_of.inputs),
        "products": {path.name: _checksum(path) for path in products},
    }
    return write_text_atomically(json.dumps(content, indent=1) + "\n", folder / MANIFEST)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
