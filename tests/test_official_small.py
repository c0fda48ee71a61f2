"""`reduce` against the products of jwst 3.0.0 for two small associations, kept in tests/data."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coronjax
from tests.small import MODES, arguments, read


@pytest.fixture(scope="module", params=MODES)
def case(request: pytest.FixtureRequest) -> Any:
    """Our reduction and the official products."""
    official = read(request.param, "official")
    return SimpleNamespace(ours=coronjax.reduce(**arguments(request.param)), official=official)


def assert_close(ours: Any, official: np.ndarray, tolerance: float) -> None:
    ours = np.asarray(ours)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(official))
    assert np.nanmax(np.abs(ours - official)) <= tolerance


def test_shifts_and_scales(case: Any) -> None:
    shifts, scales = case.official["registration"][..., :2], case.official["registration"][..., 2]
    assert_close(case.ours.registration.shift, shifts, 1e-6)
    assert_close(case.ours.registration.scale, scales, 1e-6)


def test_star_subtracted(case: Any) -> None:
    sci, err = case.official["psfsub.sci"], case.official["psfsub.err"]
    assert_close(case.ours.psfsub.sci, sci, 2e-4 * sci.std())
    assert_close(case.ours.psfsub.err, err, 1e-4 * err.max())
    np.testing.assert_array_equal(case.ours.psfsub.dq, case.official["psfsub.dq"])


def test_sky_image(case: Any) -> None:
    i2d = case.ours.i2d
    assert_close(i2d.sci, case.official["i2d.sci"], 2e-4 * np.nanstd(case.official["i2d.sci"]))
    names = {"wht": i2d.weight, "err": i2d.err}
    names |= {name: getattr(i2d, name) for name in ("var_poisson", "var_rnoise", "var_flat")}
    for name, ours in names.items():
        assert_close(ours, case.official[f"i2d.{name}"], 2e-5 * np.nanmax(case.official[f"i2d.{name}"]))
    np.testing.assert_array_equal(np.asarray(i2d.context), case.official["i2d.con"])
