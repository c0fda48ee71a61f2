"""A pipeline composed by hand from `coronjax.ops`: what does aligning the reference images gain?

Run it as `python examples/01_compose_ops.py [picture.png]`.
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import AsinhNorm

from coronjax import DQ, AlignRefs, Klip, OutlierDetection, ops, simulate

PICTURE = sys.argv[1] if len(sys.argv) > 1 else "compose_ops.png"

jax.config.update("jax_enable_x64", True)  # registration and KLIP want double precision

# Two rolls of a target with a companion, and a reference star on a small grid of dithers.
seen = simulate.observe("nircam", seed=3, shape=(80, 80), n_science=1, n_references=5, companions=[(1.2, 60.0, 1e-4)])


# Every step is written for one exposure, one stack or one image; `jax.vmap` makes it one for many.
@jax.jit
def clean(exposures):
    """Flag outliers exposure by exposure, put all integrations into one stack, repair what is bad."""
    flagged = jax.vmap(lambda exposure: ops.flag_outliers(exposure, options=OutlierDetection()).cube)(exposures)
    stack = ops.stack_references(flagged)
    fill = jax.vmap(lambda image, dq: ops.repair_bad_pixels(image, dq, options=AlignRefs()).image)
    return fill(stack.sci, stack.dq).astype(float), stack.dq


@jax.jit
def align(references, target, weight):
    """Find how the target moves to match each reference, and move each reference back by as much."""
    found = jax.vmap(lambda plane: ops.register(plane, target, weight))(references)
    return jax.vmap(ops.fourier_shift)(references, -found.shift), found


@jax.jit
def subtract(science, references, truncate):
    """Subtract the star as the leading Karhunen-Loeve modes of the references have it."""
    return ops.klip(science, references, options=Klip(truncate=truncate)).residual


science, flags = clean(seen.science)
references, _ = clean(seen.references)
aligned, found = align(references, science[0], jnp.asarray(seen.psf_mask, float))
print(f"{int(found.converged.sum())} of {len(references)} registrations converged")
print(f"shifts of up to {float(jnp.abs(found.shift).max()):.2f} px,", end=" ")
print(f"known to {float(found.standard_error[:, :2].max()):.4f} px")

# The number of modes is traced: one compilation serves them all, here even as one batch.
counts = jnp.arange(1, len(references) + 1)
good = (flags[0] & DQ.DO_NOT_USE) == 0
x, y = np.indices(good.shape)[::-1]
star, companion = seen.truth.science[0].star, seen.truth.science[0].companions[0]
away = np.hypot(x - companion.x, y - companion.y) > 12
speckles = good & away & (np.hypot(x - star[0], y - star[1]) < 25)
scatter = {}
for name, planes in (("as they lie", references), ("aligned", aligned)):
    residuals = jax.vmap(lambda n, planes=planes: subtract(science, planes, n)[0])(counts)
    scatter[name] = np.asarray(jnp.std(residuals[:, speckles], axis=1))
    one, every = scatter[name][0], scatter[name][-1]
    print(f"references {name}: scatter {one:.2f} MJy/sr with one mode, {every:.2f} with {len(counts)}")
    scatter[name, "image"] = np.where(good, residuals[0], np.nan)
assert (scatter["aligned"][[0, -1]] < scatter["as they lie"][[0, -1]]).all()

figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
norm = AsinhNorm(linear_width=1.5, vmin=-8, vmax=30)
for axis, name in zip(axes, ("as they lie", "aligned"), strict=False):
    axis.imshow(scatter[name, "image"], origin="lower", cmap="inferno", norm=norm)
    axis.plot(companion.x, companion.y, "o", markersize=22, markerfacecolor="none", markeredgecolor="white")
    axis.set_title(f"one mode subtracted, references {name}")
    axes[2].plot(counts, scatter[name], marker=".", label=f"references {name}")
axes[2].set(xlabel="KL modes", ylabel="scatter of the speckles, MJy/sr", yscale="log")
axes[2].legend()
figure.savefig(PICTURE, dpi=110)
print(PICTURE)
