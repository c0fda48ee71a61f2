"""What an association holds, what a run would make of it, and what looks wrong, from its headers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .advice import option_notes
from .errors import CoronjaxError, OutputError
from .io.association import Association, read_association
from .io.background import background_notes
from .io.consistency import check_consistent, observation_notes
from .io.exposure import ExposureHeaders, read_headers
from .io.metadata import exposure_name
from .io.psf_mask import read_psf_mask
from .io.writing import check_folder
from .options import Options


@dataclass(frozen=True)
class Member:
    """One exposure of an association."""

    kind: str  # "science", "psf" or "background"
    path: Path
    headers: ExposureHeaders | None  # None: it cannot be read

    def keyword(self, name: str) -> str:
        """A header keyword as text, empty where there is none."""
        value = None if self.headers is None else self.headers.keyword(name)
        return "" if value is None else str(value).strip()

    def number(self, name: str) -> float:
        """A header keyword as a number, NaN where there is none."""
        try:
            return float(self.keyword(name))
        except ValueError:
            return math.nan


@dataclass(frozen=True)
class Inspection:
    """What `coronjax info` tells."""

    association: Association
    members: tuple[Member, ...]  # science first
    steps: tuple[tuple[str, str], ...]  # name and what it would do
    products: tuple[str, ...]  # names of the files that would be written
    mask: str  # where the weight of the registration would come from
    warnings: tuple[str, ...]
    errors: tuple[str, ...]  # a run would stop at these


def inspect(
    asn: str | Path,
    *,
    output_dir: str | Path | None = None,
    psfmask: str | Path | None = None,
    options: Options | None = None,
    allow_outside: bool = False,
) -> Inspection:
    """Look at an association without reducing it.

    Args:
        asn: path of the association file.
        output_dir: where a run would write; files that it would replace are reported.
        psfmask: path of a PSFMASK file.
        options: those of the run.
        allow_outside: accept members outside the association's folder.

    Returns:
        `Inspection`. What is wrong with members is in its `errors`.

    Raises:
        AssociationError: the association file itself cannot be used.

    Example:
        >>> inspect("no_such_asn.json")
        Traceback (most recent call last):
        ...
        coronjax.errors.AssociationError: no_such_asn.json: no such association file
    """
    options = Options() if options is None else options
    association = read_association(asn, allow_outside=allow_outside, background=not options.background.skip)
    errors = [*_option_errors(association, options), *_output_errors(output_dir)]
    kinds = ("science", "psf", "background")
    members = tuple(_member(kind, path, errors) for kind in kinds for path in getattr(association, kind))
    headers = [member.headers for member in members if member.headers is not None]
    warnings = [*association.notes, *_member_warnings(members, options), *_observation_warnings(members)]
    warnings += option_notes(options, _planes(members, "psf"))
    mask = "not read, since no exposure can be"
    try:
        check_consistent(association, headers)
        if headers:
            found = read_psf_mask(psfmask, headers[0])
            mask = found.source if found.source != "N/A" else "none: every pixel counts the same"
            warnings += [found.note] if found.note else []
    except CoronjaxError as error:
        mask = str(psfmask) if psfmask is not None else "none"
        errors.append(str(error))
    products = tuple(_product_names(association, members, options))
    warnings += [f"{name} is there already and would be replaced" for name in _present(products, output_dir)]
    steps = tuple(_steps(members, options))
    return Inspection(association, members, steps, products, mask, tuple(warnings), tuple(errors))


def _member(kind: str, path: Path, errors: list[str]) -> Member:
    try:
        return Member(kind, path, read_headers(path))
    except CoronjaxError as error:
        errors.append(str(error))
        return Member(kind, path, None)


def _readable(members: tuple[Member, ...], *kinds: str) -> list[ExposureHeaders]:
    return [member.headers for member in members if member.kind in kinds and member.headers is not None]


def _observation_warnings(members: tuple[Member, ...]) -> Iterator[str]:
    """What is odd about the exposures together."""
    science, references = _readable(members, "science"), _readable(members, "psf")
    yield from observation_notes(science, references)
    yield from background_notes([*science, *references], _readable(members, "background"))


def _member_warnings(members: tuple[Member, ...], options: Options) -> Iterator[str]:
    """What is odd about single exposures, and about the target beside its references."""
    targets = {member.keyword("TARGPROP") for member in members if member.kind == "science"} - {""}
    if len(targets) > 1:
        yield f"science exposures of {len(targets)} targets: {', '.join(sorted(targets))}"
    affected: dict[str, list[str]] = {}
    for member in members:
        for text in () if member.headers is None else _oddities(member, member.headers, targets, options):
            affected.setdefault(text, []).append(member.path.name)
    for text, names in affected.items():
        yield f"{names[0] if len(names) == 1 else f'{len(names)} exposures, the first {names[0]}'}: {text}"


def _oddities(member: Member, headers: ExposureHeaders, targets: set[str], options: Options) -> Iterator[str]:
    yield from headers.notes
    n = headers.shape[0]
    if n == 2 and options.outlier_detection.pairs == "both" and member.kind != "background":
        yield "two integrations, so that an outlier in one costs the pixel in both"
    if member.keyword("NINTS") not in ("", str(n)):
        yield f"NINTS={member.keyword('NINTS')}, but SCI holds {n} integrations"
    if member.keyword("BUNIT") != "MJy/sr":
        yield f"BUNIT={member.keyword('BUNIT')!r}, not 'MJy/sr'"
    flagged = member.keyword("IS_PSF")
    if flagged in ("True", "False") and (flagged == "True") != (member.kind == "psf"):
        yield f"IS_PSF={flagged}, but the association has it as {member.kind}"
    if member.kind != "background" and member.keyword("BKGDTARG") == "True":
        yield f"BKGDTARG=True, but the association has it as {member.kind}"
    if member.kind == "psf" and member.keyword("TARGPROP") in targets:
        yield f"a reference of the science target itself, TARGPROP={member.keyword('TARGPROP')!r}"
    if member.keyword("S_KLIP") == "COMPLETE":
        yield "S_KLIP='COMPLETE': the star is subtracted already"
    missing = [name for name in ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT") if not _has_data(headers, name)]
    if missing:
        yield f"{', '.join(missing)} missing or empty"
    if member.kind == "science" and "ASDF" not in headers.headers:
        yield "no ASDF extension: the TAN-SIP keywords serve as its WCS"
    if member.kind == "science" and not member.keyword("S_REGION"):
        yield "no S_REGION, from which the size of the sky image follows"


def _has_data(headers: ExposureHeaders, name: str) -> bool:
    header = headers.headers.get(name)
    return header is not None and bool(header.get("NAXIS"))


def _option_errors(association: Association, options: Options) -> Iterator[str]:
    given, wanted = options.star.positions, len(association.science)
    if given is not None and len(given) != wanted:
        yield f"star.positions={given!r} has {len(given)} positions for {wanted} science exposures"


def _planes(members: tuple[Member, ...], kind: str) -> int:
    return sum(headers.shape[0] for headers in _readable(members, kind))


def _steps(members: tuple[Member, ...], options: Options) -> Iterator[tuple[str, str]]:
    science, planes = _planes(members, "science"), _planes(members, "psf")
    exposures = sum(member.kind == "science" for member in members)
    backgrounds = sum(member.kind == "background" for member in members)
    modes = min(options.klip.truncate, planes)
    taken = len(members) - backgrounds
    texts = {
        "outlier_detection": f"flag cosmic rays in {science + planes} integrations of {taken} exposures",
        "stack_refs": f"stack {planes} reference integrations",
        "background": _background_text(backgrounds, taken),
        "align_refs": f"align {planes} reference integrations to each of {exposures} science exposures",
        "klip": f"subtract the star from {science} science integrations with {modes} modes",
        "star": _star_text(options),
        "resample": f"drizzle {science} science integrations onto one image of the sky",
    }
    for name, text in texts.items():
        yield name, "skipped" if getattr(getattr(options, name, None), "skip", False) else text


def _background_text(backgrounds: int, taken: int) -> str:
    if not backgrounds:
        return "subtract a constant level from every frame"
    return f"subtract the median of {backgrounds} background exposures from {taken} exposures"


def _star_text(options: Options) -> str:
    """Where the star is taken from."""
    if options.star.positions is not None:
        return "take the star to be at the positions given"
    return {
        "auto": "find the star by a fit where that is reliable, else at the header's reference pixel",
        "data": "find the star by a fit",
        "header": "take the star to be at the header's reference pixel",
        "wcs": "leave the WCS as it is",
    }[options.star.source]


def _product_names(association: Association, members: tuple[Member, ...], options: Options) -> Iterator[str]:
    science: list[Any] = _readable(members, "science")
    if not options.outlier_detection.skip:
        taken: list[Any] = [*_readable(members, "psf"), *science]
        yield from (exposure_name(headers, association, "crfints") for headers in taken)
    yield f"{association.product_name}_psfstack.fits"
    for product in ("psfalign", "psfsub"):
        yield from (exposure_name(headers, association, product) for headers in science)
    if options.resample.skip:
        planes = range(sum(headers.shape[0] for headers in science))
        yield from (f"{association.product_name}_{k}_i2d.fits" for k in planes)
    else:
        yield f"{association.product_name}_i2d.fits"


def _output_errors(output_dir: str | Path | None) -> Iterator[str]:
    try:
        if output_dir is not None:
            check_folder(output_dir)
    except OutputError as error:
        yield str(error)


def _present(products: tuple[str, ...], output_dir: str | Path | None) -> list[str]:
    return [] if output_dir is None else [name for name in products if (Path(output_dir) / name).exists()]
