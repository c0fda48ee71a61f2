"""`coronjax run` as it is without any choice made: the companion that was put in is on the image, at its place."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from coronjax import cli, simulate
from coronjax.inspection import inspect

COMPANION = simulate.Companion(separation=1.1, position_angle=250.0, contrast=3e-4)


def position(path: Path, truth: simulate.Truth) -> tuple[np.ndarray, np.ndarray]:
    """Of the brightest source on a sky image, and of the companion by the WCS of its header; 0-based pixels (x, y)."""
    with fits.open(path) as hdus:
        image, wcs = hdus["SCI"].data, WCS(hdus["SCI"].header)
    star = SkyCoord(*truth.science[0].sky, unit="deg")
    there = star.directional_offset_by(COMPANION.position_angle * u.deg, COMPANION.separation * u.arcsec)
    row, column = np.unravel_index(np.nanargmax(image), image.shape)
    y, x = np.mgrid[row - 2 : row + 3, column - 2 : column + 3]
    weight = image[y, x] / image[y, x].sum()
    return np.array([(weight * x).sum(), (weight * y).sum()]), np.array(wcs.world_to_pixel(there))


@pytest.mark.slow
def test_companion_is_where_it_was_put(tmp_path: Path) -> None:
    made = simulate.simulate(
        *("nircam", tmp_path / "input"),
        shape=(56, 60),
        n_references=3,
        nints_science=2,
        nints_references=2,
        companions=[COMPANION],
    )
    output = tmp_path / "output"
    assert cli.main(["run", str(made.asn), "--psfmask", str(made.psf_mask), "--output-dir", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == set(inspect(made.asn).products)
    (i2d,) = output.glob("*_i2d.fits")
    found, expected = position(i2d, made.truth)
    np.testing.assert_allclose(found, expected, atol=0.3)
