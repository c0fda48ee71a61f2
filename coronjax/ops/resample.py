"""Drizzle the integrations of all exposures onto one image of the sky."""

from __future__ import annotations

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..cube import DQ, Cube, match_nans_and_flags
from ..options import Resample
from .overlap import Overlap, overlap

_BAD = DQ.DO_NOT_USE.value | DQ.NON_SCIENCE.value  # every other flag is tolerated


class Resampled(eqx.Module):
    """One image of the sky, its errors, and which integrations made it."""

    sci: Float[Array, "y x"]  # surface brightness, MJy/sr; the fill value where nothing was observed
    err: Float[Array, "y x"]  # standard deviation from the detector's variances, MJy/sr
    weight: Float[Array, "y x"]  # sum of the weights
    context: Int[Array, "word y x"]  # int32; bit k % 32 of word k // 32: the k-th valid integration contributes
    var_poisson: Float[Array, "y x"]  # (MJy/sr)^2; NaN where unknown
    var_rnoise: Float[Array, "y x"]
    var_flat: Float[Array, "y x"]
    n_lost: Int[Array, ""]  # output pixels, over all exposures, for which the window was too small


class DrizzleSums(eqx.Module):
    """What adds up over exposures; begin with `drizzle_init`, end with `drizzle_finish`."""

    data: Float[Array, "y x"]  # sum of share * weight * value
    weight: Float[Array, "y x"]  # sum of share * weight
    context: Int[Array, "word y x"]
    variances: tuple[Float[Array, "y x"] | None, ...]  # sums of v * omega^2: Poisson, read noise, flat
    omega: Float[Array, "y x"]  # sum of omega, the weight of a plane in the variances
    n_planes: Int[Array, ""]  # valid integrations added so far


def resample(
    cubes: Cube,
    pixel_maps: Float[Array, "exp y x 2"],
    *,
    output_shape: tuple[int, int],
    exposure_times: Float[Array, " exp"],
    background: Float[Array, " exp"],
    pixel_scale_ratio: float | Float[Array, ""] = 1.0,
    options: Resample,
    window: int,
    visited: Bool[Array, "exp y x"] | None = None,
) -> Resampled:
    r"""Combine all integrations of all exposures onto one grid.

    $$ D = \frac{\sum_k \sum_i s_i w_{ki} d_{ki}}{W}, \quad W = \sum_k W_k = \sum_k \sum_i s_i w_{ki}, \quad
       V = \frac{\sum_k v_k \omega_k^2}{(\sum_k \omega_k)^2 r^2}, \quad
       v_k = \Big( \frac{\sum_i s_i w_{ki} \sqrt{V_{ki}}}{W_k} \Big)^2 $$

    Weights $w$ are the inverse read-noise variance (`ivm`; 1 where the files have none) or the exposure time, and 0
    for pixels flagged DO_NOT_USE or NON_SCIENCE, with a NaN in any array, or in invalid planes. $\omega_k$ is the
    inverse of the drizzled read-noise variance, or the exposure time, or 1. ERR is the root of the sum of the three
    variances. Linear in the data; differentiable in data, variances, pixel maps, pixfrac and times.

    Args:
        cubes: integrations of every exposure [exp int y x], MJy/sr. The result has their dtype; areas have that of
            the pixel maps.
        pixel_maps: position (x, y) on the output of every input pixel, output pixels; NaN outside.
        output_shape: rows and columns of the output.
        exposure_times: weight of each exposure for `weight_type="exptime"`, s.
        background: level to subtract from each exposure, MJy/sr; 0 where it is subtracted already.
        pixel_scale_ratio: output over input pixel scale; variances are divided by its square.
        options: pixfrac, kernel, weight_type and fillval are used here, the others when the output grid is made.
        window: from `overlap_window`, the largest of all maps.
        visited: pixels to use at all, from `visited_pixels` where the numbers of jwst 3.0.0 are wanted; by default all.

    Returns:
        `Resampled`. Its context has a word for every 32 planes, valid or not; surplus words are 0.

    Raises:
        ValueError: a kernel that is not known.

    Example:
        >>> cube = Cube(*(jnp.ones((1, 2, 4, 4)),) * 2, jnp.zeros((1, 2, 4, 4), jnp.uint32), jnp.ones((1, 2), bool))
        >>> y, x = jnp.mgrid[:4, :4]
        >>> maps = jnp.stack([x, y], -1)[None] + 0.5
        >>> zeros = jnp.zeros(1)
        >>> image = resample(cube, maps, output_shape=(4, 4), exposure_times=zeros, background=zeros,
        ...                  options=Resample(), window=2)
        >>> float(image.sci[2, 2]), float(image.weight[0, 0]), int(image.context[0, 2, 2])
        (1.0, 0.5, 3)

    Source: Fruchter & Hook 2002, PASP 114, 144; calwebb_coron3 of jwst 3.0.0, resample step.
    """
    n_planes = math.prod(cubes.valid.shape)
    sums = drizzle_init(output_shape, cubes, n_planes=n_planes)

    def add(sums: DrizzleSums, exposure: tuple) -> tuple[DrizzleSums, Int[Array, ""]]:
        cube, pixel_map, time, level, used = exposure
        table = overlap(
            pixel_map,
            output_shape=output_shape,
            pixfrac=options.pixfrac,
            kernel=options.kernel,
            window=window,
            used=used,
        )
        sums = drizzle_add(sums, table, cube, exposure_time=time, background=level, weight_type=options.weight_type)
        return sums, table.n_lost

    sums, n_lost = jax.lax.scan(add, sums, (cubes, pixel_maps, exposure_times, background, visited))
    return drizzle_finish(sums, pixel_scale_ratio=pixel_scale_ratio, fillval=options.fillval, n_lost=jnp.sum(n_lost))


