"""A WCS evaluated from its description, against gwcs."""

import dataclasses
import io
import subprocess
import sys

import asdf
import gwcs
import numpy as np
import pytest
from astropy import coordinates
from astropy import units as u
from astropy.modeling import models
from gwcs import geometry

from coronjax.errors import ExposureError
from coronjax.io.exposure import read_exposure
from coronjax.io.metadata import repointed
from coronjax.io.tagged_wcs import tagged_wcs
from coronjax.io.tree import _dump, load_tree, with_shift, with_wcs
from coronjax.io.wcs import exposure_wcs

from .files import ABSENT, SHARED
from .sky_files import gwcs_of, sky_exposure

DETECTOR = gwcs.coordinate_frames.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
WORLD = gwcs.coordinate_frames.CelestialFrame(reference_frame=coordinates.ICRS(), name="world")
ROTATION = ([0.02, -0.05, 40.0, -51.0, 86.0], "zyxyz")


def polynomials(degree, rng):
    terms = {f"c{i}_{j}": rng.normal() / 100 ** (i + j) for i in range(degree + 1) for j in range(degree + 1 - i)}
    made = models.Polynomial2D(degree, **terms)
    made.x_domain = made.y_domain = (-500.0, 700.0)
    return made


def pipelines():
    """Transforms from pixels to degrees, which have every kind of part between them."""
    rng = np.random.default_rng(4)
    shift, degrees = models.Shift(-9.5) & models.Shift(4.5), models.Scale(2e-5) & models.Scale(-2e-5)
    both, swap = models.Mapping((0, 1, 0, 1)), models.Mapping((1, 0))
    warp = shift | both | polynomials(3, rng) & polynomials(5, rng)
    undone = warp.copy()
    undone.inverse = both | polynomials(2, rng) & polynomials(2, rng)
    affine = models.AffineTransformation2D([[2e-5, 1e-6], [-1e-6, 3e-5]], [0.1, -0.2])
    sky = models.Pix2Sky_TAN() | models.RotateNative2Celestial(86.8, -51.0, 180.0)
    plane = models.RotateCelestial2Native(86.0, -50.0, 170.0) | models.Sky2Pix_TAN()
    sphere = geometry.SphericalToCartesian(wrap_lon_at=180) | models.RotationSequence3D(*ROTATION)
    line = models.Polynomial1D(2, c0=0.1, c1=1.1, c2=1e-3) & models.Identity(1)
    return {
        "tangent plane": shift | affine | sky,
        "warp": warp | degrees | sky,
        "warp with inverse": undone | degrees | sky,
        "sphere": shift | degrees | sphere | geometry.CartesianToSpherical(wrap_lon_at=360),
        "to 180": shift | degrees | sphere | geometry.CartesianToSpherical(wrap_lon_at=180),
        "angles": shift | degrees | models.SphericalRotationSequence(*ROTATION),
        "there and back": degrees | sky | swap | swap | models.RotateCelestial2Native(10.0, 20.0, 170.0),
        "onto a plane": degrees | sky | plane,
        "beyond it": degrees | models.Shift(0.0) & models.Shift(-1e-4) | models.Sky2Pix_TAN(),
        "line": line | degrees | models.Identity(2) | sky,
    }


def content_of(transform, box=((-0.5, 19.5), (-0.5, 23.5)), **writing):
    wcs = gwcs.WCS([gwcs.Step(DETECTOR, transform), gwcs.Step(WORLD, None)])
    wcs.bounding_box = box
    buffer = io.BytesIO()
    asdf.AsdfFile({"meta": {"wcs": wcs}}).write_to(buffer, **writing)
    return buffer.getvalue()


@pytest.mark.parametrize("name", pipelines())
@pytest.mark.parametrize("storage", ["inline", "internal"])
def test_as_gwcs_has_it(name, storage):
    content = content_of(pipelines()[name], all_array_storage=storage)
    ours, theirs = tagged_wcs(content), gwcs_of(content)
    y, x = np.mgrid[-3:27:1.7, -3:23:1.9]
    for boxed in (True, False):
        expected = theirs(x, y, with_bounding_box=boxed)
        np.testing.assert_allclose(ours(x, y, with_bounding_box=boxed), expected, rtol=0, atol=1e-12)
    assert np.isnan(ours(20.0, 3.0)).all()
    assert ours.bounding_box == theirs.bounding_box.bounding_box()
    sky = theirs(x, y, with_bounding_box=False)
    try:
        expected = theirs.backward_transform(*sky)
    except NotImplementedError:
        with pytest.raises(NotImplementedError, match="no inverse"):
            ours.backward_transform(*sky)
    else:
        np.testing.assert_allclose(ours.backward_transform(*sky), expected, rtol=0, atol=1e-7)  # of pixels of 0.07"


