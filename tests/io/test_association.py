"""Associations: what a sound one says, and one typed error for everything else."""

import json
import re

import pytest

from coronjax.errors import AssociationError
from coronjax.io.association import read_association

from .files import ABSENT, SHARED, association, write_association


def refuse(path, keyword, value, words, **options):
    """Reading fails with an error that names the file, the keyword and the value."""
    with pytest.raises(AssociationError, match=re.escape(words)) as caught:
        read_association(path, **options)
    assert (caught.value.file, caught.value.keyword, caught.value.value) == (path, keyword, value)
    assert str(path) in str(caught.value)
    assert keyword is None or f"{keyword}={value!r}" in str(caught.value)


def with_members(*members):
    return association(products=[{"name": "p", "members": [{"expname": n, "exptype": k} for n, k in members]}])


def test_sound(tmp_path):
    asn = read_association(write_association(tmp_path, association()))
    assert (asn.asn_id, asn.asn_pool, asn.product_name, asn.table_name) == (
        "c1001",
        "pool.csv",
        "jw00001_t001",
        "obs_asn.json",
    )
    assert asn.science == (tmp_path / "sci1.fits",)
    assert asn.psf == (tmp_path / "psf1.fits", tmp_path / "psf2.fits")
    assert asn.members == asn.science + asn.psf
    assert asn.notes == asn.ignored == ()
    for word in ("jw00001_t001", "c1001", "sci1.fits", "psf2.fits"):
        assert word in repr(asn)


def test_relative_path_is_made_absolute(tmp_path, monkeypatch):
    write_association(tmp_path, association())
    monkeypatch.chdir(tmp_path)
    assert read_association("obs_asn.json").science[0] == tmp_path / "sci1.fits"


def test_members_of_any_case_and_others_ignored_with_a_note(tmp_path):
    members = ("sci1.fits", "SCIENCE"), ("psf1.fits", "Psf"), ("gone.fits", "target_acquisition"), ("psf2.fits", "psf")
    asn = read_association(write_association(tmp_path, with_members(*members)))
    assert [p.name for p in asn.members] == ["sci1.fits", "psf1.fits", "psf2.fits"]
    assert asn.ignored == (("gone.fits", "target_acquisition"),)
    assert "gone.fits of exptype target_acquisition is ignored" in asn.notes[0]
    assert "gone.fits (target_acquisition)" in repr(asn)


def test_backgrounds(tmp_path):
    members = ("sci1.fits", "science"), ("psf1.fits", "psf"), ("psf2.fits", "Background")
    path = write_association(tmp_path, with_members(*members))
    asn = read_association(path)
    assert asn.background == (tmp_path / "psf2.fits",)
    assert asn.members == asn.science + asn.psf + asn.background
    assert "background psf2.fits" in repr(asn)
    without = read_association(path, background=False)
    assert without.background == ()
    assert without.notes == ("member psf2.fits of exptype Background is ignored",)


def test_a_background_that_is_missing_or_taken_twice(tmp_path):
    needed = ("sci1.fits", "science"), ("psf1.fits", "psf")
    path = write_association(tmp_path, with_members(*needed, ("gone.fits", "background")))
    refuse(path, "expname", "gone.fits", "no such file")
    assert read_association(path, background=False).ignored == (("gone.fits", "background"),)
    path = write_association(tmp_path, with_members(*needed, ("psf1.fits", "background")))
    refuse(path, "expname", "psf1.fits", "the file is both a psf and a background member")


def test_first_of_several_products(tmp_path):
    content = association()
    content["products"].append({"name": "second", "members": []})
    asn = read_association(write_association(tmp_path, content))
    assert asn.product_name == "jw00001_t001"
    assert "2 products, only the first is made" in asn.notes[0]


def test_notes_of_type_and_pool(tmp_path):
    asn = read_association(write_association(tmp_path, association(asn_type="image3", asn_pool=None)))
    assert asn.asn_pool == "none"
    assert asn.notes == ("asn_type is 'image3', not 'coron3'", "the association names no asn_pool")


def test_missing_file(tmp_path):
    refuse(tmp_path / "no_asn.json", None, None, "no such association file")
    refuse(tmp_path, None, None, "cannot be read")