def spread(table: Overlap, values: Float[Array, "*planes y_in x_in"]) -> Float[Array, "*planes y x"]:
    """Drop images onto the output grid: every output pixel gets its shares of the input pixels, added up.

    Args:
        table: the geometry, from `overlap`.
        values: finite images on the grid of the pixel map.

    Returns:
        Images on the output grid. A sum, not a mean: surface brightness needs the division by the spread weight.

    Example:
        >>> y, x = jnp.mgrid[:3, :3]
        >>> table = overlap(jnp.stack([x, y], -1) * 1.0, output_shape=(3, 3), window=1)
        >>> float(spread(table, jnp.ones((3, 3))).sum())
        9.0
    """
    leading = values.shape[:-2]
    channels = values.reshape(math.prod(leading), -1).T  # one index then fetches neighbours in memory

    def gather(total: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
        index, share = entry
        return total + share[..., None] * channels[index], None

    # A loop, which the compiler cannot merge with what is done to its result and so repeat for each use of it.
    total = jnp.zeros((*table.share.shape[1:], channels.shape[-1]), values.dtype)
    total, _ = jax.lax.scan(gather, total, (table.index, table.share.astype(values.dtype)), unroll=3)
    return jnp.moveaxis(total, -1, 0).reshape(*leading, *total.shape[:2])


def drizzle_init(output_shape: tuple[int, int], like: Cube, *, n_planes: int) -> DrizzleSums:
    """Begin an accumulation in which nothing has been observed.

    Args:
        output_shape: rows and columns of the output.
        like: a cube with the dtype, and the variances, of those to be added.
        n_planes: the most integrations that will be added; one word of the context holds 32.

    Returns:
        `DrizzleSums` full of zeros.

    Example:
        >>> drizzle_init((2, 3), Cube(*(jnp.ones((1, 4, 4)),) * 4), n_planes=40).context.shape
        (2, 2, 3)
    """
    zero = jnp.zeros(output_shape, like.sci.dtype)
    variances = tuple(None if v is None else zero for v in (like.var_poisson, like.var_rnoise, like.var_flat))
    context = jnp.zeros((-(-n_planes // 32), *output_shape), jnp.int32)
    return DrizzleSums(zero, zero, context, variances, zero, jnp.zeros((), jnp.int32))


def drizzle_add(
    sums: DrizzleSums,
    table: Overlap,
    cube: Cube,
    *,
    exposure_time: float | Float[Array, ""] = 1.0,
    background: float | Float[Array, ""] = 0.0,
    weight_type: Literal["ivm", "exptime"] = "ivm",
) -> DrizzleSums:
    """Add the integrations of one exposure.

    Args:
        sums: what was added before.
        table: the exposure's geometry, from `overlap`.
        cube: its integrations [int y x], MJy/sr.
        exposure_time: their weight for `exptime`, s.
        background: level to subtract, MJy/sr.
        weight_type: see `resample`.

    Returns:
        The sums with this exposure in them.

    Example:
        >>> cube = Cube(*(jnp.ones((1, 2, 2)),) * 2, jnp.zeros((1, 2, 2), jnp.uint32), jnp.ones(1, bool))
        >>> y, x = jnp.mgrid[:2, :2]
        >>> table = overlap(jnp.stack([x, y], -1) * 1.0, output_shape=(2, 2), window=1)
        >>> float(drizzle_add(drizzle_init((2, 2), cube, n_planes=1), table, cube).weight.sum())
        4.0
    """
    present = [i for i, total in enumerate(sums.variances) if total is not None]
    level = jnp.asarray(background, cube.sci.dtype)
    time = jnp.asarray(1.0 if weight_type == "ivm" else exposure_time, cube.sci.dtype)
    by_noise = weight_type == "ivm" and cube.var_rnoise is not None
    contribution = jax.checkpoint(lambda plane, level, time: _plane_sums(table, plane, level, time, by_noise))

    def add(carry: tuple, plane: Cube) -> tuple[tuple, None]:
        total, weighted, context, n = carry
        more, value, reached = contribution(plane, level, time)
        bit = jax.lax.bitcast_convert_type(jnp.uint32(1) << (n % 32).astype(jnp.uint32), jnp.int32)
        context = context.at[n // 32].set(context[n // 32] | jnp.where(reached, bit, 0))
        return (total + more, weighted + value, context, n + plane.valid.astype(n.dtype)), None

    before = jnp.stack([sums.weight, sums.omega] + [total for total in sums.variances if total is not None])
    start = (before, jnp.zeros_like(cube.sci[0]), sums.context, sums.n_planes)
    (total, weighted, context, n), _ = jax.lax.scan(add, start, cube)
    variances = dict(zip(present, total[2:], strict=True))
    # The planes share one geometry, so their weighted values are added before they are spread.
    data = sums.data + spread(table, weighted)
    return DrizzleSums(data, total[0], context, tuple(variances.get(i) for i in range(3)), total[1], n)


def _plane_sums(
    table: Overlap, plane: Cube, level: Float[Array, ""], time: Float[Array, ""], by_noise: bool
) -> tuple[Float[Array, "v+2 y x"], Float[Array, "y_in x_in"], Bool[Array, "y x"]]:
    """Return what one integration adds.

    First to weight, omega and each variance; then its weighted values, not yet spread; then the pixels it reaches.
    """
    plane = match_nans_and_flags(plane)
    usable = plane.valid & ((plane.dq & _BAD) == 0)
    if by_noise and plane.var_rnoise is not None:
        usable = usable & (plane.var_rnoise > 0) & jnp.isfinite(plane.var_rnoise)
        weight = jnp.where(usable, 1 / jnp.where(usable, plane.var_rnoise, 1), 0)
    else:
        weight = jnp.where(usable, time, 0)
    values = weight * (jnp.where(usable, plane.sci, 0) - level)
    errors = [_root(v, usable) for v in (plane.var_poisson, plane.var_rnoise, plane.var_flat) if v is not None]
    spreads = spread(table, jnp.stack([weight] + [weight * error for error in errors]))
    reached = _reached(spreads[0])
    variances = (spreads[1:] / jnp.where(reached, spreads[0], 1)) ** 2
    omega = jnp.where(reached, time, 0)
    if by_noise:
        noise = variances[0 if plane.var_poisson is None else 1]
        known = reached & (noise > 0)
        omega = jnp.where(known, 1 / jnp.where(known, noise, 1), 0)
    sums = jnp.concatenate([spreads[:1], omega[None], jnp.where(reached, variances, 0) * omega**2])
    return sums, values, reached


def _root(variance: Float[Array, "y x"], usable: Bool[Array, "y x"]) -> Float[Array, "y x"]:
    positive = usable & (variance > 0) & jnp.isfinite(variance)
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)


def _reached(weight: Float[Array, "y x"]) -> Bool[Array, "y x"]:
    """A weight counts when float32, in which weights are stored, can tell it from zero."""
    return weight.astype(jnp.float32) > 0


def drizzle_finish(
    sums: DrizzleSums,
    *,
    pixel_scale_ratio: float | Float[Array, ""] = 1.0,
    fillval: float | Float[Array, ""] = math.nan,
    n_lost: int | Int[Array, ""] = 0,
) -> Resampled:
    """Turn the sums into an image, its variances and its errors.

    Args:
        sums: from `drizzle_add`.
        pixel_scale_ratio: output over input pixel scale.
        fillval: value of pixels that nothing reaches.
        n_lost: handed through to the result.

    Returns:
        `Resampled`. A variance that the cubes lack is NaN, as is any variance where nothing was observed.

    Example:
        >>> cube = Cube(*(jnp.ones((1, 4, 4)),) * 4)
        >>> bool(jnp.isnan(drizzle_finish(drizzle_init((2, 3), cube, n_planes=1)).sci).all())
        True
    """
    reached = _reached(sums.weight)
    sci = jnp.where(reached, sums.data / jnp.where(reached, sums.weight, 1), fillval)
    known = sums.omega > 0
    omega = jnp.where(known, sums.omega, 1)
    scale = jnp.asarray(pixel_scale_ratio, sci.dtype) ** 2
    unknown = jnp.full_like(sci, jnp.nan)
    means = [None if total is None else total / omega / omega / scale for total in sums.variances]
    variances = [unknown if mean is None else jnp.where(known, mean, jnp.nan) for mean in means]
    together = sum((mean for mean in means if mean is not None), jnp.zeros_like(sci))
    err = jnp.where(together > 0, jnp.sqrt(jnp.where(together > 0, together, 1)), 0)
    err = jnp.where(known, err, jnp.nan) if any(mean is not None for mean in means) else unknown
    return Resampled(
        sci=sci,
        err=err,
        weight=sums.weight,
        context=sums.context,
        var_poisson=variances[0],
        var_rnoise=variances[1],
        var_flat=variances[2],
        n_lost=jnp.asarray(n_lost, jnp.int32),
    )