def test_what_is_not_known_is_left_to_gwcs():
    known = pipelines()["tangent plane"]
    for transform in (
        (models.Shift(1.0) + models.Shift(2.0)) & models.Shift(1.0) | known,  # a sum
        models.Shift(1.0 * u.pix) & models.Shift(1.0 * u.pix) | models.Scale(1.0) & models.Scale(1.0),  # units
        models.Mapping((0, 1, 0)) | models.Chebyshev2D(1, 1, c0_0=1.0) & models.Const1D(2.0),
    ):
        assert tagged_wcs(content_of(transform, box=None)) is None
    assert tagged_wcs(content_of(pipelines()["warp"], all_array_compression="zlib")) is None
    assert tagged_wcs(b"garbage") is None
    assert tagged_wcs(with_wcs(None, {"steps": []}, {})) is None


def test_exposures_use_gwcs_where_they_must(tmp_path):
    """A sum of shifts: another description of what is known otherwise."""
    exposure = sky_exposure(tmp_path / "a.fits")
    sums = (models.Shift(1.0) + models.Shift(-1.0)) & models.Shift(0.0)
    known = pipelines()["warp"]
    odd, usual = (dataclasses.replace(exposure, asdf_bytes=content_of(t)) for t in (sums | known, known))
    assert isinstance(odd.wcs(), gwcs.WCS)
    twice = models.Mapping((0, 1)) | known
    assert not isinstance(dataclasses.replace(exposure, asdf_bytes=content_of(twice)).wcs(), gwcs.WCS)
    assert not isinstance(usual.wcs(), gwcs.WCS)


@pytest.mark.parametrize("name", pipelines())
@pytest.mark.parametrize("version", ["1.5.0", "1.6.0"])
def test_moved(name, version):
    """A shift before everything else, which gwcs reads from the new description."""
    content = content_of(pipelines()[name], version=version)
    old, moved = gwcs_of(content), with_shift(content, (0.25, -1.5))
    for wcs in (tagged_wcs(moved), gwcs_of(moved)):
        np.testing.assert_allclose(wcs(3.0, 6.0), old(3.25, 4.5), rtol=0, atol=1e-11)
        assert (np.isnan(wcs(19.5, 6.0)) == np.isnan(old(19.5, 4.5))).all()
        assert np.isnan(wcs(19.6, 6.0)).all()


def edited(content, change):
    tree, blocks, standard = load_tree(bytes(content))
    change(tree["meta"])
    return _dump(tree, blocks, standard)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["wcs"].pop("steps"),
        lambda meta: meta["wcs"].update(steps=[]),
        lambda meta: meta.update(other=meta.pop("wcs")),
        lambda meta: meta["wcs"]["steps"][0].pop("transform"),
        lambda meta: meta["wcs"]["steps"][0]["transform"].update(inputs=["a", "b"]),
    ],
    ids=["no steps", "empty steps", "elsewhere", "no transform", "a box of other inputs"],
)
def test_odd_descriptions(tmp_path, change):
    """Of what gwcs cannot make a WCS, that of the keywords takes the place, moved as it should be."""
    exposure = sky_exposure(tmp_path / "a.fits")
    odd = dataclasses.replace(exposure, asdf_bytes=edited(exposure.asdf_bytes, change))
    moved, (wcs, notes) = repointed(odd, (0.25, -1.5)), exposure_wcs(odd)
    assert len(notes) == 1
    np.testing.assert_allclose(moved.gwcs()(3.0, 6.0), wcs(3.25, 4.5), rtol=0, atol=1e-11)


@pytest.mark.parametrize("content", [b"garbage", b"#ASDF 1.0.0\nmeta: ["])
def test_damage_is_named(tmp_path, content):
    damaged = dataclasses.replace(sky_exposure(tmp_path / "a.fits"), asdf_bytes=content)
    for use in (damaged.wcs, lambda: repointed(damaged, (0.25, -1.5))):
        with pytest.raises(ExposureError, match="the ASDF extension cannot be read") as caught:
            use()
        assert (caught.value.file, caught.value.keyword) == (damaged.path, "EXTNAME")


@pytest.mark.skipif(not SHARED.is_dir(), reason=ABSENT)
@pytest.mark.parametrize("folder", ["official/nircam", "official/miri_4qpm", "official/miri_lyot", "aumic_f444w"])
def test_real_exposures(folder):
    for path in sorted((SHARED / folder / "input").glob("*_calints.fits")):
        exposure = read_exposure(path)
        ours, theirs = exposure.wcs(), exposure.gwcs()
        assert not isinstance(ours, gwcs.WCS)
        y, x = np.mgrid[-2 : exposure.shape[1] + 2 : 3.1, -2 : exposure.shape[2] + 2 : 3.3]
        np.testing.assert_allclose(ours(x, y), theirs(x, y), rtol=0, atol=1e-12)
        sky = theirs(x, y, with_bounding_box=False)
        np.testing.assert_allclose(ours.backward_transform(*sky), theirs.backward_transform(*sky), atol=1e-8)


def test_gwcs_is_not_imported(tmp_path):
    """To read an exposure and find its pixels takes neither gwcs nor what it imports."""
    sky_exposure(tmp_path / "a.fits")
    program = f"""
import sys
from coronjax.io.exposure import read_exposure
from coronjax.io.wcs import output_grid, pixel_map
exposure = read_exposure({str(tmp_path / "a.fits")!r})
pixel_map(exposure, output_grid([exposure]))
assert not {{"gwcs", "astropy.wcs", "astropy.modeling", "astropy.coordinates"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
