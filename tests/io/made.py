"""Products made of small exposures, and ways to look at them."""

import io
from pathlib import Path

import numpy as np
from astropy.io import fits

from coronjax.cube import Cube
from coronjax.io import products
from coronjax.io.association import Association
from coronjax.io.wcs import output_grid

PROVENANCE = products.provenance({"klip": {"truncate": 20}, "resample": {"fillval": float("nan"), "crpix": None}})
RESAMPLING = {"weight_type": "ivm", "pixfrac": 0.8, "kernel": "square", "fillval": float("nan")}
ASSOCIATION = Association(Path("/data/obs_asn.json"), "c1001", "pool.csv", "jw01386_t001", (), ())


def written(product, tmp_path):
    (path,) = products.write([product], tmp_path / "out")
    hdus = fits.open(path, checksum=True)
    hdus.verify("exception")  # the writer itself carries odd cards over
    return hdus


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
