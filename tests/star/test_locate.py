"""The star found by a model of it behind the mask: other wavefront, other noise, a header that is pixels off."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from coronjax import Options, OptionsError, Star, run, simulate
from coronjax.io.exposure import Exposure, read_exposure
from coronjax.star import StarPosition, locate_stars

WORST_HEADER = 8.0  # pixels, from the star to where the file says it is
SHAPES = {"nircam": (80, 80), "nircam_bar": (80, 80), "miri_4qpm": None, "miri_lyot": None}
BEHIND = 2.0  # mas, of one exposure's star against the other's
# The Lyot spot hides all but the wings of the star: with four integrations noise leaves 2.5 mas along each axis.
BEHIND_SPOT = 8.0


def observed(mode: str, folder: Path, seed: int = 1, **settings: float) -> tuple[simulate.Simulation, list[Exposure]]:
    simulated = simulate.simulate(
        mode, folder, shape=SHAPES[mode], seed=seed, n_references=1, nints_science=4, nints_references=1, **settings
    )
    return simulated, [read_exposure(path) for path in simulated.members[:2]]


def errors(simulated: simulate.Simulation, found: tuple[StarPosition, ...]) -> np.ndarray:
    """From the true stars to those found, mas, [exp 2]."""
    true = np.array([exposure.star for exposure in simulated.truth.exposures[:2]])
    return 1000 * simulated.truth.pixel_scale * (np.array([(star.x, star.y) for star in found]) - true)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("mode", SHAPES)
def test_stars_of_two_rolls_agree(mode: str, seed: int, tmp_path: Path) -> None:
    """Wavefronts of 50 to 75 nm that the model starts without, masks and stars 10 to 30 mas from where planned."""
    simulated, exposures = observed(mode, tmp_path, seed, crpix_error=WORST_HEADER)
    found = locate_stars(exposures, options=Star())
    assert {star.source for star in found} == {"data"}
    error = errors(simulated, found)
    assert np.abs(error[1] - error[0]).max() <= (BEHIND_SPOT if mode == "miri_lyot" else BEHIND)
    stated = 1000 * simulated.truth.pixel_scale * np.array([star.error for star in found])
    assert (np.abs(error) < 3 * stated).all()


@pytest.mark.slow
def test_run_makes_the_wcs_agree(tmp_path: Path) -> None:
    """The keywords of all products name one star on the sky, and in every image the place where it is in truth."""
    simulated, _ = observed("nircam", tmp_path / "in", crpix_error=WORST_HEADER)
    result = run(simulated.asn, psfmask=simulated.psf_mask, options=Options())
    places = [product.primary for product in result.psfsub]
    sky = {(place["STAR_RA"], place["STAR_DEC"]) for place in places}
    assert len(sky) == 1
    found = np.array([(place["STAR_X"], place["STAR_Y"]) for place in places])
    true = np.array([exposure.star for exposure in simulated.truth.exposures[:2]])
    error = 1000 * simulated.truth.pixel_scale * (found - true)
    assert np.abs(error[1] - error[0]).max() <= BEHIND
    assert {place["STAR_SRC"] for place in places} == {"data"}


@pytest.mark.slow
def test_the_header_where_the_data_are_no_help(tmp_path: Path) -> None:
    """In images of noise there is no star to fit: the note says that the header was used."""
    simulated, _ = observed("nircam", tmp_path, crpix_error=1.0)
    rng = np.random.default_rng(1)
    for path in simulated.members[:2]:
        with fits.open(path, mode="update") as hdus:
            hdus["SCI"].data = rng.normal(size=hdus["SCI"].data.shape).astype(np.float32)
    found = locate_stars([read_exposure(path) for path in simulated.members[:2]], options=Star())
    assert {star.source for star in found} == {"header"}
    assert all("header's reference pixel" in star.note for star in found)
    offset = errors(simulated, found) / 1000 / simulated.truth.pixel_scale
    expected = [exposure.crpix_error for exposure in simulated.truth.exposures[:2]]
    np.testing.assert_allclose(offset, expected, atol=1e-3)


def test_given_positions_must_be_one_for_each_exposure(tmp_path: Path) -> None:
    _, exposures = observed("nircam", tmp_path)
    with pytest.raises(OptionsError, match=r"star\.positions has 1 places for 2 science exposures"):
        locate_stars(exposures, options=Star(positions=((1.0, 2.0),)))
