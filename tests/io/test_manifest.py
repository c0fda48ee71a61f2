"""The manifest: complete only where inputs, options, version and every product are as they were."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from coronjax.io.manifest import MANIFEST, Fingerprint, complete_products, write_manifest

MADE_OF = Fingerprint("1.0", "Options()", {"a_asn.json": "12", "a_calints.fits": "34"})


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    for name in ("a_psfsub.fits", "a_i2d.fits"):
        (tmp_path / name).write_bytes(name.encode())
    write_manifest(tmp_path, MADE_OF, sorted(tmp_path.glob("*.fits")))
    return tmp_path


def test_complete(finished: Path) -> None:
    assert [path.name for path in complete_products(finished, MADE_OF)] == ["a_i2d.fits", "a_psfsub.fits"]


@pytest.mark.parametrize(
    "change",
    [{"version": "1.1"}, {"options": "Options(1)"}, {"inputs": {"a_asn.json": "12", "a_calints.fits": "35"}}],
    ids=lambda change: next(iter(change)),
)
def test_made_of_something_else(finished: Path, change: dict) -> None:
    assert not complete_products(finished, dataclasses.replace(MADE_OF, **change))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "a_i2d.fits").unlink(),
        lambda folder: (folder / "a_i2d.fits").write_bytes(b"shorter"),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-9]),
        lambda folder: (folder / MANIFEST).write_text("[]"),
        lambda folder: (folder / MANIFEST).write_text('{"version": "1.0"}'),
    ],
    ids=["product missing", "product damaged", "no manifest", "half a manifest", "no mapping", "too little in it"],
)
def test_spoilt(finished: Path, spoil: Callable[[Path], object]) -> None:
    spoil(finished)
    assert not complete_products(finished, MADE_OF)
