"""From files to a sky image: `coronjax.run` on a simulated association.

Run it as `python examples/02_run.py [picture.png]`.
"""

import sys
import tempfile

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import AsinhNorm

import coronjax
from coronjax import analysis, simulate

PICTURE = sys.argv[1] if len(sys.argv) > 1 else "run.png"

with tempfile.TemporaryDirectory() as folder:
    # An association in the file format of JWST. With real data this is the file that MAST delivers.
    simulation = simulate.simulate("nircam", f"{folder}/input", seed=5, shape=(90, 90), n_references=5)
    result = coronjax.run(
        simulation.asn,
        output_dir=f"{folder}/output",
        psfmask=simulation.psf_mask,
        options=coronjax.Options(klip=coronjax.Klip(truncate=12)),
    )
    print(result)
    print(f"{len(result.paths)} files, the last {result.paths[-1].name}")

# Products are arrays with header and WCS.
sky = result.i2d
star = np.array(sky.wcs.world_to_pixel_values(*simulation.truth.science[0].sky))
farthest = max(float(np.abs(alignment.shift).max()) for alignment in result.alignment)
print(f"{sky.keyword('FILTER')}, {sky.sci.shape} pixels, references shifted by up to {farthest:.2f} px")
assert all(alignment.converged.all() for alignment in result.alignment)

figure = plt.figure(figsize=(6.4, 5.2), layout="constrained")
axis = figure.add_subplot(projection=sky.wcs)
drawn = axis.imshow(sky.sci, cmap="inferno", norm=AsinhNorm(linear_width=1, vmin=-5, vmax=np.nanmax(sky.sci)))
figure.colorbar(drawn, ax=axis, label="MJy/sr")
axis.plot(*star, marker="*", color="white", markersize=10)
for companion in simulation.truth.companions:
    x, y = analysis.pixel_offset(sky.wcs, star, companion.separation, companion.position_angle)
    axis.plot(x, y, "o", markersize=24, markerfacecolor="none", markeredgecolor="white")
axis.coords.grid(color="white", alpha=0.25, linestyle="solid")
axis.set(xlabel="right ascension", ylabel="declination", title="the star subtracted, two rolls on one sky")
figure.savefig(PICTURE, dpi=110)
print(PICTURE)