def test_missing_braces_are_named_with_their_line(tmp_path):
    path = write_association(tmp_path, association())
    text = path.read_text()
    path.write_text(text.rstrip().removesuffix("}").rstrip().removesuffix("]"))
    lines = len(path.read_text().rstrip().splitlines())
    refuse(path, None, None, f"the file ends at line {lines} with ']}}' missing")


def test_text_with_brackets_does_not_mislead(tmp_path):
    path = tmp_path / "asn.json"
    path.write_text('{"asn_rule": "a \\" } ] {", "products": [\n{')
    refuse(path, None, None, "the file ends at line 2 with '}]}' missing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"asn_id": "c1001",\n "products": [,]}', "malformed JSON at line 2, column 15"),
        ('{"asn_id": "c1001"} trailing', "malformed JSON at line 1, column 21"),
        ('{"asn_id": "c1001', "malformed JSON"),
        ("", "malformed JSON at line 1"),
        ("\ufeff{}", "malformed JSON at line 1"),
        ("[" * 100_000, "malformed JSON: nested too deeply"),
    ],
)
def test_malformed(tmp_path, text, words):
    path = tmp_path / "asn.json"
    path.write_text(text)
    refuse(path, None, None, words)


def test_strict_json(tmp_path):
    path = tmp_path / "asn.json"
    path.write_text('{"asn_id": "a", "asn_id": "b"}')
    refuse(path, "asn_id", "b", "the key occurs twice")
    for number in ("NaN", "Infinity", "-Infinity"):
        path.write_text(f'{{"version": {number}}}')
        refuse(path, "number", number, "JSON has no such number")
    path.write_text("[1]")
    refuse(path, "content", [1], "an association is a JSON object")
    path.write_bytes(b'{"asn_id": "\xff"}')
    refuse(path, None, None, "UTF-8 text: invalid start byte at byte 12")


@pytest.mark.parametrize("field", ["asn_type", "asn_rule", "asn_id", "program", "target", "asn_pool"])
def test_fields_of_the_schema_are_text(tmp_path, field):
    refuse(write_association(tmp_path, association(**{field: 7})), field, 7, "must be text")


@pytest.mark.parametrize("products", [[], {}, "p", ["p"]])
def test_no_product(tmp_path, products):
    refuse(write_association(tmp_path, association(products=products)), "products", products, "a list of products")


def test_products_missing(tmp_path):
    refuse(write_association(tmp_path, association(products=None)), "products", None, "a list of products")


@pytest.mark.parametrize("members", [[], None, "sci1.fits"])
def test_no_members(tmp_path, members):
    content = association(products=[{"name": "p", "members": members}])
    refuse(write_association(tmp_path, content), "members", members, "a list of members")


def test_member_fields(tmp_path):
    content = association(products=[{"name": "p", "members": ["sci1.fits"]}])
    refuse(write_association(tmp_path, content), "members", "sci1.fits", "with expname and exptype")
    for member, keyword, value in (
        ({"exptype": "psf"}, "expname", None),
        ({"expname": "", "exptype": "psf"}, "expname", ""),
        ({"expname": "a\0b", "exptype": "psf"}, "expname", "a\0b"),
        ({"expname": "sci1.fits"}, "exptype", None),
        ({"expname": "sci1.fits", "exptype": 3}, "exptype", 3),
    ):
        content["products"][0]["members"] = [member]
        refuse(write_association(tmp_path, content), keyword, value, f"every member has the text {keyword}")


@pytest.mark.parametrize("value", [None, "", "  "])
def test_asn_id_and_name_missing(tmp_path, value):
    refuse(write_association(tmp_path, association(asn_id=value)), "asn_id", value, "missing or empty")
    content = association()
    content["products"][0]["name"] = value
    refuse(write_association(tmp_path, content), "name", value, "missing or empty")


@pytest.mark.parametrize("value", ["a/b", "../a", ".hidden", "..", "/etc/a", "a\\b", "a\nb", "a\0b"])
def test_names_are_plain_file_names(tmp_path, value):
    content = association()
    content["products"][0]["name"] = value
    refuse(write_association(tmp_path, content), "name", value, "plain file name")
    refuse(write_association(tmp_path, association(asn_id=value)), "asn_id", value, "plain file name")


@pytest.mark.parametrize("kind", ["science", "psf"])
def test_no_member_of_a_kind(tmp_path, kind):
    other = "psf" if kind == "science" else "science"
    content = with_members(("sci1.fits", other), ("psf1.fits", other))
    refuse(write_association(tmp_path, content), "exptype", kind, f"no member of exptype {kind}")


