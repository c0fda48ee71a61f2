"""Drizzle the integrations of all exposures onto one image of the sky."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from ..cube import Cube
from ..options import Resample
from ._contributions import is_reached, sound
from ._root import root
from ._sky_flags import dominant_flags
from .apertures import at_apertures, correlation_factors
from .drizzle import DrizzleSums, add_exposure, drizzle_init
from .overlap import Overlap, overlap
from .shared_noise import SharedNoise


class Resampled(eqx.Module):
    """One image of the sky, its errors, and which integrations made it."""

    sci: Float[Array, "y x"]  # surface brightness, MJy/sr; the fill value where nothing was observed
    err: Float[Array, "y x"]  # standard deviation from all variances that are known, MJy/sr
    weight: Float[Array, "y x"]  # sum of the weights
    context: Int[Array, "word y x"]  # int32; bit k % 32 of word k // 32: the k-th valid integration contributes
    var_poisson: Float[Array, "y x"]  # (MJy/sr)^2; NaN where unknown
    var_rnoise: Float[Array, "y x"]
    var_flat: Float[Array, "y x"]
    var_references: Float[Array, "y x"] | None  # noise of the references that were subtracted; None: not given
    var_speckles: Float[Array, "y x"] | None  # residual speckles; None: not given
    dq: UInt32[Array, "y x"] | None  # flags that stand behind half of a pixel's weight or more; None: not asked for
    correlation: Float[Array, " radius"] | None  # see `correlation_factors`, for `APERTURE_RADII`; None: drizzled
    n_lost: Int[Array, ""]  # output pixels, over all exposures, for which the window was too small


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
    shared: SharedNoise | None = None,
) -> Resampled:
    r"""Combine all integrations of all exposures onto one grid.

    $$ D = \frac{1}{W} \sum_{ek} \sum_i s_{ei} w_{eki} d_{eki}, \quad W = \sum_{ei} s_{ei} W_{ei}, \quad
       W_{ei} = \sum_k w_{eki} $$
    $$ V = \frac{1}{W^2} \sum_{eki} (s_{ei} w_{eki})^2 V_{eki}, \quad
       V_\mathrm{ref} = \frac{1}{W^2} \sum_{ei} (s_{ei} W_{ei})^2 R_{ei}, \quad
       V_\mathrm{sp} = \frac{1}{W^2} \sum_e \Big( \sum_i s_{ei} W_{ei} \sqrt{S_{ei}} \Big)^2 $$

    Exposures $e$, integrations $k$, input pixels $i$ with share $s$. Weights $w$ are the inverse read-noise variance
    (`ivm`; 1 where the files have none) or the exposure time, and 0 for pixels flagged DO_NOT_USE or NON_SCIENCE, with
    a NaN in any array, or in invalid planes. Integrations of an exposure are independent in their own variances
    $V$, the same in the noise $R$ of the references (each pixel by itself) and in speckles $S$ (alike within a
    resolution element, hence the sum of roots); exposures are independent. ERR is the root of the sum of all. Where the
    cubes have no variances, the square of their `err`, less what is shared, stands for them.

    With `options.variances="drizzled"` the roots of $V$ are drizzled as the data are, for each integration, and combine
    with the squared weights $\omega$, the inverse of the drizzled read-noise variance, or the exposure time, or 1; the
    result is divided by the square of the pixel scale ratio $r$:

    $$ V = \frac{\sum_k v_k \omega_k^2}{(\sum_k \omega_k)^2 r^2}, \quad
       v_k = \Big( \frac{\sum_i s_i w_{ki} \sqrt{V_{ki}}}{\sum_i s_i w_{ki}} \Big)^2 $$

    A flag is carried where pixels that have it hold at least half of the output pixel's weight. Where only pixels of no
    weight fall, theirs decide, and DO_NOT_USE is set; where no pixel falls at all, DO_NOT_USE and NON_SCIENCE.
    Linear in the data; differentiable in data, variances, pixel maps, pixfrac and times.

    Args:
        cubes: integrations of every exposure [exp int y x], MJy/sr. The result has their dtype; areas have that of
            the pixel maps.
        pixel_maps: position (x, y) on the output of every input pixel, output pixels; NaN outside.
        output_shape: rows and columns of the output.
        exposure_times: weight of each exposure for `weight_type="exptime"`, s.
        background: level to subtract from each exposure, MJy/sr; 0 where it is subtracted already.
        pixel_scale_ratio: output over input pixel scale; drizzled variances are divided by its square.
        options: pixfrac, kernel, weight_type, variances, flags and fillval are used here, the others when the output
            grid is made.
        window: from `overlap_window`, the largest of all maps.
        visited: pixels to use at all, from `visited_pixels` where the numbers of jwst 3.0.0 are wanted; by default all.
        shared: noise that all integrations of an exposure have in common, (MJy/sr)^2.

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

    Source: Fruchter & Hook 2002, PASP 114, 144; the drizzled variances are those of calwebb_coron3 of jwst 3.0.0,
    resample step.
    """
    sums = drizzle_init(
        output_shape,
        cubes,
        n_planes=math.prod(cubes.valid.shape),
        shared=shared,
        variances=options.variances,
        flags=options.flags,
    )

    def add(sums: DrizzleSums, exposure: tuple) -> tuple[DrizzleSums, tuple]:
        cube, pixel_map, time, level, used, own = exposure
        table = overlap(
            pixel_map,
            output_shape=output_shape,
            pixfrac=options.pixfrac,
            kernel=options.kernel,
            window=window,
            used=used,
        )
        sums, noise = add_exposure(*(sums, table, cube, time, level), shared=own, weight_type=options.weight_type)
        if options.variances == "drizzled":
            return sums, (table.n_lost, None, None)
        return sums, (table.n_lost, at_apertures(table), noise)

    sums, (n_lost, tables, noise) = jax.lax.scan(
        add, sums, (cubes, pixel_maps, exposure_times, background, visited, shared)
    )
    return drizzle_finish(
        sums,
        pixel_scale_ratio=pixel_scale_ratio,
        fillval=options.fillval,
        n_lost=jnp.sum(n_lost),
        tables=tables,
        noise=noise,
    )


def drizzle_finish(
    sums: DrizzleSums,
    *,
    pixel_scale_ratio: float | Float[Array, ""] = 1.0,
    fillval: float | Float[Array, ""] = math.nan,
    n_lost: int | Int[Array, ""] = 0,
    tables: Overlap | None = None,
    noise: Float[Array, "exp y x"] | None = None,
) -> Resampled:
    """Turn the sums into an image, its variances, its errors and its flags.

    Args:
        sums: from `drizzle_add`.
        pixel_scale_ratio: output over input pixel scale, for drizzled variances.
        fillval: value of pixels that nothing reaches.
        n_lost: handed through to the result.
        tables: see `correlation_factors`; without it, or `noise`, `correlation` is None.
        noise: see `correlation_factors`.

    Returns:
        `Resampled`. A variance that the cubes lack is NaN, as is any variance where nothing was observed.

    Example:
        >>> cube = Cube(*(jnp.ones((1, 4, 4)),) * 4)
        >>> bool(jnp.isnan(drizzle_finish(drizzle_init((2, 3), cube, n_planes=1)).sci).all())
        True
    """
    reached = is_reached(sums.weight)
    weight = jnp.where(reached, sums.weight, 1)
    sci = jnp.where(reached, sums.data / weight, fillval)
    unknown = jnp.full_like(sci, jnp.nan)
    if sums.omega is None:
        known, norm, scale = reached, weight, jnp.ones((), sci.dtype)
    else:
        known = sums.omega > 0
        norm, scale = jnp.where(known, sums.omega, 1), jnp.asarray(pixel_scale_ratio, sci.dtype) ** 2
    means = [None if total is None else total / norm / norm / scale for total in sums.variances]
    shared = [
        None if total is None else total / weight / weight for total in (sums.shared.references, sums.shared.speckles)
    ]
    variances = [unknown if mean is None else jnp.where(known, mean, jnp.nan) for mean in means]
    own = sum((mean for mean in means if mean is not None), jnp.zeros_like(sci))
    together = sum((mean for mean in shared if mean is not None), own)
    some = any(mean is not None for mean in (*means, *shared))
    correlation = None
    if tables is not None and noise is not None:
        correlation = correlation_factors(tables, noise, sums.weight, own)
    return Resampled(
        sci=sci,
        err=jnp.where(known, root(sound(together, known)), jnp.nan) if some else unknown,
        weight=sums.weight,
        context=sums.context,
        var_poisson=variances[0],
        var_rnoise=variances[1],
        var_flat=variances[2],
        var_references=None if shared[0] is None else jnp.where(reached, shared[0], jnp.nan),
        var_speckles=None if shared[1] is None else jnp.where(reached, shared[1], jnp.nan),
        dq=None if sums.flags is None else dominant_flags(sums.flags, reached),
        correlation=correlation,
        n_lost=jnp.asarray(n_lost, jnp.int32),
    )
