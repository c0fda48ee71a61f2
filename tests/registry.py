"""One row per op: adding an op here enrols it in the contract, jit, vmap, grad, NaN and padding tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from coronjax.cube import DQ, Cube
from coronjax.ops import (
    Gram,
    Overlap,
    SharedNoise,
    Weights,
    aperture_mask,
    at_apertures,
    blur,
    correlate_speckles,
    correlation_factors,
    crop_border,
    fit_pixels,
    flag_outliers,
    follow_lmdif,
    fourier_shift,
    gram,
    klip,
    klip_sweep,
    klip_weights,
    modes,
    nanmedian,
    overlap,
    pad_and_taper,
    pedestal,
    predict_star,
    references_variance,
    register,
    register_all,
    registration_weight,
    repair_bad_pixels,
    resample,
    residual_error,
    shift_frame,
    speckle_variance,
    spread,
    stack_references,
    subtract,
)
from coronjax.options import Klip, OutlierDetection, Resample

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """How the property tests meet an op."""

    name: str  # its name in coronjax.ops
    call: Callable[..., Any]  # call(*arguments, **numbers)
    sample: Callable[[np.random.Generator], Arguments]  # valid arguments, float64, small
    differentiable: tuple[int, ...]  # positions of the arguments that gradients are taken in
    output: Callable[[Any], Any] = lambda result: result  # the differentiable, floating part of the result
    numbers: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # traced keywords: two values, one compilation
    spoil: Callable[[Arguments], Arguments] | None = None  # put NaN and flags in: result and gradient stay finite
    pad: Callable[[Arguments], Arguments] | None = None  # add invalid planes (full of NaN) ...
    unpad: Callable[[Any], Any] = lambda result: result  # ... and cut them off the result again
    degenerate: Callable[[Arguments], Arguments] | None = None  # repeated or zero references, flat images
    tolerance: float = 1e-5  # relative, derivative against finite differences


def _cube(rng: np.random.Generator, *planes: int) -> Cube:
    shape = (*planes, 8, 9)
    sci = jnp.asarray(rng.normal(10.0, 1.0, shape))
    return Cube(
        sci, jnp.ones(shape), jnp.zeros(shape, jnp.uint32), jnp.ones(planes, bool), 0.1 * sci, 0.2 * sci, 0.3 * sci
    )


def _append_invalid(cube: Cube) -> Cube:
    """A cube with one more integration, all NaN and not valid."""
    wasted = jax.tree.map(lambda a: jnp.full_like(a[:1], jnp.nan if jnp.issubdtype(a.dtype, jnp.floating) else 0), cube)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cube, wasted)


def _spoil_pixel(cube: Cube) -> Cube:
    """A cube with one NaN pixel and one flagged pixel."""
    sci = cube.sci.at[..., 0, 3, 3].set(jnp.nan)
    dq = cube.dq.at[..., 0, 4, 5].set(DQ.DO_NOT_USE.value)
    return eqx.tree_at(lambda c: (c.sci, c.dq), cube, (sci, dq))


def _cut(array: jax.Array) -> jax.Array:
    return array[:-1]


def _frames(rng: np.random.Generator) -> Arguments:
    """Science frames and references of one star, and which of each are valid."""
    frames = 5 * rng.random((6, 7)) + jnp.asarray(rng.normal(size=(8, 6, 7)))
    return frames[:2], frames[2:], jnp.ones(2, bool), jnp.ones(6, bool)


def _pad_frames(arguments: Arguments) -> Arguments:
    def longer(array: jax.Array) -> jax.Array:
        return jnp.concatenate([array, jnp.full_like(array[:1], jnp.nan if array.dtype != bool else False)])

    return tuple(longer(array) for array in arguments)


def _degenerate_frames(arguments: Arguments) -> Arguments:
    """The first reference once more, and one of nothing."""
    return (arguments[0], arguments[1].at[1].set(arguments[1][0]).at[2].set(0.0), *arguments[2:])


def _gram_of(references: jax.Array, valid: jax.Array) -> Gram:
    return gram(references, references[:1], valid_references=valid)


def _weights_of(products: jax.Array, cross: jax.Array, eligible: jax.Array, truncate: int = 3) -> Weights:
    means = jnp.zeros(cross.shape[:2]), jnp.zeros((len(cross), cross.shape[2]))
    return klip_weights(Gram(products, cross, jnp.ones(len(cross)), *means), truncate=truncate, eligible=eligible)


def _products(rng: np.random.Generator) -> Arguments:
    science, references, *_ = _frames(rng)
    found = gram(references, science)
    return found.products, found.cross, jnp.ones((2, 6), bool).at[1, 2].set(False)


def _map(rng: np.random.Generator) -> jax.Array:
    """Where the pixels of an 8 x 9 image fall on an output: turned, bent and moved a little."""
    (y, x), (angle, bend) = jnp.mgrid[:8, :9].astype(float), 0.1 * rng.normal(size=2)
    turned = jnp.stack([x + angle * y + bend * x * y / 9, y - angle * x], -1)
    return turned + jnp.asarray(rng.uniform(0.1, 0.9, 2))


def _exposures(rng: np.random.Generator) -> Arguments:
    cube = _cube(rng, 2, 3)
    shared = SharedNoise(*jnp.asarray(rng.uniform(0.5, 2, (2, 2, 8, 9))))
    return cube.sci, jnp.stack([_map(rng), _map(rng)]), cube, shared


def _resample(sci: jax.Array, maps: jax.Array, cube: Cube, shared: SharedNoise, **numbers: Any) -> Any:
    cube, zero = eqx.tree_at(lambda c: c.sci, cube, sci), jnp.zeros(len(sci))
    ratio = numbers.pop("pixel_scale_ratio", 1.0)
    return resample(
        cube,
        maps,
        output_shape=(9, 10),
        exposure_times=zero,
        background=zero,
        pixel_scale_ratio=ratio,
        options=Resample(**numbers),
        window=5,
        shared=shared,
    )


def _apertures(rng: np.random.Generator) -> Arguments:
    """What a turned image gives to the pixels around one aperture; its noise; weight and variance of the output."""
    (y, x), angle = jnp.mgrid[:15, :15].astype(float), 0.1 * rng.normal()
    turned = jnp.stack([x + angle * y, y - angle * x], -1) - 0.5 + jnp.asarray(rng.uniform(0, 0.5, 2))
    table = at_apertures(overlap(turned, output_shape=(13, 14), window=4))
    arrays = (jnp.asarray(rng.uniform(0.5, 2, shape)) for shape in ((1, 15, 15), (13, 14), (13, 14)))
    return jax.tree.map(lambda a: a[None], table), *arrays


def _pad_integrations(arguments: Arguments) -> Arguments:
    """One more integration for each exposure, all NaN and not valid."""
    padded = jax.vmap(_append_invalid)(arguments[2])
    return padded.sci, arguments[1], padded, arguments[3]


def _stars(rng: np.random.Generator, planes: int = 0) -> Arguments:
    """Target (or a stack of them), moving image and weight of a registration."""
    y, x = np.mgrid[:24, :23] - 11.5
    star = 100.0 * np.exp(-(x**2 + y**2) / 9) + 10.0 * np.exp(-np.abs(x - y)) / (1 + np.hypot(x, y))
    shape = (planes or 1, *star.shape)
    targets = 1.5 * np.roll(star, (1, 0), (0, 1)) + 0.5 * rng.normal(size=shape)
    moving, weight = star + 0.5 * rng.normal(size=star.shape), 0.2 + 0.8 * rng.random(star.shape)
    return jnp.asarray(targets if planes else targets[0]), jnp.asarray(moving), jnp.asarray(weight)


def _star_planes(rng: np.random.Generator) -> Arguments:
    """Images of a star, and an exposure of another that is twice as bright."""
    y, x = np.mgrid[:8, :9] - 4.0
    star = 50.0 * np.exp(-(x**2 + y**2) / 8)
    planes, cube = jnp.asarray(star + rng.normal(size=(5, 8, 9))), _cube(rng, 2)
    return planes, cube.sci + 2 * star, jnp.ones(planes.shape, bool), jnp.ones(5, bool), cube


def _pad_star_planes(arguments: Arguments) -> Arguments:
    """One more image and one more integration, all NaN and not valid."""
    planes, sci, good, valid, cube = arguments
    longer = jnp.concatenate([planes, jnp.full_like(planes[:1], jnp.nan)])
    sci = jnp.concatenate([sci, jnp.full_like(sci[:1], jnp.nan)])
    return longer, sci, jnp.concatenate([good, good[:1]]), jnp.append(valid, False), _append_invalid(cube)


def _pad_planes(arguments: Arguments) -> Arguments:
    """Targets with one more plane, all NaN and not valid."""
    targets, moving, weight, valid = arguments
    targets = jnp.concatenate([targets, jnp.full_like(targets[:1], jnp.nan)])
    return targets, moving, weight, jnp.append(valid, False)


def _frame_to_shift(rng: np.random.Generator) -> Arguments:
    """Image, variance, shift and flags."""
    image, variance = jnp.asarray(rng.normal(size=(8, 9))), jnp.asarray(rng.uniform(1.0, 2.0, (8, 9)))
    return image, variance, jnp.asarray(rng.normal(size=2)), jnp.asarray(rng.integers(0, 8, (8, 9)), jnp.uint32)


def _fitted(result: Any) -> Any:
    """The parts of a registration that carry derivatives."""
    return result.shift, result.scale, result.residual


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
        lambda rng: (lambda cube: (cube.sci, cube))(_cube(rng, 4)),
        differentiable=(0,),
        output=lambda result: (jnp.nan_to_num(result.cube.sci), result.median),
        numbers={"snr": (5.0, 2.5), "maskpt": (0.7, 0.4)},
        spoil=lambda a: (lambda cube: (cube.sci, cube))(_spoil_pixel(a[1])),
        pad=lambda a: (lambda cube: (cube.sci, cube))(_append_invalid(a[1])),
        unpad=lambda result: (_cut(result[0]), result[1]),
    ),
    Row(
        "flag_outliers",  # of two integrations
        lambda sci, cube, prediction, **numbers: flag_outliers(
            eqx.tree_at(lambda c: c.sci, cube, sci), prediction=prediction, options=OutlierDetection(**numbers)
        ),
        lambda rng: (lambda cube: (cube.sci.at[0, 2, 6].add(90.0), cube, cube.sci[0]))(_cube(rng, 2)),
        differentiable=(0,),
        output=lambda result: (jnp.nan_to_num(result.cube.sci), jnp.nan_to_num(result.cube.err)),
        numbers={"snr": (5.0, 2.5), "mismatch": (0.1, 0.3)},
        spoil=lambda a: (lambda cube: (cube.sci, cube, a[2].at[1, 1].set(jnp.nan)))(_spoil_pixel(a[1])),
        pad=lambda a: (lambda cube: (jnp.concatenate([a[0], cube.sci[2:]]), cube, a[2]))(_append_invalid(a[1])),
        unpad=lambda result: tuple(_cut(part) for part in result),
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
        lambda rng: (lambda cube: (cube.sci, cube))(_cube(rng, 2, 3)),
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
    Row(
        "gram",
        lambda s, r, valid_s, valid_r: gram(r, s, valid_references=valid_r, valid_science=valid_s),
        _frames,
        differentiable=(0, 1),
        output=lambda g: (g.products, g.cross, g.reference_means, g.science_means),
        pad=_pad_frames,
        unpad=lambda g: (g[0][:, :-1, :-1], g[1][:, :-1, :-1], g[2][:, :-1], g[3][:, :-1]),
        degenerate=_degenerate_frames,
    ),
    Row(
        "klip_weights",
        _weights_of,
        _products,
        differentiable=(0, 1),
        output=lambda found: (found.weights, found.gap),
        numbers={"truncate": (3, 5)},
        pad=lambda a: (
            jnp.pad(a[0], ((0, 0), (0, 1), (0, 1))),
            jnp.pad(a[1], ((0, 0), (0, 1), (0, 0))),
            jnp.pad(a[2], ((0, 0), (0, 1)), constant_values=False),
        ),
        unpad=lambda output: (output[0][..., :-1], output[1]),
        degenerate=lambda a: (jnp.zeros_like(a[0]), *a[1:]),
    ),
    Row(
        "subtract",
        lambda s, r, w, valid_s, valid_r: subtract(s, r, w, valid_references=valid_r, valid_science=valid_s),
        lambda rng: (lambda s, r, vs, vr: (s, r, jnp.asarray(rng.normal(size=(1, 2, 6))), vs, vr))(*_frames(rng)),
        differentiable=(0, 1, 2),
        pad=lambda a: (lambda s, r, *v: (s, r, jnp.pad(a[2], ((0, 0), (0, 1), (0, 1))), *v))(
            *_pad_frames((*a[:2], *a[3:]))
        ),
        unpad=_cut,
    ),
    Row(
        "klip",
        lambda s, r, valid_s, valid_r, truncate=3: klip(
            s, r, options=Klip(truncate), valid_science=valid_s, valid_references=valid_r
        ),
        _frames,
        differentiable=(0, 1),
        output=lambda result: (result.residual, result.error),
        numbers={"truncate": (3, 50)},
        pad=_pad_frames,
        unpad=lambda output: (_cut(output[0]), output[1]),
        degenerate=_degenerate_frames,
    ),
    Row(
        "klip_sweep",
        lambda s, r, valid_s, valid_r, few=3: klip_sweep(
            s, r, jnp.array([0, few]), valid_science=valid_s, valid_references=valid_r
        ),
        _frames,
        differentiable=(0, 1),
        numbers={"few": (3, 50)},
        pad=_pad_frames,
        degenerate=_degenerate_frames,
    ),
    Row(
        "fit_pixels",
        lambda science, references, valid_s, valid_r, **numbers: fit_pixels(
            science, references, valid_science=valid_s, valid_references=valid_r, **numbers
        ),
        lambda rng: (*(jnp.asarray(rng.random((n, 6, 7)) < 0.9) for n in (2, 6)), jnp.ones(2, bool), jnp.ones(6, bool)),
        differentiable=(),
        numbers={"share": (0.95, 0.5)},
    ),
    Row(
        "references_variance",
        lambda weights, variances, valid_s, valid_r: references_variance(
            weights, variances, valid_science=valid_s, valid_references=valid_r
        ),
        lambda rng: (jnp.asarray(rng.normal(size=(2, 6))), _frames(rng)[1] ** 2, jnp.ones(2, bool), jnp.ones(6, bool)),
        differentiable=(0, 1),
        spoil=lambda a: (a[0], a[1].at[2, 3, 3].set(jnp.nan), *a[2:]),
        pad=lambda a: (jnp.pad(a[0], ((0, 1), (0, 1)), constant_values=jnp.nan), *_pad_frames(a[1:])),
        degenerate=lambda a: (jnp.zeros_like(a[0]), *a[1:]),
    ),
    Row(
        "correlate_speckles",
        correlate_speckles,
        lambda rng: (jnp.asarray(rng.normal(size=(9, 8))), jnp.asarray(2.5)),
        differentiable=(0, 1),
        degenerate=lambda a: (jnp.zeros_like(a[0]), a[1]),
    ),
    Row(
        "speckle_variance",
        jax.jit(lambda r, n, model, fwhm=2.5: speckle_variance(r, n, jnp.array([11.0, 12.5]), model=model, fwhm=fwhm)),
        lambda rng: (
            4 * jnp.asarray(rng.normal(size=(24, 23))),
            0.1 + jnp.asarray(rng.random((24, 23))),
            _stars(rng)[1],
        ),
        differentiable=(0, 1, 2),
        numbers={"fwhm": (2.5, 3.1)},
        spoil=lambda a: (a[0].at[3, 4].set(jnp.nan).at[12, 12].set(jnp.nan), *a[1:]),
        degenerate=lambda a: (jnp.zeros_like(a[0]), a[1], jnp.zeros_like(a[2])),
    ),
    Row(
        "residual_error",
        lambda r, valid, truncate=3: residual_error(r, _gram_of(r, valid), truncate=truncate, valid_references=valid),
        lambda rng: _frames(rng)[1::2],
        differentiable=(0,),
        numbers={"truncate": (3, 50)},
        pad=_pad_frames,
        degenerate=lambda a: _degenerate_frames((None, *a))[1:],
    ),
    Row(
        "modes",
        lambda r, valid, truncate=3: modes(r, _gram_of(r, valid), truncate=truncate, valid_references=valid),
        lambda rng: _frames(rng)[1::2],
        differentiable=(0,),
        numbers={"truncate": (3, 50)},
        pad=_pad_frames,
        unpad=lambda images: images[:, :-1],
        degenerate=lambda a: _degenerate_frames((None, *a))[1:],
    ),
    Row(
        "overlap",
        jax.jit(lambda positions, pixfrac=1.0: overlap(positions, output_shape=(9, 10), pixfrac=pixfrac, window=4)),
        lambda rng: (_map(rng),),
        differentiable=(0,),
        output=lambda table: table.share,
        numbers={"pixfrac": (1.0, 0.6)},
        spoil=lambda a: (a[0].at[2, 3].set(jnp.nan),),
        degenerate=lambda a: (jnp.zeros_like(a[0]),),
    ),
    Row(
        "spread",
        lambda table, values: spread(table, values),
        lambda rng: (overlap(_map(rng), output_shape=(9, 10), window=4), jnp.asarray(rng.normal(size=(2, 8, 9)))),
        differentiable=(1,),
    ),
    Row(
        "resample",
        jax.jit(_resample),  # its scans would be compiled anew at every call
        _exposures,
        differentiable=(0, 1),
        output=lambda r: [
            jnp.nan_to_num(a)
            for a in (r.sci, r.err, r.weight, r.var_poisson, r.var_rnoise, r.var_flat, r.var_references, r.var_speckles)
        ],
        numbers={"pixfrac": (1.0, 0.7), "fillval": (0.0, 5.0), "pixel_scale_ratio": (1.0, 2.0)},
        spoil=lambda a: (lambda cube: (cube.sci, a[1], cube, jax.tree.map(lambda v: v.at[0, 2, 2].set(jnp.nan), a[3])))(
            _spoil_pixel(a[2])
        ),
        pad=_pad_integrations,
        degenerate=lambda a: jax.tree.map(jnp.zeros_like, a),
    ),
    Row(
        "aperture_mask",
        lambda position, radius: aperture_mask((8, 9), position, radius),
        lambda rng: (jnp.asarray(rng.uniform(3, 5, 2)), jnp.asarray(rng.uniform(1, 3))),
        differentiable=(0, 1),
        degenerate=lambda a: (jnp.array([3.5, 4.0]), jnp.array(0.5)),
    ),
    Row(
        "at_apertures",
        lambda share: at_apertures(Overlap(jnp.zeros(share.shape, int), share, jnp.zeros((), int))),
        lambda rng: (jnp.asarray(rng.random((2, 14, 13))),),
        differentiable=(0,),
        output=lambda table: table.share,
    ),
    Row(
        "correlation_factors",
        correlation_factors,
        _apertures,
        differentiable=(1, 2, 3),
        degenerate=lambda a: (a[0], *(jnp.zeros_like(array) for array in a[1:])),
        output=jnp.nan_to_num,
    ),
    Row(
        "fourier_shift",
        fourier_shift,
        lambda rng: (jnp.asarray(rng.normal(size=(8, 9))), jnp.asarray(rng.normal(size=2))),
        differentiable=(0, 1),
        degenerate=lambda a: (jnp.zeros_like(a[0]), jnp.zeros_like(a[1])),
    ),
    Row(
        "pad_and_taper",
        lambda image: pad_and_taper(image, 3),
        lambda rng: (jnp.asarray(rng.normal(size=(8, 9))),),
        differentiable=(0,),
        degenerate=lambda a: (a[0][:1, :1],),
    ),
    Row(
        "crop_border",
        lambda padded: crop_border(padded, 3),
        lambda rng: (jnp.asarray(rng.normal(size=(8, 9))),),
        differentiable=(0,),
    ),
    Row(
        "blur",
        lambda image, sigma: blur(image, sigma, padding=4),
        lambda rng: (jnp.asarray(rng.normal(size=(8, 9))), jnp.asarray(rng.uniform(0.5, 1.0))),
        differentiable=(0, 1),
        degenerate=lambda a: (a[0], jnp.zeros(())),
    ),
    Row(
        "shift_frame",
        lambda image, variance, shift, dq, blur=0.5: shift_frame(image, variance, dq, shift, blur, padding=4),
        _frame_to_shift,
        differentiable=(0, 1, 2),
        output=lambda shifted: (shifted.image, shifted.variance),
        numbers={"blur": (0.0, 0.8)},
        degenerate=lambda a: (a[0], jnp.zeros_like(a[1]), jnp.zeros_like(a[2]), a[3]),
    ),
    Row(
        "pedestal",
        pedestal,
        lambda rng: (jnp.asarray(rng.normal(size=(9, 8))), jnp.asarray(rng.random((9, 8)) < 0.9)),
        differentiable=(0,),
        output=lambda found: found.level,
        spoil=lambda a: (a[0].at[3, 4].set(jnp.nan).at[0, 0].set(jnp.inf), a[1]),
        degenerate=lambda a: (jnp.full_like(a[0], jnp.nan), a[1]),
    ),
    Row(
        "register",
        register,
        _stars,
        differentiable=(0, 1, 2),
        output=_fitted,
        numbers={"max_iterations": (50, 20), "prefer_near": (0.1, 0.0)},
        degenerate=lambda a: (a[0], jnp.full_like(a[1], 3.0), a[2]),
    ),
    Row(
        "registration_weight",
        registration_weight,
        lambda rng: (lambda stars: (stars[2], stars[1], 0.25 + 0.1 * jnp.abs(stars[1])))(_stars(rng)),
        differentiable=(0,),
        numbers={"mismatch": (0.1, 0.0)},
        degenerate=lambda a: (a[0], jnp.zeros_like(a[1]), a[2]),
    ),
    Row(
        "register_all",
        register_all,
        lambda rng: (*_stars(rng, 3), jnp.ones(3, bool)),
        differentiable=(0, 1, 2),
        output=_fitted,
        numbers={"max_iterations": (50, 20), "prefer_near": (0.1, 0.0)},
        pad=_pad_planes,
        unpad=lambda output: tuple(_cut(part) for part in output),
        degenerate=lambda a: (jnp.zeros_like(a[0]), a[1], jnp.zeros_like(a[2]), a[3]),
    ),
    Row(
        "follow_lmdif",
        lambda *images: follow_lmdif(register_all(*images, search=0), *images),
        lambda rng: (*_stars(rng, 3), jnp.ones(3, bool)),
        differentiable=(0, 1, 2),
        output=lambda result: (result.shift, result.scale),
        pad=_pad_planes,
        unpad=lambda output: tuple(_cut(part) for part in output),
        degenerate=lambda a: (jnp.zeros_like(a[0]), a[1], jnp.zeros_like(a[2]), a[3]),
    ),
]