def test_repeated_members(tmp_path):
    content = with_members(("sci1.fits", "science"), ("psf1.fits", "psf"), ("./psf1.fits", "PSF"))
    refuse(write_association(tmp_path, content), "expname", "psf1.fits", "the psf member occurs twice")
    content = with_members(("sci1.fits", "science"), ("psf1.fits", "psf"), ("sci1.fits", "psf"))
    refuse(write_association(tmp_path, content), "expname", "sci1.fits", "both a science and a psf member")


def test_a_link_to_another_member_is_that_member(tmp_path):
    path = write_association(
        tmp_path, with_members(("sci1.fits", "science"), ("psf1.fits", "psf"), ("link.fits", "psf"))
    )
    (tmp_path / "link.fits").symlink_to(tmp_path / "sci1.fits")
    refuse(path, "expname", "link.fits", "both a science and a psf member")


def test_members_whose_products_would_collide(tmp_path):
    (tmp_path / "a").mkdir()
    content = with_members(("psf1.fits", "science"), ("a/psf1.fits", "psf"))
    path = write_association(tmp_path, content, files=("psf1.fits", "a/psf1.fits"))
    refuse(path, "expname", "psf1.fits", "would have the same names")


def test_missing_members(tmp_path):
    refuse(write_association(tmp_path, association(), files=("sci1.fits",)), "expname", "psf1.fits", "no such file")
    (tmp_path / "folder.fits").mkdir()
    refuse(write_association(tmp_path, with_members(("folder.fits", "psf"))), "expname", "folder.fits", "no such file")
    long = "x" * 5000
    refuse(write_association(tmp_path, with_members((long, "psf"))), "expname", long, "no such file")


def test_leaving_the_folder(tmp_path):
    folder = tmp_path / "asn"
    folder.mkdir()
    (tmp_path / "outside.fits").touch()
    for name in ("../outside.fits", str(tmp_path / "outside.fits")):
        path = write_association(folder, with_members(("sci1.fits", "science"), (name, "psf")))
        refuse(path, "expname", name, "outside the association's folder")
        assert read_association(path, allow_outside=True).psf == (tmp_path / "outside.fits",)


def test_staying_in_the_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    names = ("sub/../sci1.fits", str(tmp_path / "psf1.fits"), "sub/psf2.fits")
    content = with_members((names[0], "science"), (names[1], "psf"), (names[2], "psf"))
    asn = read_association(write_association(tmp_path, content, files=("sci1.fits", "psf1.fits", "sub/psf2.fits")))
    assert asn.members == (tmp_path / "sci1.fits", tmp_path / "psf1.fits", tmp_path / "sub" / "psf2.fits")


def test_links(tmp_path):
    """A link in the folder and a folder reached through a link are the user's own; '..' through a link is followed."""
    archive = tmp_path / "archive" / "deep"
    archive.mkdir(parents=True)
    folder = tmp_path / "real"
    folder.mkdir()
    for name in ("psf1.fits", "deep/psf2.fits"):
        (archive.parent / name).touch()
    path = write_association(folder, with_members(("sci1.fits", "science"), ("psf1.fits", "psf")), files=("sci1.fits",))
    (folder / "psf1.fits").symlink_to(archive.parent / "psf1.fits")
    (tmp_path / "alias").symlink_to(folder)
    assert read_association(path).psf == (folder / "psf1.fits",)
    assert read_association(tmp_path / "alias" / "obs_asn.json").psf == (tmp_path / "alias" / "psf1.fits",)
    (folder / "deep").symlink_to(archive)
    path = write_association(folder, with_members(("sci1.fits", "science"), ("deep/../psf1.fits", "psf")), files=())
    refuse(path, "expname", "deep/../psf1.fits", "outside the association's folder")


@pytest.mark.skipif(not SHARED.is_dir(), reason=ABSENT)
def test_real_associations():
    paths = sorted(SHARED.glob("official/*/input/*_asn.json")) + sorted(SHARED.glob("aumic_f444w/input/*_asn.json"))
    assert len(paths) == 5
    for path in paths:
        product = json.loads(path.read_text())["products"][0]
        asn = read_association(path)
        assert asn.product_name == product["name"]
        assert [p.name for p in asn.psf] == [m["expname"] for m in product["members"] if m["exptype"] == "psf"]
        assert asn.notes == ()
