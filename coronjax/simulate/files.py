"""Write an observation in the file format of JWST."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .astrometry import Astrometry, area_map
from .headers import (
    PROGRAM,
    Card,
    file_name,
    integration_times,
    primary_cards,
    science_cards,
    start_time,
)
from .modes import Filter, Mode, find_mode
from .observation import Observation, astrometry_of, observe
from .truth import Truth

# astropy.io.fits, asdf and gwcs take seconds to import and only files need them: they are imported where they are used.


@dataclass(frozen=True)
class Simulation:
    """An association on disk and what went into it."""

    asn: Path
    psf_mask: Path
    members: tuple[Path, ...]  # science first, then references, then backgrounds
    truth: Truth
    truth_file: Path


def simulate(mode: str, directory: str | Path, *, seed: int = 1, **settings: Any) -> Simulation:
    """Simulate an association of a coronagraphic mode and write it, in the file format of JWST.

    Args:
        mode: `"nircam"`, `"nircam_bar"`, `"miri_4qpm"` or `"miri_lyot"`.
        directory: where to; it is made if need be, and files of the same names are replaced.
        seed: the same seed gives the same files, but for the DATE keyword.
        **settings: as `observe` takes them: shape, filter, numbers of exposures and integrations, roll, companions,
            oddities of telescope and detector.

    Returns:
        `Simulation`: the association, its members (`_calints`), the mask for the registration, and the truth, which is
        in `truth.json` as well.

    Raises:
        OptionsError: what `observe` raises.

    Example:
        >>> import tempfile
        >>> simulate("nircam", tempfile.mkdtemp(), shape=(64, 64), n_references=2).asn.name
        'nircam_coron3_asn.json'
    """
    return write_observation(observe(mode, seed=seed, **settings), directory)


def write_observation(observation: Observation, directory: str | Path) -> Simulation:
    """Write an observation as an association.

    Args:
        observation: from `observe`.
        directory: where to.

    Returns:
        `Simulation`.

    Example:
        >>> import tempfile
        >>> seen = observe("nircam", shape=(64, 64), n_references=1)
        >>> write_observation(seen, tempfile.mkdtemp()).psf_mask.name
        'psfmask.fits'
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    mode, filter = find_mode(observation.truth.mode, observation.truth.filter)
    names = tuple(file_name(mode, pointing) for pointing in observation.pointings)
    for k, name in enumerate(names):
        _write_exposure(folder / name, observation, mode, filter, k)
    _write_mask(folder / "psfmask.fits", observation, mode, filter)
    asn, truth_file = folder / f"{mode.name}_coron3_asn.json", folder / "truth.json"
    kinds = [pointing.kind for pointing in observation.pointings]
    asn.write_text(json.dumps(_association(mode, filter, names, kinds), indent=4) + "\n")
    truth_file.write_text(observation.truth.to_json(names) + "\n")
    members = tuple(folder / name for name in names)
    return Simulation(asn, folder / "psfmask.fits", members, observation.truth, truth_file)


def _association(mode: Mode, filter: Filter, names: tuple[str, ...], kinds: Sequence[str]) -> dict[str, Any]:
    element = f"{filter.name}-{mode.pupil or filter.coronagraph}-{filter.subarray}".lower()
    product = f"jw{PROGRAM}-c1001_t001_{mode.instrument.lower()}_{element}"
    members = [{"expname": name, "exptype": kind} for name, kind in zip(names, kinds, strict=True)]
    return {
        "asn_type": "coron3",
        "asn_rule": "candidate_Asn_Lv3Coron",
        "version_id": None,
        "code_version": "3.0.0",
        "degraded_status": "No known degraded exposures in association.",
        "program": PROGRAM,
        "constraints": "No constraints",
        "asn_id": "c1001",
        "target": "t001",
        "asn_pool": f"jw{PROGRAM}_simulation_pool",
        "products": [{"name": product, "members": members}],
    }


