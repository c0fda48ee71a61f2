"""Which exposures are blurred, and by how much."""

from types import SimpleNamespace

import pytest

from coronjax.io.sampling import blur_sigma


def exposure(name, scale=0.063, keyword="PIXAR_A2"):
    unit = 1.0 if keyword == "PIXAR_A2" else (3.141592653589793 / 180 / 3600) ** 2
    cards = {"FILTER": name, keyword: scale**2 * unit}
    return SimpleNamespace(keyword=lambda key, default=None: cards.get(key, default))


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [("F250M", 0.063, 0.90), ("F300M", 0.063, 0.62), ("F335M", 0.063, 0.37), ("F356W", 0.063, 0.15),
     ("F410M", 0.063, 0.0), ("F444W", 0.063, 0.0), ("F210M", 0.0312, 0.0), ("F1065C", 0.11, 0.0),
     ("F2300C", 0.11, 0.0)],
)  # fmt: skip
def test_blur_of_a_filter(name, scale, expected):
    sigma, note = blur_sigma(exposure(name, scale))
    assert sigma == pytest.approx(expected, abs=0.02)
    assert ("undersampled" in note) == (sigma > 0)


def test_solid_angle_serves_as_well():
    one, two = (blur_sigma(exposure("F300M", keyword=keyword))[0] for keyword in ("PIXAR_A2", "PIXAR_SR"))
    assert two == pytest.approx(one, rel=1e-9)


def test_what_is_not_known_is_said():
    sigma, note = blur_sigma(exposure("F999X"))
    assert sigma == 0.0
    assert "F999X is not known" in note
    sigma, note = blur_sigma(exposure("F300M", keyword="NONE"))
    assert sigma == 0.0
    assert "PIXAR_A2" in note
