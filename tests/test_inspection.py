"""What `inspect` says of backgrounds, of the star, and of observations that lack something."""

import json
from pathlib import Path

import pytest

from coronjax import Options, Star
from coronjax.inspection import inspect
from coronjax.options import Background
from coronjax.simulate import Simulation, simulate


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """With two exposures of empty sky."""
    settings = {"shape": (40, 40), "n_references": 1, "nints_references": 2, "n_backgrounds": 2}
    return simulate("miri_4qpm", tmp_path_factory.mktemp("miri"), **settings)


def test_backgrounds(simulation: Simulation) -> None:
    found = inspect(simulation.asn)
    assert [member.kind for member in found.members] == ["science"] * 2 + ["psf"] + ["background"] * 2
    assert dict(found.steps)["background"] == "subtract the median of 2 background exposures from 3 exposures"
    assert not any("background" in name for name in found.products)
    assert sum("crfints" in name for name in found.products) == 3
    assert found.errors == ()
    official = inspect(simulation.asn, options=Options.official())
    assert dict(official.steps)["background"] == "skipped"
    assert len(official.members) == 3
    assert sum("of exptype background is ignored" in text for text in official.warnings) == 2
    assert inspect(simulation.asn, options=Options(background=Background(skip=True))).products == found.products


def test_the_star(simulation: Simulation) -> None:
    def text(star: Star) -> str:
        return dict(inspect(simulation.asn, options=Options(star=star)).steps)["star"]

    assert "by a fit where that is reliable" in text(Star())
    assert "header's reference pixel" in text(Star(source="header"))
    assert "leave the WCS" in text(Star(source="wcs"))
    assert "positions given" in text(Star(source="wcs", positions=((20.0, 20.0),) * 2))
    (error,) = inspect(simulation.asn, options=Options(star=Star(positions=((20.0, 20.0),)))).errors
    assert "1 positions for 2 science exposures" in error


def test_one_roll(simulation: Simulation) -> None:
    content = json.loads(simulation.asn.read_text())
    del content["products"][0]["members"][0]
    path = Path(simulation.asn).with_name("one_asn.json")
    path.write_text(json.dumps(content))
    assert any(text.startswith("one science exposure: no second roll") for text in inspect(path).warnings)
    assert not any("second roll" in text for text in inspect(simulation.asn).warnings)
