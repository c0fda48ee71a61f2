"""Rows of what is done to exposures: medians, outliers, stacking, repair."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from coronjax.ops import flag_outliers, nanmedian, predict_star, repair_bad_pixels, stack_references
from coronjax.options import OutlierDetection

from .row import Arguments, Row
from .samples import append_invalid, cut, sample_cube, spoil_pixel


def _star_planes(rng: np.random.Generator) -> Arguments:
    """Images of a star, and an exposure of another that is twice as bright."""
    y, x = np.mgrid[:8, :9] - 4.0
    star = 50.0 * np.exp(-(x**2 + y**2) / 8)
    planes, cube = jnp.asarray(star + rng.normal(size=(5, 8, 9))), sample_cube(rng, 2)
    return planes, cube.sci + 2 * star, jnp.ones(planes.shape, bool), jnp.ones(5, bool), cube


def _pad_star_planes(arguments: Arguments) -> Arguments:
    """One more image and one more integration, all NaN and not valid."""
    planes, sci, good, valid, cube = arguments
    longer = jnp.concatenate([planes, jnp.full_like(planes[:1], jnp.nan)])
    sci = jnp.concatenate([sci, jnp.full_like(sci[:1], jnp.nan)])
    return longer, sci, jnp.concatenate([good, good[:1]]), jnp.append(valid, False), append_invalid(cube)


ROWS: list[Row] = [
    Row(
        "nanmedian",
        nanmedian,
        lambda rng: (jnp.asarray(rng.normal(size=(5, 6, 7))), jnp.asarray(rng.random((5, 6, 7)) < 0.8)),
        differentiable=(0,),
        output=jnp.nan_to_num,
        spoil=lambda a: (a[0].at[0, 1, 1].set(jnp.nan), a[1]),
        pad=lambda a: (
            jnp.concatenate([a[0], jnp.full_like(a[0][:1], jnp.nan)]),
            jnp.concatenate([a[1], jnp.zeros_like(a[1][:1])]),
        ),
        degenerate=lambda a: (jnp.zeros_like(a[0]), jnp.zeros_like(a[1])),
    ),
    Row(
        "flag_outliers",
        lambda sci, cube, **numbers: flag_outliers(
            eqx.tree_at(lambda c: c.sci, cube, sci), options=OutlierDetection(**numbers)
        ),
        lambda rng: (lambda cube: (cube.sci, cube))(sample_cube(rng, 4)),
        differentiable=(0,),
        output=lambda result: (jnp.nan_to_num(result.cube.sci), result.median),
        numbers={"snr": (5.0, 2.5), "maskpt": (0.7, 0.4)},
        spoil=lambda a: (lambda cube: (cube.sci, cube))(spoil_pixel(a[1])),
        pad=lambda a: (lambda cube: (cube.sci, cube))(append_invalid(a[1])),
        unpad=lambda result: (cut(result[0]), result[1]),
    ),
    Row(
        "flag_outliers",  # of two integrations
        lambda sci, cube, prediction, **numbers: flag_outliers(
            eqx.tree_at(lambda c: c.sci, cube, sci), prediction=prediction, options=OutlierDetection(**numbers)
        ),
        lambda rng: (lambda cube: (cube.sci.at[0, 2, 6].add(90.0), cube, cube.sci[0]))(sample_cube(rng, 2)),
        differentiable=(0,),
        output=lambda result: (jnp.nan_to_num(result.cube.sci), jnp.nan_to_num(result.cube.err)),
        numbers={"snr": (5.0, 2.5), "mismatch": (0.1, 0.3)},
        spoil=lambda a: (lambda cube: (cube.sci, cube, a[2].at[1, 1].set(jnp.nan)))(spoil_pixel(a[1])),
        pad=lambda a: (lambda cube: (jnp.concatenate([a[0], cube.sci[2:]]), cube, a[2]))(append_invalid(a[1])),
        unpad=lambda result: tuple(cut(part) for part in result),
        degenerate=lambda a: (a[0], jax.tree.map(jnp.zeros_like, a[1]), jnp.zeros_like(a[2])),
    ),
    Row(
        "predict_star",
        lambda planes, sci, good, valid, cube: predict_star(
            planes, good, valid, eqx.tree_at(lambda c: c.sci, cube, sci)
        ),
        _star_planes,
        differentiable=(0, 1),
        output=jnp.nan_to_num,
        spoil=lambda a: (a[0].at[0, 2, 2].set(jnp.nan), a[1].at[0, 3, 3].set(jnp.nan), *a[2:]),
        pad=_pad_star_planes,
        degenerate=lambda a: (jnp.zeros_like(a[0]), *a[1:]),
    ),
    Row(
        "stack_references",
        lambda sci, cube: stack_references(eqx.tree_at(lambda c: c.sci, cube, sci)),
        lambda rng: (lambda cube: (cube.sci, cube))(sample_cube(rng, 2, 3)),
        differentiable=(0,),
        output=lambda stacked: stacked.sci,
    ),
    Row(
        "repair_bad_pixels",
        repair_bad_pixels,
        lambda rng: (jnp.asarray(rng.normal(size=(9, 8))), jnp.asarray(rng.random((9, 8)) < 0.2, jnp.uint32)),
        differentiable=(0,),
        output=lambda repaired: repaired.image,
        spoil=lambda a: (a[0].at[3, 4].set(jnp.nan).at[0, 0].set(jnp.inf), a[1]),
        degenerate=lambda a: (jnp.full_like(a[0], jnp.nan), a[1]),
    ),
]
