"""Which pixel of which reference image helps or harms a detection: the gradient of a companion's S/N, as images.

Run it as `python examples/04_reference_gradient.py [picture.png]`.
"""

import sys
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import AsinhNorm

import coronjax
from coronjax import analysis, simulate

PICTURE = sys.argv[1] if len(sys.argv) > 1 else "reference_gradient.png"
FWHM = 3.0  # pixels, of a companion behind the Lyot stop

jax.config.update("jax_enable_x64", True)

companion = simulate.Companion(separation=1.3, position_angle=130.0, contrast=6e-5)
seen = simulate.observe(
    "nircam", seed=11, shape=(80, 80), n_references=4, nints_science=2, nints_references=2, companions=[companion]
)
options = coronjax.Options(klip=coronjax.Klip(truncate=5))

# The pixel maps turn north up and put the star on the middle of the image.
ny, nx = seen.truth.shape
star = jnp.array([nx // 2, ny // 2], float)
angle = np.deg2rad(companion.position_angle)
position = star + companion.separation / seen.truth.pixel_scale * jnp.array([-np.sin(angle), np.cos(angle)])


@jax.jit
@partial(jax.value_and_grad, has_aux=True)
def measure(pixels, science, references):
    """S/N of the companion on the sky image, as a function of every pixel of every reference image."""
    references = eqx.tree_at(lambda c: c.sci, references, pixels)
    reduction = coronjax.reduce(
        science, references, seen.psf_mask, seen.pixel_maps, output_shape=(ny, nx), options=options
    )
    return analysis.signal_to_noise(reduction.i2d.sci, position, star, fwhm=FWHM).snr, reduction


# In double precision, so that a small change below is not lost in rounding.
science, references = jax.tree.map(
    lambda array: jnp.asarray(array, float if array.dtype == np.float32 else None), (seen.science, seen.references)
)
pixels = references.sci
(snr, reduction), gradient = measure(pixels, science, references)
n_exposures, n_integrations = pixels.shape[:2]
print(f"S/N {float(snr):.2f} with {n_exposures * n_integrations} reference images")
assert bool(jnp.isfinite(gradient).all())

# The gradient foretells what a change of the reference images does: here, one part in ten thousand of their noise.
good = (reduction.references.dq & coronjax.DQ.DO_NOT_USE) == 0
change = 1e-4 * jnp.where(good, references.err, 0) * np.random.default_rng(0).normal(size=pixels.shape)
foretold = float(jnp.vdot(gradient, change))
(more, _), _ = measure(pixels + change, science, references)
(less, _), _ = measure(pixels - change, science, references)
happened = float(more - less) / 2
print(f"a small change of all pixels: S/N foretold to change by {foretold:+.3e}, changed by {happened:+.3e}")
assert abs(foretold - happened) < 1e-3 * abs(happened)

# Per noise of each pixel: by how many units of S/N one standard deviation there moves the detection.
influence = np.asarray(jnp.where(good, gradient * references.err, 0))
figure, axes = plt.subplots(2, n_exposures, figsize=(3.3 * n_exposures, 6.6), layout="constrained")
limit = float(np.abs(influence).max())
norm = AsinhNorm(linear_width=limit / 20, vmin=-limit, vmax=limit)
for k in range(n_exposures):
    axes[0, k].imshow(seen.references.sci[k, 0], origin="lower", cmap="inferno", norm=AsinhNorm(5, vmin=-5, vmax=200))
    axes[0, k].set_title(f"reference {k + 1}")
    drawn = axes[1, k].imshow(influence[k, 0], origin="lower", cmap="RdBu_r", norm=norm)
    axes[1, k].set_title("its influence")
    spot = seen.truth.science[0].companions[0]
    axes[1, k].plot(spot.x, spot.y, "o", markersize=16, markerfacecolor="none", markeredgecolor="black")
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
figure.colorbar(drawn, ax=axes[1], label="change of S/N per sigma of the pixel")
figure.savefig(PICTURE, dpi=110)
print(PICTURE)
