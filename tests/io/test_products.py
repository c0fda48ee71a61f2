"""Products: names, extensions, types, keywords, trees and WCS; what data models make of them; the official ones."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from coronjax.cube import Cube
from coronjax.errors import ExposureError
from coronjax.io import products
from coronjax.io.association import Association, read_association
from coronjax.io.exposure import read_exposure
from coronjax.io.product import plain_header, set_card
from coronjax.io.wcs import output_grid

from .files import ABSENT, SHARED
from .sky_files import pointing, sky_exposure, sky_hdus

PROVENANCE = products.provenance({"klip": {"truncate": 20}, "resample": {"fillval": float("nan"), "crpix": None}})
RESAMPLING = {"weight_type": "ivm", "pixfrac": 0.8, "kernel": "square", "fillval": float("nan")}
ASSOCIATION = Association(Path("/data/obs_asn.json"), "c1001", "pool.csv", "jw01386_t001", (), ())


@pytest.fixture
def science(tmp_path):
    """Two rolls."""
    first = {"EXPOSURE": "00001", "EFFEXPTM": 10.0, "EXPEND": 5.0, "FILTER": "F430M"}
    second = {"EXPOSURE": "00002", "EFFEXPTM": 20.0, "EXPEND": 7.0, "FILTER": "F430M"}
    return [
        sky_exposure(tmp_path / "jw1_00001_nrcalong_calints.fits", sky=pointing(roll=30.0), **first),
        sky_exposure(tmp_path / "jw1_00002_nrcalong_calints.fits", sky=pointing(roll=40.0), **second),
    ]


@pytest.fixture
def references(tmp_path):
    return [sky_exposure(tmp_path / f"jw2_0000{i}_nrcalong_calints.fits", planes=3, NINTS=3) for i in (1, 2)]


def written(product, tmp_path):
    return fits.open(products.write(product, tmp_path / "out"), checksum=True)


def tree(product):
    import asdf

    return asdf.open(io.BytesIO(product.asdf)).tree


def sky_arrays(shape):
    arrays = {name: np.full(shape, i, np.float32) for i, name in enumerate(("sci", "err", "wht", "var_poisson"))}
    return arrays | {"con": np.ones((1, *shape), np.int32), "var_rnoise": arrays["wht"], "var_flat": None}


def sky_image(science, **changes):
    grid = output_grid(science)
    arguments = {"resampling": RESAMPLING, "provenance": PROVENANCE} | changes
    return products.i2d(science, ASSOCIATION, grid, sky_arrays(grid.shape), **arguments)


def aligned(science, references, **changes):
    sci = np.arange(6 * 24 * 20, dtype=np.float32).reshape(6, 24, 20)
    columns = {"FILE": np.array(["a.fits"] * 6), "SHIFT_X": np.linspace(0, 1, 6), "CONVERGED": np.ones(6, bool)}
    arguments = {"sci": sci, "err": sci, "alignment": columns, "mask_source": "mask.fits", "provenance": PROVENANCE}
    return products.psfalign(science[0], references, ASSOCIATION, **(arguments | changes))


def everything(science, references):
    cube = references[0].cube
    stack = Cube(*(np.concatenate([a, a]) for a in (cube.sci, cube.err, cube.dq)), np.ones(6, bool))
    made = [products.crfints(e, ASSOCIATION, e.cube, PROVENANCE) for e in (*references, *science)]
    made += [products.psfstack(references, ASSOCIATION, stack, PROVENANCE), aligned(science, references)]
    made += [products.psfsub(e, ASSOCIATION, e.cube, n_modes=4, provenance=PROVENANCE) for e in science]
    made += products.unresampled(science[:1], ASSOCIATION, [science[0].cube], provenance=PROVENANCE)
    return [*made, sky_image(science)]


def test_names(science, references):
    assert [product.name for product in everything(science, references)] == [
        "jw2_00001_nrcalong_c1001_crfints.fits",
        "jw2_00002_nrcalong_c1001_crfints.fits",
        "jw1_00001_nrcalong_c1001_crfints.fits",
        "jw1_00002_nrcalong_c1001_crfints.fits",
        "jw01386_t001_psfstack.fits",
        "jw1_00001_nrcalong_c1001_psfalign.fits",
        "jw1_00001_nrcalong_c1001_psfsub.fits",
        "jw1_00002_nrcalong_c1001_psfsub.fits",
        "jw01386_t001_0_i2d.fits",
        "jw01386_t001_1_i2d.fits",
        "jw01386_t001_i2d.fits",
    ]


CUBE = ["PRIMARY", "SCI", "ERR", "DQ", "AREA", "INT_TIMES", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "ASDF"]


def test_cube_products(science, tmp_path):
    exposure = science[0]
    cube = dataclasses.replace(exposure.cube, sci=exposure.cube.sci + 1)
    product = products.psfsub(exposure, ASSOCIATION, cube, n_modes=4, provenance=PROVENANCE)
    with written(product, tmp_path) as hdus:
        assert [hdu.name for hdu in hdus] == CUBE
        for name, kind in (("SCI", ">f4"), ("ERR", ">f4"), ("DQ", "uint32"), ("AREA", ">f4"), ("VAR_FLAT", ">f4")):
            assert hdus[name].data.dtype == kind
        np.testing.assert_array_equal(hdus["SCI"].data, cube.sci)
        np.testing.assert_array_equal(hdus["DQ"].data, cube.dq)
        np.testing.assert_array_equal(hdus["INT_TIMES"].data["integration_number"], [1, 2])
        assert hdus["SCI"].header["BUNIT"] == hdus["ERR"].header["BUNIT"] == "MJy/sr"
        header = hdus[0].header
        wanted = {"FILENAME": product.name, "DATAMODL": "CubeModel", "ASNPOOL": "pool.csv", "ASNTABLE": "obs_asn.json"}
        wanted |= {
            "S_OUTLIR": "COMPLETE",
            "S_KLIP": "COMPLETE",
            "KLMODES": 4,
            "CAL_VER": "1.2.3",
            "TARGPROP": "HIP-65426",
        }
        assert {key: header[key] for key in wanted} == wanted
        assert "S_PSFALI" not in header
        assert json.loads(header["CJOPTION"]) == {
            "klip": {"truncate": 20},
            "resample": {"fillval": "nan", "crpix": None},
        }
        assert header["CORONJAX"]
        assert header["JAXVER"]


def test_input_is_left_alone(science):
    exposure = science[0]
    before = repr(exposure.primary), repr(exposure.sci_header), exposure.asdf_bytes, exposure.cube.sci.copy()
    products.crfints(exposure, ASSOCIATION, exposure.cube, PROVENANCE).hdulist()
    sky_image(science)
    assert before[:3] == (repr(exposure.primary), repr(exposure.sci_header), exposure.asdf_bytes)
    np.testing.assert_array_equal(exposure.cube.sci, before[3])


def test_what_else_the_file_held_is_kept(tmp_path):
    hdus = sky_hdus()
    hdus.insert(-1, fits.ImageHDU(np.arange(4.0).reshape(2, 2), name="IMSHIFTS"))
    for name in ("AREA", "INT_TIMES", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
        del hdus[name]
    hdus[0].header["HISTORY"] = "what was done before"
    hdus.writeto(tmp_path / "jw1_calints.fits")
    exposure = read_exposure(tmp_path / "jw1_calints.fits")
    product = products.crfints(exposure, ASSOCIATION, exposure.cube, PROVENANCE)
    with written(product, tmp_path) as out:
        assert [hdu.name for hdu in out] == ["PRIMARY", "SCI", "ERR", "DQ", "IMSHIFTS", "ASDF"]
        assert out["IMSHIFTS"].data.dtype == ">f8"
        assert out[0].header["HISTORY"][0] == "what was done before"


def test_stack(science, references, tmp_path):
    stack = references[0].cube
    with written(products.psfstack(references, ASSOCIATION, stack, PROVENANCE), tmp_path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "DQ", "ASDF"]
        assert hdus[0].header["NINTS"] == 3
        assert hdus[0].header["S_PSFSTK"] == "COMPLETE"
        assert hdus["SCI"].data.shape == (3, 24, 20)


def test_aligned(science, references, tmp_path):
    product = aligned(science, references)
    with written(product, tmp_path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "DQ", "ASDF", "ALIGNMENT"]
        assert not hdus["DQ"].data.any()
        assert hdus["DQ"].data.dtype == np.uint32
        assert hdus["ALIGNMENT"].data["CONVERGED"].all()
        np.testing.assert_array_equal(hdus["ALIGNMENT"].data["SHIFT_X"], np.linspace(0, 1, 6))
        assert hdus[0].header["R_PSFMAS"] == "mask.fits"
        assert hdus[0].header["S_PSFALI"] == "COMPLETE"
        assert "wcs" not in tree(product)["meta"]


def test_sky_image(science, tmp_path):
    product = sky_image(science)
    grid = output_grid(science)
    with written(product, tmp_path) as hdus:
        order = ["PRIMARY", "SCI", "ERR", "CON", "WHT", "VAR_POISSON", "VAR_RNOISE", "HDRTAB", "ASDF"]
        assert [hdu.name for hdu in hdus] == order
        assert hdus["CON"].data.dtype == ">i4"
        header, sci = hdus[0].header, hdus["SCI"].header
        wanted = {"EFFEXPTM": 30.0, "EXPEND": 7.0, "FILTER": "F430M", "EXPOSURE": "00001", "NDRIZ": 2, "PIXFRAC": 0.8}
        wanted |= {"RESWHT": "ivm", "PXSCLRT": 1.0, "S_RESAMP": "COMPLETE", "DATAMODL": "ImageModel"}
        assert {key: header[key] for key in wanted} == wanted
        for gone in ("A_ORDER", "A_2_0", "CD1_1", "V3I_YANG", "RA_REF", "ROLL_REF", "VPARITY"):
            assert gone not in sci
        assert list(sci).index("WCSAXES") < list(sci).index("CRPIX1")
        assert (sci["CTYPE1"], sci["RADESYS"], sci["BUNIT"]) == ("RA---TAN", "ICRS", "MJy/sr")
        assert sci["S_REGION"].startswith("POLYGON ICRS  ")
        assert hdus["HDRTAB"].data["EFFEXPTM"].tolist() == [10.0, 20.0]
        assert hdus["HDRTAB"].data["ASNTABLE"].tolist() == ["obs_asn.json"] * 2
    meta = tree(product)["meta"]
    assert meta["exposure"]["exposure_time"] == 30.0
    assert meta["resample"]["fillval"] == "NAN"
    assert meta["author"] == "somebody"
    assert "wcsinfo" not in meta
    x, y = np.array([0.0, 10.0]), np.array([3.0, 7.0])
    np.testing.assert_allclose(meta["wcs"](x, y), grid.pixel_to_sky(x, y), atol=1e-12)
    np.testing.assert_allclose(product.wcs.all_pix2world(x, y, 0), grid.pixel_to_sky(x, y), atol=1e-12)


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


def test_a_damaged_tree_is_named(science):
    damaged = dataclasses.replace(science[0], asdf_bytes=science[0].asdf_bytes.replace(b"meta:", b"meta: ]"))
    with pytest.raises(ExposureError, match="ASDF extension cannot be read") as caught:
        products.crfints(damaged, ASSOCIATION, damaged.cube, PROVENANCE)
    assert caught.value.file == damaged.path


def test_skipped_steps(science, references):
    stack = references[0].cube
    skipped = {"outliers_skipped": True, "provenance": PROVENANCE}
    assert products.psfstack(references, ASSOCIATION, stack, **skipped).primary["S_OUTLIR"] == "SKIPPED"
    assert aligned(science, references, skipped=True).primary["S_PSFALI"] == "SKIPPED"
    psfsub = products.psfsub(science[0], ASSOCIATION, science[0].cube, n_modes=0, skipped=True, **skipped)
    assert (psfsub.primary["S_KLIP"], psfsub.primary["S_OUTLIR"]) == ("SKIPPED", "SKIPPED")
    image = sky_image(science, klip_skipped=True, outliers_skipped=True)
    assert [image.primary[key] for key in ("S_KLIP", "S_OUTLIR", "S_RESAMP")] == ["SKIPPED", "SKIPPED", "COMPLETE"]


def test_a_step_of_an_earlier_stage_stays_done(science):
    header = science[0].primary.copy()
    header["S_OUTLIR"] = "COMPLETE"
    done = dataclasses.replace(science[0], primary=header)
    product = products.psfsub(done, ASSOCIATION, done.cube, n_modes=0, outliers_skipped=True, provenance=PROVENANCE)
    assert product.primary["S_OUTLIR"] == "COMPLETE"


def test_unresampled(science, tmp_path):
    made = products.unresampled(science, ASSOCIATION, [e.cube for e in science], provenance=PROVENANCE)
    assert [product.name for product in made] == [f"jw01386_t001_{k}_i2d.fits" for k in range(4)]
    np.testing.assert_array_equal(made[3].sci, science[1].cube.sci[1])
    with written(made[2], tmp_path) as hdus:
        assert [hdu.name for hdu in hdus] == [name for name in CUBE if name != "INT_TIMES"]
        assert hdus[0].header["S_RESAMP"] == "SKIPPED"
        assert hdus["SCI"].data.shape == (24, 20)


def test_in_a_notebook(science):
    product = sky_image(science)
    assert product.name in repr(product)
    assert f"SCI {'x'.join(map(str, product.sci.shape))}" in repr(product)
    assert f"<b>{product.name}</b>" in product._repr_html_()
    assert product.con.shape == (1, *product.sci.shape)
    assert {"sci", "con", "wht"} <= set(dir(product))
    assert product.keyword("BUNIT") == "MJy/sr"
    with pytest.raises(AttributeError, match="i2d product has no extension DQ"):
        _ = product.dq


def test_long_values_leave_no_room_for_comments():
    header = fits.Header()
    for length in (1, 8, 50, 60, 64, 67, 68, 69, 200):
        set_card(header, "KEY", "x" * length, "a comment of some length, which may not fit")
        assert str(header)  # a comment that is cut would be a warning, and so an error
        assert header["KEY"] == "x" * length
    assert plain_header(fits.Header({"NAXIS": 2, "NAXIS1": 3, "BZERO": 1, "CHECKSUM": "x", "KEY": 1})).cards[0][1] == 1


def test_data_models(science, references, tmp_path):
    """Each product opens as the right model, with its WCS, without a warning."""
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels", reason="stdatamodels is not installed")
    for product in everything(science, references):
        with datamodels.open(products.write(product, tmp_path / "out")) as model:
            assert type(model).__name__ == ("ImageModel" if product.kind == "i2d" else "CubeModel")
            assert model.meta.filename == product.name
            model.validate()
            np.testing.assert_array_equal(model.data, product.sci)
            if product.kind in ("psfstack", "psfalign"):
                assert model.meta.wcs is None
            else:
                assert np.isfinite(model.meta.wcs(3.0, 4.0)).all()


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
            products.write(product, tmp_path)
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
