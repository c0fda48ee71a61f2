"""The compiled chain from cubes to sky image: pure functions of arrays, for `jax.jit`, `jax.vmap` and `jax.grad`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .alignment import Circumstances
from .cube import VARIANCES, Cube, of_one_dtype
from .errors import PrecisionError
from .frames import Frames, flag_all, prepare
from .ops import overlap_window, resample, stack_references
from .ops._devices import whole
from .options import Options
from .programs import kept_program
from .reduction import Reduction
from .star_removal import Registered, Removed, register_exposure, remove_star


class _Given(eqx.Module):
    """All that a reduction starts from."""

    science: Cube
    references: Cube
    known: Circumstances  # of each science exposure, where they differ: [exp ...]
    pixel_maps: Float[Array, "exp y x 2"]
    exposure_times: Float[Array, " exp"]
    background: Float[Array, " exp"]
    pixel_scale_ratio: Float[Array, ""]
    zero_non_science: Bool[Array, ""]
    visited: Bool[Array, "exp y x"] | None
    options: Options
    output_shape: tuple[int, int] = eqx.field(static=True)
    window: int = eqx.field(static=True)


class _Ready(eqx.Module):
    """Exposures with outliers flagged, and the same made ready to be registered and combined."""

    references: Cube
    science: Cube
    planes: Frames
    targets: Frames
    valid: Bool[Array, " plane"]


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
    background_variance: Float[Array, "exp y x"] | None = None,
    same_background: bool | Bool[Array, ""] = False,
    psf_mismatch: float | Float[Array, ""] = 0.1,
    star: Float[Array, "exp 2"] | None = None,
    resolution: float | Float[Array, ""] = 2.5,
    blur: float | Float[Array, ""] | None = None,
    options: Options | None = None,
) -> Reduction:
    r"""Reduce science and reference exposures to star-subtracted cubes and one image of the sky.

    outliers -> stack -> repair -> align -> klip -> resample, compiled as a whole, or step by step where programs are
    kept. Science exposures are taken one after another, each with the references aligned to its own first integration.
    Reference planes in which nothing was measured are left out.

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
        background_variance: noise of the backgrounds that were subtracted from each science exposure, (MJy/sr)^2.
        same_background: the references are less the same backgrounds, whose noise then cancels in part.
        psf_mismatch: share of the star's light by which PSFs differ, in the weights of the registration.
        star: (x, y) of the star in every science exposure, 0-based pixels: speckles are told from noise by their
            distance from it. By default the middle of the frame.
        resolution: full width at half maximum of a point source, pixels: over so much are speckles alike.
        blur: standard deviation of the Gaussian that takes undersampled frames to the Nyquist limit, pixels. None: the
            frames are sampled.
        options: every choice; `Options()` by default.

    Returns:
        `Reduction`. Float products have the dtype of the cubes.

    Raises:
        PrecisionError: `options.precision` is float64 and JAX's x64 mode is off.
        ValueError: shapes that do not fit together; arrays on a mesh whose axes are explicit.

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
    _check(science, references, psf_mask, pixel_maps, options)
    middle, n_exposures = (np.array(science.sci.shape[:-3:-1]) - 1) / 2, len(science.sci)
    given = _Given(
        science=science,
        references=references,
        known=Circumstances(
            psf_mask=psf_mask,
            psf_mismatch=_scalar(psf_mismatch),
            star=jnp.broadcast_to(middle, (n_exposures, 2)) if star is None else star,
            resolution=_scalar(resolution),
            blur=None if blur is None or not _is_blurred(options) else _scalar(blur),
            background_variance=background_variance,
            same_background=_scalar(same_background),
        ),
        pixel_maps=pixel_maps,
        exposure_times=jnp.ones(n_exposures) if exposure_times is None else exposure_times,
        background=jnp.zeros(n_exposures) if background is None else background,
        pixel_scale_ratio=_scalar(_scale_ratio(options) if pixel_scale_ratio is None else pixel_scale_ratio),
        zero_non_science=_scalar(zero_non_science),
        visited=None if options.resample.cut_pixels else visited,
        options=options,
        output_shape=(int(output_shape[0]), int(output_shape[1])),
        window=_measured_window(pixel_maps, options) if window is None else int(window),
    )
    return _reduce(given)


def _scalar(number: Any) -> Array:
    """As it is: JAX compiles a program to make an array of a Python number, and takes that itself just as well."""
    return cast("Array", number)


def _is_blurred(options: Options) -> bool:
    return options.align_refs.blur and not options.align_refs.skip


def _scale_ratio(options: Options) -> float:
    if options.resample.pixel_scale is not None:
        raise ValueError("resample.pixel_scale is set: give reduce the pixel_scale_ratio that it makes")
    return options.resample.pixel_scale_ratio


