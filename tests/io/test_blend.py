"""Headers of several exposures in one: the rules, the table, and both against the schema they come from."""

import numpy as np
import pytest
from astropy.io import fits

from coronjax.io.blend import blended_keywords, header_table, table
from coronjax.io.blend_rules import COLUMNS, RULES


def headers(*exposures, sci=({}, {})):
    return [{"PRIMARY": fits.Header(e), "SCI": fits.Header(s)} for e, s in zip(exposures, sci, strict=False)]


def blended(name, *values, extension="PRIMARY"):
    exposures = [{name: value} if value is not None else {} for value in values]
    nothing = [{} for _ in values]
    made = headers(*exposures, sci=nothing) if extension == "PRIMARY" else headers(*nothing, sci=exposures)
    return {key: value for where, key, _, value in blended_keywords(made) if where == extension}


@pytest.mark.parametrize(
    ("name", "values", "result"),
    [
        ("DATE-OBS", ("2026-03-10", "2026-03-09"), "2026-03-09"),
        ("TIME-OBS", ("02:00:00.000", "06:48:00.000"), "02:00:00.000"),
        ("DATE-END", ("2026-03-10T02:04:00", "2026-03-10T06:52:00"), "2026-03-10T06:52:00"),
        ("EXPSTART", (2.0, 1.0, 3.0), 1.0),
        ("EXPEND", (2.0, 1.0, 3.0), 3.0),
        ("EXPMID", (1.0, 2.0), 1.5),
        ("EFFEXPTM", (10.0, 20.5), 30.5),
        ("FILTER", ("F430M", "F430M"), "F430M"),
        ("FILTER", ("F430M", "F444W"), "MULTIPLE"),
        ("FWPOSTOL", ("within commanded tolerance", "outside calibration tolerance"), "outside calibration tolerance"),
        ("FWPOSTOL", ("within commanded tolerance", "within commanded tolerance"), "within commanded tolerance"),
        ("TMEASURE", (None, 3.0), 3.0),
    ],
)
def test_rules(name, values, result):
    assert blended(name, *values) == {name: result}


def test_rules_of_the_sci_header():
    assert blended("XPOSURE", 1.0, 2.0, extension="SCI") == {"XPOSURE": 3.0}
    assert blended("XPOSURE", 1.0, 2.0) == {}


def test_what_no_exposure_has_is_left_out():
    assert blended_keywords(headers({}, {})) == []
    assert blended("TMEASURE", None, None) == {}


def test_table():
    exposures = [{"NINTS": 2, "EXPMID": 1.5, "IS_PSF": True, "TARGNAME": "HD 1"}]
    exposures.append({"NINTS": 3, "EXPMID": 2.5, "IS_PSF": False, "TARGNAME": "HD 1000", "MODULE": "A", "EXTRA": 1})
    hdu = header_table(headers(*exposures, sci=({"BUNIT": "MJy/sr", "NINTS": 9}, {"BUNIT": "MJy/sr"})))
    assert hdu.name == "HDRTAB"
    assert hdu.columns.names == ["TARGNAME", "MODULE", "EXPMID", "NINTS", "IS_PSF", "BUNIT"]
    assert hdu.columns.formats == ["7A", "3A", "D", "K", "L", "6A"]
    assert hdu.data["NINTS"].tolist() == [2, 3]
    assert hdu.data["IS_PSF"].tolist() == [True, False]
    assert hdu.data["MODULE"].tolist() == ["nan", "A"]


def test_missing_numbers_are_nan():
    data = header_table(headers({"NINTS": 2, "IS_PSF": True}, {}, sci=({}, {}))).data
    np.testing.assert_array_equal(data["NINTS"], [2.0, np.nan])
    np.testing.assert_array_equal(data["IS_PSF"], [1.0, np.nan])


def test_types_of_columns(tmp_path):
    columns = {"A": np.array(["x", ""]), "B": np.array([True, False]), "C": np.arange(2, dtype=np.int32)}
    columns |= {"D": np.arange(2, dtype=np.float32), "E": np.arange(2), "F": np.array([0.5, np.nan])}
    table(columns, "T").writeto(tmp_path / "t.fits")
    with fits.open(tmp_path / "t.fits") as hdus:
        assert hdus["T"].columns.formats == ["1A", "L", "J", "E", "K", "D"]
        for name, values in columns.items():
            np.testing.assert_array_equal(hdus["T"].data[name], values)


def test_the_facts_are_those_of_the_schema():
    """Walk the schema of CubeModel for `blend_table` and `blend_rule`."""
    schema = pytest.importorskip("stdatamodels.schema", reason="stdatamodels is not installed")
    from stdatamodels.jwst.datamodels import CubeModel

    columns, rules = [], []

    def visit(node, path, *_):
        if path[:1] != ["meta"] or "items" in path or node.get("properties") or node.get("type") == "array":
            return
        path = path[: next((i for i, part in enumerate(path) if part in ("anyOf", "oneOf")), len(path))]
        name = node.get("fits_keyword", "")
        name = f"SCI.{name}" if node.get("fits_hdu") == "SCI" else name
        if node.get("blend_table"):
            columns.append(name)
        if node.get("blend_rule", "first") != "first":
            rule = node["blend_rule"]
            rules.append(f"{name} {rule[:3] if rule[:3] in ('min', 'max') else rule} {'.'.join(path[1:])}")

    schema.walk_schema(CubeModel((1, 2, 2)).schema, visit)
    assert COLUMNS.split() == columns
    assert RULES.strip().split("\n") == rules
