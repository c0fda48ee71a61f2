"""Products: their ASDF trees and WCS; what data models make of them; the official ones."""

import copy
import dataclasses
import io
import pickle
import subprocess
import sys

import asdf
import numpy as np
import pytest
from astropy.io import fits

from coronjax.cube import Cube
from coronjax.errors import ExposureError
from coronjax.io import products
from coronjax.io.association import read_association
from coronjax.io.exposure import read_exposure
from coronjax.io.metadata import repointed, with_keywords
from coronjax.io.tree import AsdfContent, carried_over, with_shift, with_wcs
from coronjax.io.wcs import output_grid

from .files import ABSENT, SHARED
from .made import ASSOCIATION, PROVENANCE, RESAMPLING, everything, tree


def test_trees(science, references):
    """The WCS and what the tree said besides are carried over; what the FITS file says itself is not."""
    for product, exposure in zip(everything(science, references)[2:4], science, strict=True):
        found = tree(product)
        assert "data" not in found
        meta = found["meta"]
        assert (meta["author"], meta["instrument"]["name"]) == ("somebody", "NIRCAM")
        assert meta["filename"] == product.name
        assert meta["cal_step"]["outlier_detection"] == "COMPLETE"
        assert meta["asn"] == {"pool_name": "pool.csv", "table_name": "obs_asn.json"}
        assert found["coronjax"]["cjoption"] == PROVENANCE["CJOPTION"][0]
        y, x = np.indices((24, 20), dtype=float)
        np.testing.assert_array_equal(meta["wcs"](x, y), exposure.gwcs()(x, y))


def test_without_asdf_the_keywords_become_a_gwcs(science):
    bare = dataclasses.replace(science[0], asdf_bytes=None)
    meta = tree(products.psfsub(bare, ASSOCIATION, bare.cube, n_modes=1, provenance=PROVENANCE))["meta"]
    np.testing.assert_allclose(meta["wcs"](3.0, 4.0), science[0].gwcs()(3.0, 4.0), atol=1e-12)


def test_another_wcs_is_in_keywords_and_gwcs_alike(science):
    """Keywords moved by (0.4, -0.3) pixels and a WCS moved as far: both put the same pixel at the same place."""
    exposure = science[0]
    old = exposure.gwcs()
    sci = exposure.sci_header
    cards = {"CRPIX1": (sci["CRPIX1"] + 0.4, "x"), "CRPIX2": (np.float64(sci["CRPIX2"] - 0.3), "y"), "V2_REF": None}
    moved = with_keywords(repointed(exposure, (-0.4, 0.3)), cards)
    made = [products.psfsub(moved, ASSOCIATION, moved.cube, n_modes=1, provenance=PROVENANCE)]
    made += products.unresampled([moved], ASSOCIATION, [moved.cube], provenance=PROVENANCE)
    for product in made:
        x, y = np.array([3.0, 15.0]), np.array([4.0, 20.0])
        sky = tree(product)["meta"]["wcs"](x, y)
        np.testing.assert_allclose(sky, old(x - 0.4, y + 0.3), atol=1e-12)
        np.testing.assert_allclose(sky, product.wcs.all_pix2world(x, y, 0), atol=1e-9)
        assert tree(product)["meta"]["wcsinfo"]["crpix1"] == sci["CRPIX1"] + 0.4
        assert tree(product)["meta"]["author"] == "somebody"
        assert "V2_REF" not in product.header
    assert exposure.sci_header["CRPIX1"] == sci["CRPIX1"]
    for wcs in (moved.gwcs(), moved.wcs()):
        assert wcs(3.0, 4.0) == pytest.approx(old(2.6, 4.3), abs=1e-12)
    assert moved.gwcs().bounding_box.bounding_box() == old.bounding_box.bounding_box()


def test_what_was_read_of_a_tree_stays_as_it_was(science):
    """Whoever asks for the same content shares one tree: what is written of it is what a fresh one gives."""
    buffer = io.BytesIO()
    kept = {"meta": {"table": np.arange(3.0), "filename": "old", "wcsinfo": {"ra": 1}, "wcs": science[0].gwcs()}}
    asdf.AsdfFile({"data": np.ones(4), **kept}).write_to(buffer)
    content = AsdfContent(buffer.getvalue())
    before = copy.deepcopy(content.parsed)
    changes = {"meta.filename": "new", "meta.cal_step.klip": "COMPLETE", "meta.wcsinfo.ra": None, "no.such.place": None}
    for make in (
        lambda content: carried_over(content, changes, drop=("meta.author",)),
        lambda content: with_shift(content, (0.5, 0.25)),
        lambda content: with_wcs(content, {"steps": []}, changes),
    ):
        assert make(content) == make(bytes(content)) == make(content)
    assert content.parsed == before
    assert pickle.loads(pickle.dumps(content)) == content
    with asdf.open(io.BytesIO(carried_over(content, changes))) as file:
        np.testing.assert_array_equal(file["meta"]["table"], np.arange(3.0))
        assert (file["meta"]["filename"], file["meta"]["wcsinfo"], "data" in file) == ("new", {}, False)
        assert file["meta"]["cal_step"] == {"klip": "COMPLETE"}
        assert "no" not in file


