"""Position and brightness of a companion, fitted by gradients through the reduction itself.

A companion is taken out of the raw integrations and everything is reduced again; the fit looks for the position and
brightness with which nothing is left. What alignment and subtraction do to the companion is thereby in the model. The
derivatives come from `jax.jacfwd` of `coronjax.reduce`, and Gauss-Newton needs four or five of them.

Run it as `python examples/03_fit_companion.py [picture.png]`.
"""

import sys

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

PICTURE = sys.argv[1] if len(sys.argv) > 1 else "fit_companion.png"
FWHM = 3.0  # pixels, of a companion behind the Lyot stop

jax.config.update("jax_enable_x64", True)

TRUE = simulate.Companion(separation=1.3, position_angle=130.0, contrast=8e-5)
seen = simulate.observe("nircam", seed=11, shape=(80, 80), n_references=4, nints_science=2, companions=[TRUE])
truth = seen.truth
shape, scale = truth.shape, truth.pixel_scale
star = jnp.array([shape[1] // 2, shape[0] // 2], float)  # where the pixel maps put it, north up
units = jnp.array([scale, scale, 1e-4])  # of the parameters: a pixel east, a pixel north, a contrast

# Outliers are looked for once: while the companion is fitted, their flags stay as they are.
flag = jax.jit(jax.vmap(lambda cube: coronjax.ops.flag_outliers(cube, options=coronjax.OutlierDetection()).cube))
science, references = flag(seen.science), flag(seen.references)
options = coronjax.Options(outlier_detection=coronjax.OutlierDetection(skip=True), klip=coronjax.Klip(truncate=8))


def on_sky(parameters):
    """Pixel of the sky image where the parameters put the companion."""
    return star + parameters[:2] * jnp.array([-1.0, 1.0])


def without(parameters, science, references):
    """The sky image after a companion is taken out of every raw integration."""
    east, north, contrast = parameters * units
    images = []
    for k in range(len(truth.science)):
        position = simulate.astrometry_of(truth, k).to_pixel(east, north)
        images.append(contrast * simulate.companion_image(truth, k, position))
    science = eqx.tree_at(lambda c: c.sci, science, science.sci - jnp.stack(images)[:, None])
    reduction = coronjax.reduce(
        science, references, seen.psf_mask, seen.pixel_maps, output_shape=shape, options=options
    )
    return reduction.i2d.sci


@jax.jit
def image_and_slope(parameters, science, references):
    """What is left of the sky, MJy/sr, and its derivatives in the parameters."""

    def left(parameters):
        image = without(parameters, science, references)
        return image, image

    slope, image = jax.jacfwd(left, has_aux=True)(parameters)
    return image, slope


# A companion of no brightness leaves the image as it is. The start is its brightest pixel well away from the star.
image, _ = image_and_slope(jnp.zeros(3), science, references)
y, x = jnp.indices(shape)
from_star = jnp.hypot(x - star[0], y - star[1])
brightest = int(jnp.nanargmax(jnp.where((from_star > 10) & (from_star < 30), image, -jnp.inf)))
guess = np.array([brightest % shape[1], brightest // shape[1]])
east, north = (guess - star) * np.array([-scale, scale])
bright = simulate.companion_image(truth, 0, simulate.astrometry_of(truth, 0).to_pixel(float(east), float(north)))
parameters = jnp.array([east, north, image[guess[1], guess[0]] / bright.max()]) / units

# Only the pixels around the companion decide.
region = np.asarray((np.hypot(x - guess[0], y - guess[1]) < 1.5 * FWHM) & jnp.isfinite(image))
for iteration in range(8):
    whole, slope = image_and_slope(parameters, science, references)
    energy = float(jnp.sum(whole[region] ** 2))
    step = jnp.linalg.lstsq(slope[region], -whole[region])[0]
    print(f"iteration {iteration}: energy {energy:9.4f}, next step {float(jnp.abs(step).max()):.1e}")
    if jnp.abs(step).max() < 1e-3:
        break
    parameters = parameters + jnp.clip(step, -0.5, 0.5)

angle = np.deg2rad(TRUE.position_angle)
expected = TRUE.separation / scale * jnp.array([np.sin(angle), np.cos(angle)])
detection = analysis.signal_to_noise(image, on_sky(parameters), star, fwhm=FWHM)
off = float(jnp.hypot(*(parameters[:2] - expected)))
brightness = float(parameters[2] * units[2] / TRUE.contrast)
print(f"S/N {float(detection.snr):.1f}: off by {off:.3f} px, brightness {brightness:.3f} of the true one")
assert off < 0.1
assert abs(brightness - 1) < 0.05

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
limit = float(jnp.nanmax(jnp.where(region, image, -jnp.inf)))
norm = AsinhNorm(linear_width=limit / 15, vmin=-limit, vmax=limit)
shown = (("reduced", image), ("fitted companion taken out", whole))
for axis, (title, picture) in zip(axes, (*shown, ("the difference", image - whole)), strict=True):
    drawn = axis.imshow(picture, origin="lower", cmap="RdBu_r", norm=norm)
    axis.plot(*on_sky(expected), "+", color="black", markersize=12)
    axis.set_title(title)
figure.colorbar(drawn, ax=axes, label="MJy/sr")
figure.savefig(PICTURE, dpi=110)
print(PICTURE)