def _fill(header: Any, cards: list[Card]) -> None:
    for card in cards:
        header.append(card, end=True)


def _now() -> Card:
    return "DATE", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3], "when this file was made, UTC"


def _asdf_table(astrometry: Astrometry, shape: tuple[int, int]) -> Any:
    """The gwcs in a FITS extension."""
    import asdf
    from astropy.io import fits

    from .world import make_gwcs

    tree, buffer = {"meta": {"wcs": make_gwcs(astrometry, shape)}}, io.BytesIO()
    asdf.AsdfFile(tree).write_to(buffer)
    content = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    column = fits.Column(name="ASDF_METADATA", format=f"{content.size}B", array=content[None])
    return fits.BinTableHDU.from_columns([column], name="ASDF")


def _write_exposure(path: Path, observation: Observation, mode: Mode, filter: Filter, k: int) -> None:
    from astropy.io import fits

    from .world import wcs_cards

    pointing, shape = observation.pointings[k], observation.truth.shape
    kinds = [p.kind for p in observation.pointings]
    cubes = {"science": observation.science, "psf": observation.references, "background": observation.backgrounds}
    cube, plane = cubes[pointing.kind], k - kinds.index(pointing.kind)
    nints = tuple(len(exposure.shifts) for exposure in observation.truth.exposures)
    begin = start_time(observation.pointings, nints, mode.integration, k)
    dithers = 1 if pointing.kind == "science" else kinds.count(pointing.kind)
    astrometry = astrometry_of(observation.truth, k, in_file=True)

    primary = fits.PrimaryHDU()
    _fill(primary.header, [_now(), *primary_cards(mode, filter, pointing, shape, begin, nints[k], dithers)])
    hdus = [primary]
    for name in ("sci", "err", "dq"):
        hdus.append(fits.ImageHDU(np.asarray(getattr(cube, name)[plane, : nints[k]]), name=name.upper()))
    _fill(hdus[1].header, science_cards(mode, filter, pointing, nints[k]))
    _fill(hdus[1].header, wcs_cards(astrometry, shape, mode.reference))
    hdus[2].header["BUNIT"] = "MJy/sr"
    hdus.append(fits.ImageHDU(area_map(astrometry, shape).astype(np.float32), name="AREA"))
    hdus.append(fits.BinTableHDU(integration_times(mode, begin, nints[k]), name="INT_TIMES"))
    for name in ("var_poisson", "var_rnoise", "var_flat"):
        hdus.append(fits.ImageHDU(np.asarray(getattr(cube, name)[plane, : nints[k]]), name=name.upper()))
    hdus.append(_asdf_table(astrometry, shape))
    for hdu in hdus[1:]:
        hdu.header["EXTVER"] = 1
    fits.HDUList(hdus).writeto(path, overwrite=True)


def _write_mask(path: Path, observation: Observation, mode: Mode, filter: Filter) -> None:
    from astropy.io import fits

    cards: list[Card] = [
        _now(),
        ("FILENAME", path.name, "name of this file"),
        ("DATAMODL", "PsfMaskModel", "type of data"),
        ("TELESCOP", "JWST", "telescope"),
        ("REFTYPE", "PSFMASK", "type of reference file"),
        ("PEDIGREE", "SIMULATION", "where it comes from"),
        ("DESCRIP", "weight of a registration: 1 use, 0 ignore", "what it is"),
        ("AUTHOR", "coronjax", "who made it"),
        ("USEAFTER", "2022-01-01T00:00:00", "valid from"),
        ("INSTRUME", mode.instrument, "instrument"),
        ("FILTER", filter.name, "filter"),
        ("CORONMSK", filter.coronagraph, "coronagraph mask"),
        ("SUBARRAY", filter.subarray, "subarray"),
    ]
    primary = fits.PrimaryHDU()
    _fill(primary.header, cards)
    image = fits.ImageHDU(observation.psf_mask, name="SCI")
    fits.HDUList([primary, image]).writeto(path, overwrite=True)
