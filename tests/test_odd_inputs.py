"""Observations that lack something, and runs that leave steps out: a sensible product and a plain note."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from coronjax import Options, Result, run, simulate

pytestmark = pytest.mark.slow
Change = Callable[[fits.HDUList], None]
CUBES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")


@pytest.fixture(scope="module")
def nircam(tmp_path_factory: pytest.TempPathFactory) -> simulate.Simulation:
    settings: dict[str, Any] = {"shape": (48, 48), "n_references": 2, "nints_science": 3, "nints_references": 2}
    return simulate.simulate("nircam", tmp_path_factory.mktemp("nircam"), **settings)


def variant(source: simulate.Simulation, folder: Path, planes: dict[int, int], change: dict[int, Change]) -> Path:
    """The association with some members, each with its first integrations; those of `change` edited."""
    members = json.loads(source.asn.read_text())["products"][0]["members"]
    kept = []
    for i, n in planes.items():
        with fits.open(source.members[i]) as hdus:
            for name in CUBES:
                hdus[name].data = np.array(hdus[name].data[:n])
            hdus["INT_TIMES"].data = hdus["INT_TIMES"].data[:n]
            hdus[0].header["NINTS"] = n
            change.get(i, lambda hdus: None)(hdus)
            hdus.writeto(folder / source.members[i].name)
        kept.append(members[i])
    content = {"asn_id": "c1001", "asn_pool": "p", "asn_type": "coron3"}
    (folder / "asn.json").write_text(json.dumps(content | {"products": [{"name": "prod", "members": kept}]}))
    return folder / "asn.json"


def reduced(
    source: simulate.Simulation,
    folder: Path,
    *,
    planes: dict[int, int] | None = None,
    change: dict[int, Change] | None = None,
    mask: bool = True,
    **options: Any,
) -> Result:
    asn = variant(source, folder, planes or {0: 3, 1: 3, 2: 2, 3: 2}, change or {})
    given: Path | None = source.psf_mask if mask else None
    return run(asn, psfmask=given, options=dataclasses.replace(Options(), **options), output_dir=folder / "out")


def scatter(image: np.ndarray) -> float:
    """Robust scatter of an image, field stop and holes aside."""
    values = np.asarray(image)[..., 8:-8, 8:-8]
    values = values[np.isfinite(values)]
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def check_sensible(result: Result, *, star: bool = False) -> None:
    """Every product can be read; every good pixel is finite with a positive error; the star is gone, if it should."""
    for path in result.paths:
        with fits.open(path, checksum=True) as hdus:
            assert hdus["SCI"].data.size
    for product, exposure in zip(result.psfsub, result.reduction.science.sci, strict=True):
        good = product.dq & 1 == 0
        assert good.mean() > 0.5
        assert np.isfinite(product.sci[good]).all()
        assert np.all(product.err[good] > 0)
        before, after = scatter(exposure[: len(product.sci)]), scatter(np.where(good, product.sci, np.nan))
        assert (after > 0.5 * before) if star else (after < 0.5 * before)
    if result.i2d is not None:
        good = np.isfinite(result.i2d.sci)
        assert good.mean() > 0.3
        assert np.all(result.i2d.err[good] > 0)


def noted(result: Result, text: str) -> bool:
    return any(text in note for note in result.notes)


def test_no_mask_and_integrations_of_different_number(nircam: simulate.Simulation, tmp_path: Path) -> None:
    result = reduced(nircam, tmp_path, planes={0: 3, 1: 1, 2: 2, 3: 1}, mask=False)
    check_sensible(result)
    assert [len(product.sci) for product in result.psfsub] == [3, 1]
    assert len(result.psfalign[0].sci) == 3
    assert noted(result, "no PSF mask was given")
    assert noted(result, "2 exposures: one integration, so that no outlier can be found")


def test_one_of_everything(nircam: simulate.Simulation, tmp_path: Path) -> None:
    result = reduced(nircam, tmp_path, planes={0: 1, 2: 1})
    check_sensible(result)
    assert result.psfsub[0].primary["KLMODES"] == 1
    assert noted(result, "one science exposure: no second roll")
    assert noted(result, "one reference integration in all")
    assert noted(result, "one integration, so that no outlier can be found")


def test_planes_without_a_good_pixel(nircam: simulate.Simulation, tmp_path: Path) -> None:
    """A blank reference is no reference; a blank first integration does not keep the others from being aligned."""

    def blank(hdus: fits.HDUList) -> None:
        hdus["SCI"].data[0] = np.nan
        hdus["DQ"].data[0] |= 1

    result = reduced(nircam, tmp_path, change={0: blank, 2: blank})
    assert noted(result, "left out, since they have no usable pixel")
    assert np.all(result.reduction.subtraction.n_modes <= 3)
    assert np.isnan(result.psfsub[0].sci[0]).all() or np.all(result.psfsub[0].dq[0] & 1)
    for alignment in result.alignment:
        assert alignment.converged[1:].all()
    rest = dataclasses.replace(result, psfsub=result.psfsub[1:])
    assert scatter(result.psfsub[0].sci[1:]) < 2 * scatter(rest.psfsub[0].sci)
    assert result.i2d is not None
    assert np.isfinite(result.i2d.sci).mean() > 0.3


def test_a_reference_twice(nircam: simulate.Simulation, tmp_path: Path) -> None:
    once = reduced(nircam, tmp_path)
    (tmp_path / "twice").mkdir()
    with fits.open(nircam.members[2]) as hdus:
        same = {name: hdus[name].data.copy() for name in CUBES}

    def repeat(hdus: fits.HDUList) -> None:
        for name, data in same.items():
            hdus[name].data = data

    twice = reduced(nircam, tmp_path / "twice", change={3: repeat})
    check_sensible(twice)
    assert twice.i2d is not None
    assert once.i2d is not None
    assert scatter(twice.i2d.sci) < 1.5 * scatter(once.i2d.sci)


@pytest.mark.parametrize("step", ["outlier_detection", "background", "align_refs", "klip", "resample"])
def test_every_step_left_out(nircam: simulate.Simulation, tmp_path: Path, step: str) -> None:
    chosen = dataclasses.replace(getattr(Options(), step), skip=True)
    result = reduced(nircam, tmp_path, **{step: chosen})
    check_sensible(result, star=step == "klip")
    status = {"outlier_detection": "S_OUTLIR", "align_refs": "S_PSFALI", "klip": "S_KLIP", "resample": "S_RESAMP"}
    if step in status:
        assert noted(result, f"{step}.skip: ")
        found = [product.primary.get(status[step]) for product in result.products]
        assert "SKIPPED" in found
        assert "COMPLETE" not in found
    assert json.loads(result.psfsub[0].primary["CJOPTION"])[step]["skip"] is True
    assert len(result.unresampled) == (6 if step == "resample" else 0)
    for single in result.unresampled:
        assert {"VAR_REFERENCES", "VAR_SPECKLES"} <= {extension.name for extension in single.extensions}
    assert len(result.crfints) == (0 if step == "outlier_detection" else 4)


def test_backgrounds(tmp_path: Path) -> None:
    """The glow of MIRI, which dithers of empty sky have too, is gone from the products; official() leaves it."""
    settings: dict[str, Any] = {"shape": (64, 64), "n_references": 2, "nints_science": 2, "nints_references": 2}
    made = simulate.simulate("miri_4qpm", tmp_path, n_backgrounds=2, glow=2.0, **settings)
    result = run(made.asn, psfmask=made.psf_mask)
    check_sensible(result)
    assert result.psfsub[0].primary["S_BKDSUB"] == "COMPLETE"
    assert result.psfsub[0].primary["BKGDEXP"] == 2
    assert not any("background" in note for note in result.notes)
    without = run(made.asn, psfmask=made.psf_mask, options=Options.official())
    assert "S_BKDSUB" not in without.psfsub[0].primary
    assert any("background" in note for note in without.notes)