# The chain itself, one step after another.


def _make_ready(given: _Given) -> _Ready:
    """Outliers flagged, references stacked, bad pixels repaired."""
    references, science = flag_all(of_one_dtype(given.references), of_one_dtype(given.science), given.options)
    science = whole(science)  # references may lie divided over devices; what belongs to one exposure does not
    stack = stack_references(references)
    planes, targets = prepare((stack, science), zero_non_science=given.zero_non_science, options=given.options)
    # A plane in which nothing was measured is no reference.
    valid = stack.valid & jnp.any(planes.measured, axis=(1, 2))
    return _Ready(references, science, planes, whole(targets), valid)


def _register(given: _Given, ready: _Ready) -> Registered:
    """References registered to every exposure, one after another."""

    def one(cube: Cube, frames: Frames, known: Circumstances) -> Registered:
        return register_exposure(cube, frames, ready.planes, ready.valid, known, given.options)

    return _by_exposure(one, given, ready.science, ready.targets)


def _remove_star(given: _Given, ready: _Ready, registered: Registered) -> Removed:
    """References aligned to every exposure and the star subtracted, one after another."""

    def one(cube: Cube, frames: Frames, registered: Registered, known: Circumstances) -> Removed:
        cube, frames = registered.blurred or (cube, frames)
        return remove_star(cube, frames, ready.planes, ready.valid, registered.registration, known, given.options)

    removed = _by_exposure(one, given, ready.science, ready.targets, registered)
    # Float products have the dtype of the cubes.
    dtype, psfsub = given.science.sci.dtype, removed.psfsub
    shared = jax.tree.map(lambda variance: variance.astype(dtype), removed.shared)
    if registered.blurred is None:
        as_they_were = {name: getattr(ready.science, name) for name in VARIANCES}  # the same arrays, not copies
        psfsub = dataclasses.replace(psfsub, **as_they_were)
    return dataclasses.replace(removed, psfsub=psfsub, shared=shared)


def _by_exposure(one: Callable[..., Any], given: _Given, *stacks: Any) -> Any:
    """Call `one` with what belongs to each science exposure, and with its circumstances."""
    known = given.known

    def called(own: tuple) -> Any:
        *parts, star, variance = own
        return one(*parts, dataclasses.replace(known, star=star, background_variance=variance))

    return jax.lax.map(called, (*stacks, known.star, known.background_variance))


def _resample(given: _Given, ready: _Ready, registered: Registered, removed: Removed) -> Reduction:
    """All exposures on the sky, and everything that led there."""
    i2d = None
    if not given.options.resample.skip:
        i2d = resample(
            *(removed.psfsub, given.pixel_maps),
            output_shape=given.output_shape,
            exposure_times=given.exposure_times,
            background=given.background,
            pixel_scale_ratio=given.pixel_scale_ratio,
            visited=given.visited,
            shared=removed.shared,
            options=given.options.resample,
            window=given.window,
        )
    return Reduction(
        references=ready.references,
        science=ready.science,
        used_references=ready.valid,
        psfalign=removed.aligned,
        registration=registered.registration,
        psfsub=removed.psfsub,
        shared=removed.shared,
        subtraction=removed.subtraction,
        i2d=i2d,
    )


_reduce = kept_program(_make_ready, _register, _remove_star, _resample)


def _check(science: Cube, references: Cube, psf_mask: Array, pixel_maps: Array, options: Options) -> None:
    if options.precision == "float64" and jnp.result_type(float) != jnp.float64:
        raise PrecisionError(
            "options.precision='float64' needs JAX's x64 mode: call jax.config.update('jax_enable_x64', True) at the"
            " start of the program, or choose Options(precision='float32')"
        )
    _check_shapes(science, references, psf_mask, pixel_maps)
    _check_mesh(science, references)


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


def _check_mesh(*cubes: Cube) -> None:
    kinds = {kind for leaf in jax.tree.leaves(cubes) for kind in jax.typeof(leaf).sharding.mesh.axis_types}
    if jax.sharding.AxisType.Explicit in kinds:
        raise ValueError(
            "reduce takes arrays on a mesh with automatic axes, as jax.sharding.Mesh(devices, names) makes it"
        )


def _measured_window(pixel_maps: Array, options: Options) -> int:
    if isinstance(pixel_maps, jax.core.Tracer):
        return 3
    pixfrac = options.resample.pixfrac
    largest = 1.0 if isinstance(pixfrac, jax.core.Tracer) else float(pixfrac)
    return max(overlap_window(pixel_map, largest) for pixel_map in np.asarray(pixel_maps))
