"""What `inspect` says of backgrounds, of the star, and of observations that lack something."""

import json
from pathlib import Path

import pytest

from coronjax import AlignRefs, Klip, Options, Resample, Star
from coronjax.inspection import inspect
from coronjax.options import Background

from .io.sky_files import pointing, sky_hdus

MEMBERS = {"sci1": "science", "sci2": "science", "psf1": "psf", "sky1": "background", "sky2": "Background"}


@pytest.fixture(scope="module")
def asn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rolls, a reference, two exposures of empty sky."""
    folder = tmp_path_factory.mktemp("observation")
    for i, name in enumerate(MEMBERS):
        sky_hdus(sky=pointing(roll=10.0 * i), gwcs=False, IS_PSF=name == "psf1").writeto(folder / f"{name}.fits")
    members = [{"expname": f"{name}.fits", "exptype": kind} for name, kind in MEMBERS.items()]
    content = {
        "asn_id": "c1001",
        "asn_type": "coron3",
        "asn_pool": "p",
        "products": [{"name": "n", "members": members}],
    }
    (folder / "asn.json").write_text(json.dumps(content))
    return folder / "asn.json"


def test_backgrounds(asn: Path) -> None:
    found = inspect(asn)
    assert [member.kind for member in found.members] == ["science"] * 2 + ["psf"] + ["background"] * 2
    assert dict(found.steps)["background"] == "subtract the median of 2 background exposures from 3 exposures"
    assert not any("background" in name for name in found.products)
    assert sum("crfints" in name for name in found.products) == 3
    assert found.errors == ()
    official = inspect(asn, options=Options.official())
    assert dict(official.steps)["background"] == "skipped"
    assert len(official.members) == 3
    assert sum("of exptype background is ignored" in text.lower() for text in official.warnings) == 2
    assert inspect(asn, options=Options(background=Background(skip=True))).products == found.products


def test_the_folder_of_products(asn: Path) -> None:
    (error,) = inspect(asn, output_dir=asn).errors
    assert error.endswith("asn.json is no folder")
    assert inspect(asn, output_dir=asn.parent / "new").errors == ()


def test_the_star(asn: Path) -> None:
    def text(star: Star) -> str:
        return dict(inspect(asn, options=Options(star=star)).steps)["star"]

    assert "by a fit where that is reliable" in text(Star())
    assert "header's reference pixel" in text(Star(source="header"))
    assert "leave the WCS" in text(Star(source="wcs"))
    assert "positions given" in text(Star(source="wcs", positions=((20.0, 20.0),) * 2))
    (error,) = inspect(asn, options=Options(star=Star(positions=((20.0, 20.0),)))).errors
    assert "1 positions for 2 science exposures" in error


def test_one_roll(asn: Path) -> None:
    content = json.loads(asn.read_text())
    del content["products"][0]["members"][0]
    path = asn.with_name("one_asn.json")
    path.write_text(json.dumps(content))
    assert any(text.startswith("one science exposure: no second roll") for text in inspect(path).warnings)
    assert not any("second roll" in text for text in inspect(asn).warnings)


def test_what_follows_from_options(asn: Path) -> None:
    left_out = Options(klip=Klip(truncate=9), align_refs=AlignRefs(skip=True), resample=Resample(skip=True))
    warnings = inspect(asn, options=left_out).warnings
    assert "align_refs.skip: reference images are subtracted where they lie" in warnings
    assert any(text.startswith("resample.skip: every integration is written") for text in warnings)
    assert "klip.truncate=9 is more than the 2 reference integrations: all modes are kept" in warnings
    assert not any("skip" in text for text in inspect(asn, options=Options(klip=Klip(truncate=2))).warnings)
