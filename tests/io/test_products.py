"""Products: names, extensions, types and keywords."""

import dataclasses
import json

import numpy as np
import pytest
from astropy.io import fits

from coronjax.io import products
from coronjax.io.exposure import read_exposure
from coronjax.io.product import plain_header, set_card
from coronjax.io.wcs import output_grid

from .made import ASSOCIATION, PROVENANCE, RESAMPLING, aligned, everything, sky_arrays, sky_image, tree, written
from .sky_files import sky_hdus


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
        for table in (hdus["INT_TIMES"].data, product.int_times):
            np.testing.assert_array_equal(table["integration_number"], [1, 2])
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


def test_a_table_may_be_changed_before_it_is_written(science, tmp_path):
    product = products.crfints(science[0], ASSOCIATION, science[0].cube, PROVENANCE)
    next(extension for extension in product.extensions if extension.name == "INT_TIMES").header["OBSERVER"] = "me"
    hdus = product.hdulist()
    hdus["INT_TIMES"].data["integration_number"] += 5
    hdus.writeto(tmp_path / "a.fits", checksum=True)
    with fits.open(tmp_path / "a.fits", checksum=True) as again:
        assert again["INT_TIMES"].data["integration_number"].tolist() == [6, 7]
        assert again["INT_TIMES"].header["OBSERVER"] == "me"
    assert product.int_times["integration_number"].tolist() == [1, 2]


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


STAR = {"STAR_RA": (86.8, "[deg] Star"), "STARERR": (np.float32("nan"), "[mas]"), "BLUR": (np.float64(0.5), "[pixel]")}


def test_shared_variances_stand_apart(science, tmp_path):
    exposure, shared = science[0], np.full((24, 20), 0.5, np.float32)
    product = products.psfsub(
        *(exposure, ASSOCIATION, exposure.cube),
        n_modes=4,
        provenance=PROVENANCE,
        var_references=shared,
        var_speckles=2 * shared,
        cards=STAR,
    )
    with written(product, tmp_path) as hdus:
        assert [hdu.name for hdu in hdus] == [*CUBE[:-1], "VAR_REFERENCES", "VAR_SPECKLES", "ASDF"]
        np.testing.assert_array_equal(hdus["VAR_SPECKLES"].data, 2 * shared)
        assert "All integrations of an exposure share it" in str(hdus["VAR_REFERENCES"].header["COMMENT"])
        assert hdus[0].header["STAR_RA"] == 86.8
        assert hdus[0].header["BLUR"] == 0.5
        assert hdus[0].header["STARERR"] is None  # FITS has no NaN among its keywords
    assert tree(product)["coronjax"]["blur"] == 0.5


def test_sky_image_with_flags_and_shared_variances(science, tmp_path):
    grid = output_grid(science)
    arrays = sky_arrays(grid.shape)
    arrays |= {"dq": np.ones(grid.shape, np.uint32), "var_references": arrays["wht"], "var_speckles": arrays["sci"]}
    given = {"resampling": RESAMPLING, "provenance": PROVENANCE, "cards": STAR | {"S_BKDSUB": ("COMPLETE", "sky")}}
    product = products.i2d(science, ASSOCIATION, grid, arrays, **given)
    with written(product, tmp_path) as hdus:
        order = ["PRIMARY", "SCI", "ERR", "DQ", "CON", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_REFERENCES"]
        assert [hdu.name for hdu in hdus] == [*order, "VAR_SPECKLES", "HDRTAB", "ASDF"]
        assert hdus["DQ"].data.dtype == np.uint32
        assert hdus[0].header["STAR_RA"] == 86.8
    assert tree(product)["meta"]["cal_step"]["bkg_subtract"] == "COMPLETE"


def test_flags_of_aligned_references(science, references):
    dq = np.arange(6 * 24 * 20, dtype=np.uint32).reshape(6, 24, 20)
    product = aligned(science, references, dq=dq, cards=STAR)
    np.testing.assert_array_equal(product.dq, dq)
    assert product.primary["STAR_RA"] == 86.8
    assert not aligned(science, references).dq.any()