def test_a_damaged_tree_is_named(science, references):
    damaged = dataclasses.replace(science[0], asdf_bytes=science[0].asdf_bytes.replace(b"meta:", b"meta: ]"))
    with pytest.raises(ExposureError, match="ASDF extension cannot be read") as caught:
        products.crfints(damaged, ASSOCIATION, damaged.cube, PROVENANCE)
    assert caught.value.file == damaged.path
    listed = dataclasses.replace(references[0], asdf_bytes=b"--- [1]\n...\n")
    with pytest.raises(ExposureError, match="its tree is no mapping"):
        products.psfstack([listed], ASSOCIATION, listed.cube, PROVENANCE)


def test_data_models(science, references, tmp_path):
    """Each product opens as the right model, with its WCS, without a warning."""
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels", reason="stdatamodels is not installed")
    shared = {"var_references": science[0].area, "var_speckles": science[0].area, "cards": {"BLUR": (0.5, "blur")}}
    psfsub = products.psfsub(science[1], ASSOCIATION, science[1].cube, n_modes=4, provenance=PROVENANCE, **shared)
    made = (*everything(science, references), psfsub)
    for product, path in zip(made, products.write(made, tmp_path / "out"), strict=True):
        with datamodels.open(path) as model:
            assert type(model).__name__ == ("ImageModel" if product.kind == "i2d" else "CubeModel")
            assert model.meta.filename == product.name
            model.validate()
            np.testing.assert_array_equal(model.data, product.sci)
            if product.kind in ("psfstack", "psfalign"):
                assert model.meta.wcs is None
            else:
                assert np.isfinite(model.meta.wcs(3.0, 4.0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["official/nircam", "aumic_f444w"])
def test_around_the_official_arrays(case, tmp_path):
    """Built around the arrays of the official products, ours differ from them in nothing."""
    folder = SHARED / case
    if not folder.is_dir():
        pytest.skip(ABSENT)
    association = read_association(next((folder / "input").glob("*_asn.json")))
    science = [read_exposure(path) for path in association.science]
    references = [read_exposure(path) for path in association.psf]
    golden = [folder / name for name in ("golden_f64", "golden") if (folder / name).is_dir()]
    for path in (path for place in golden for path in place.glob("*.fits")):
        product = rebuilt(path, association, science, references)
        if product is not None and not (tmp_path / product.name).exists():
            products.write([product], tmp_path)
    tool = SHARED.parent / "tools" / "compare_products.py"
    command = [sys.executable, "-W", "ignore", str(tool), str(tmp_path), *map(str, golden), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rebuilt(path, association, science, references):
    kind = path.stem.rsplit("_", 1)[1]
    with fits.open(path) as hdus:
        arrays = {
            h.name.lower(): np.asarray(h.data, h.data.dtype.newbyteorder("=")) for h in hdus if h.is_image and h.size
        }
    if kind == "i2d":
        options = {"resampling": RESAMPLING | {"pixfrac": 1.0}, "provenance": PROVENANCE}
        return products.i2d(science, association, output_grid(science), arrays, **options)
    cube = Cube(*(arrays[name] for name in ("sci", "err", "dq")), np.ones(len(arrays["sci"]), bool))
    if kind == "psfstack":
        return products.psfstack(references, association, cube, PROVENANCE)
    (exposure,) = (
        e for e in (*science, *references) if path.name.startswith(e.path.name.removesuffix("_calints.fits"))
    )
    if kind == "psfalign":
        given = {"sci": cube.sci, "err": cube.err, "alignment": {}, "mask_source": "m", "provenance": PROVENANCE}
        return products.psfalign(exposure, references, association, **given)
    cube = dataclasses.replace(cube, **{name: array for name, array in arrays.items() if name.startswith("var")})
    if kind == "psfsub":
        return products.psfsub(exposure, association, cube, n_modes=5, provenance=PROVENANCE)
    return products.crfints(exposure, association, cube, PROVENANCE)
