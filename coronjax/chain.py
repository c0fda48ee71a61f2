"""The compiled chain from cubes to sky image: pure functions of arrays, for `jax.jit`, `jax.vmap` and `jax.grad`."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .cube import Cube
from .errors import PrecisionError
from .ops import (
    Registration,
    flag_outliers,
    follow_lmdif,
    fourier_shift,
    klip,
    overlap_window,
    register_all,
    repair_bad_pixels,
    resample,
    stack_references,
)
from .options import Options
from .reduction import Aligned, Reduction, Subtraction


def reduce(
    science: Cube,
    references: Cube,
    psf_mask: Float[Array, "y x"],
    pixel_maps: Float[Array, "exp y x 2"],
    *,
    output_shape: tuple[int, int],
    exposure_times: Float[Array, " exp"] | None = None,
    background: Float[Array, " exp"] | None = None,
    pixel_scale_ratio: float | Float[Array, ""] | None = None,
    zero_non_science: bool | Bool[Array, ""] = False,
    visited: Bool[Array, "exp y x"] | None = None,
    window: int | None = None,
    options: Options | None = None,
) -> Reduction:
    r"""Reduce science and reference exposures to star-subtracted cubes and one image of the sky.

    outliers -> stack -> repair -> align -> klip -> resample, compiled as a whole. Science exposures are taken one
    after another, each with the references aligned to its own first integration.

    Args:
        science: exposures of the target `[exp int y x]`, MJy/sr; exposures with fewer integrations are padded with
            planes whose `valid` is false. The first integration of each must be valid.
        references: exposures of the reference stars `[exp int y x]`, MJy/sr, padded alike.
        psf_mask: weight of each pixel in the registration, 1 = use, 0 = ignore.
        pixel_maps: position (x, y) on the output image of every pixel of every science exposure, pixels; NaN:
            not on it.
        output_shape: rows and columns of the output image.
        exposure_times: weight of each science exposure for `resample.weight_type="exptime"`, s; 1 by default.
        background: level still to be subtracted from each science exposure before it is resampled, MJy/sr.
        pixel_scale_ratio: output over input pixel scale; that of the options by default.
        zero_non_science: set bad NON_SCIENCE pixels to 0 before the registration, as is done for MIRI.
        visited: pixels that may be resampled at all, from `coronjax.ops.visited_pixels` where the numbers of jwst 3.0.0
            are wanted; by default all.
        window: bound on the input pixels that overlap one output pixel, from `coronjax.ops.overlap_window`. By default
            it is measured; where `pixel_maps` is traced it cannot be, and is 3, enough for equal pixel scales:
            `i2d.n_lost` counts the output pixels for which it was not.
        options: every choice; `Options()` by default.

    Returns:
        `Reduction`. Float products have the dtype of the cubes.

    Raises:
        PrecisionError: `options.precision` is float64 and JAX's x64 mode is off.
        ValueError: shapes that do not fit together.

    Example:
        >>> key = jax.random.key(0)
        >>> sci = jax.random.normal(key, (1, 2, 16, 16))
        >>> cube = Cube(sci, jnp.ones_like(sci), jnp.zeros(sci.shape, jnp.uint32), jnp.ones((1, 2), bool))
        >>> refs = Cube(sci[:, ::-1] + 1, cube.err, cube.dq, cube.valid)
        >>> pixel_maps = jnp.stack(jnp.meshgrid(jnp.arange(16.0), jnp.arange(16.0)), -1)[None]
        >>> reduce(cube, refs, jnp.ones((16, 16)), pixel_maps, output_shape=(16, 16)).i2d.sci.shape
        (16, 16)

    Source: calwebb_coron3 of jwst 3.0.0; KLIP: Soummer, Pueyo & Larkin 2012, ApJL 755, L28; drizzle: Fruchter & Hook
    2002, PASP 114, 144.
    """
    options = Options() if options is None else options
    _check_precision(options)
    _check_shapes(science, references, psf_mask, pixel_maps)
    n_exposures = science.sci.shape[0]
    if exposure_times is None:
        exposure_times = jnp.ones(n_exposures)
    if background is None:
        background = jnp.zeros(n_exposures)
    if pixel_scale_ratio is None:
        if options.resample.pixel_scale is not None:
            raise ValueError("resample.pixel_scale is set: give reduce the pixel_scale_ratio that it makes")
        pixel_scale_ratio = options.resample.pixel_scale_ratio
    if window is None:
        window = _measured_window(pixel_maps, options)
    return _reduce(
        *(science, references, psf_mask, pixel_maps, exposure_times, background, pixel_scale_ratio, zero_non_science),
        visited,
        options,
        output_shape=output_shape,
        window=window,
    )


@partial(jax.jit, static_argnames=("output_shape", "window"))
def _reduce(
    science: Cube,
    references: Cube,
    psf_mask: Array,
    pixel_maps: Array,
    exposure_times: Array,
    background: Array,
    pixel_scale_ratio: Array,
    zero_non_science: Array,
    visited: Array | None,
    options: Options,
    *,
    output_shape: tuple[int, int],
    window: int,
) -> Reduction:
    """The chain itself, one step a line."""

    def flagged(exposure: Cube) -> Cube:
        return flag_outliers(exposure, options=options.outlier_detection).cube

    references, science = jax.vmap(flagged)(references), jax.vmap(flagged)(science)
    psfstack = stack_references(references)
    images, flags = (psfstack.sci, psfstack.err, science.sci), (psfstack.dq, psfstack.dq, science.dq)
    planes, errors, targets = _repair(images, flags, zero_non_science, options)
    repaired = eqx.tree_at(lambda cube: (cube.sci, cube.err), psfstack, (planes, errors))
    psfalign, registration, psfsub, subtraction = jax.lax.map(
        lambda own: _subtract_star(own[0], own[1], repaired, psf_mask, options), (science, targets)
    )
    i2d = None
    if not options.resample.skip:
        i2d = resample(
            *(psfsub, pixel_maps),
            output_shape=output_shape,
            exposure_times=exposure_times,
            background=background,
            pixel_scale_ratio=pixel_scale_ratio,
            visited=visited,
            options=options.resample,
            window=window,
        )
    return Reduction(references, science, psfstack, psfalign, registration, psfsub, subtraction, i2d)


def _repair(
    images: tuple[Array, ...], flags: tuple[Array, ...], zero_non_science: Array, options: Options
) -> list[Array]:
    """Stacks of images made finite: from here on nothing is NaN. All at once, so that it is compiled once."""

    def joined(stacks: tuple[Array, ...]) -> Array:
        return jnp.concatenate([stack.reshape(-1, *stack.shape[-2:]) for stack in stacks])

    def fill(plane: tuple[Array, Array]) -> Array:
        return repair_bad_pixels(*plane, zero_non_science=zero_non_science, options=options.align_refs).image

    # One plane after another: a box around every pixel of all of them at once would be many times the input.
    filled = jax.lax.map(fill, (joined(images), joined(flags)))
    ends = np.cumsum([np.prod(image.shape[:-2]) for image in images])[:-1].astype(int)
    return [part.reshape(image.shape) for part, image in zip(jnp.split(filled, ends), images, strict=True)]


def _subtract_star(
    science: Cube, target: Array, references: Cube, psf_mask: Array, options: Options
) -> tuple[Aligned, Registration, Cube, Subtraction]:
    """One science exposure: align the references to its first integration, model the star, subtract it.

    `target` are its images, repaired as the references are.
    """
    working = jnp.dtype(options.precision)
    planes = references.sci.astype(working)
    registration = _register(planes, target[0].astype(working), psf_mask.astype(working), references.valid, options)
    aligned, errors = planes, references.err.astype(working)
    if not options.align_refs.skip:
        move = jax.vmap(fourier_shift)
        aligned, errors = move(planes, -registration.shift), move(errors, -registration.shift)
    # The products' precision: what psfalign holds is what is subtracted.
    aligned, errors = aligned.astype(target.dtype), errors.astype(target.dtype)
    subtracted = klip(
        target.astype(working),
        aligned.astype(working),
        options=options.klip,
        valid_science=science.valid,
        valid_references=references.valid,
    )
    sci = target if options.klip.skip else subtracted.residual.astype(target.dtype)
    err = science.err
    if not options.klip.skip and subtracted.error is not None:
        err = jnp.broadcast_to(subtracted.error, target.shape).astype(target.dtype)
    psfsub = eqx.tree_at(lambda c: (c.sci, c.err), science, (sci, err))
    # One zone, the whole frame.
    found = Subtraction(subtracted.n_modes[0], subtracted.gap[0], subtracted.eigenvalues[0])
    return Aligned(aligned, errors), registration, psfsub, found


def _register(planes: Array, first: Array, psf_mask: Array, valid: Array, options: Options) -> Registration:
    """The registration of the first science integration to every reference plane, the way the options say."""
    if options.align_refs.skip:
        zero, none = jnp.zeros(len(planes), planes.dtype), jnp.zeros(len(planes), jnp.int32)
        return Registration(jnp.stack([zero, zero], -1), zero + 1, none != 0, none, zero, jnp.stack([zero] * 3, -1))
    if options.align_refs.minimiser == "lmdif":
        nearest = register_all(planes, first, psf_mask, valid, search=0)
        return follow_lmdif(nearest, planes, first, psf_mask, valid)
    return register_all(planes, first, psf_mask, valid)


def _check_precision(options: Options) -> None:
    if options.precision == "float64" and jnp.result_type(float) != jnp.float64:
        raise PrecisionError(
            "options.precision='float64' needs JAX's x64 mode: call jax.config.update('jax_enable_x64', True) at the"
            " start of the program, or choose Options(precision='float32')"
        )


def _check_shapes(science: Cube, references: Cube, psf_mask: Array, pixel_maps: Array) -> None:
    for name, cube in (("science", science), ("references", references)):
        if cube.sci.ndim != 4:
            raise ValueError(f"{name} has shape {cube.sci.shape}, not [exposure, integration, y, x]")
    frame = science.sci.shape[-2:]
    for name, cube in (("science", science), ("references", references)):
        own = {"err": cube.err, "dq": cube.dq, "var_poisson": cube.var_poisson, "var_rnoise": cube.var_rnoise}
        for part, array in (own | {"var_flat": cube.var_flat}).items():
            if array is not None and array.shape != cube.sci.shape:
                raise ValueError(f"{name}.{part} has shape {array.shape} where sci has {cube.sci.shape}")
        if cube.valid.shape != cube.sci.shape[:2]:
            raise ValueError(f"{name}.valid has shape {cube.valid.shape} where sci has {cube.sci.shape}")
    expected = {
        "references": (references.sci.shape[-2:], frame),
        "psf_mask": (psf_mask.shape, frame),
        "pixel_maps": (pixel_maps.shape, (science.sci.shape[0], *frame, 2)),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise ValueError(f"{name} has shape {found} where science has {science.sci.shape}: expected {wanted}")


def _measured_window(pixel_maps: Array, options: Options) -> int:
    if isinstance(pixel_maps, jax.core.Tracer):
        return 3
    pixfrac = options.resample.pixfrac
    largest = 1.0 if isinstance(pixfrac, jax.core.Tracer) else float(pixfrac)
    return max(overlap_window(pixel_map, largest) for pixel_map in np.asarray(pixel_maps))
