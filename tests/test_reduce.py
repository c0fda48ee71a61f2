"""The chain as a whole: padding, order, scaling, zero-flux injection, skips, one compilation, derivatives."""

import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import coronjax
from coronjax import DQ, Cube, Options, reduce
from coronjax.chain import _reduce
from coronjax.options import AlignRefs, Background, Klip, OutlierDetection, Resample

from .properties import programs_made

SHAPE = (24, 26)
N_SCIENCE, N_REFERENCES = (2, 3), (3, 2)


def _star(x: float, y: float, width: float = 3.0) -> np.ndarray:
    """A smooth halo with a lumpy structure that moves with it."""
    row, column = np.indices(SHAPE)
    u, v = column - SHAPE[1] / 2 - x, row - SHAPE[0] / 2 - y
    lumps = sum(np.cos(0.5 * u * np.cos(a) + 0.6 * v * np.sin(a) + 5 * a) for a in (0.3, 1.1, 2.0, 2.9))
    return (3 + lumps) * np.exp(-(u**2 + v**2) / (2 * width**2 * 3))


def _cube(rng: np.random.Generator, planes: tuple[int, int], flux: float, spread: float) -> Cube:
    # Integrations of one exposure see one pointing: otherwise every pixel of the star is an outlier.
    positions = rng.normal(0, spread, (planes[0], 2))
    star = np.array([[_star(*position)] * planes[1] for position in positions])
    sci = jnp.asarray(flux * star + rng.normal(0, 0.02, star.shape))
    err, variance = jnp.full(sci.shape, 0.02), jnp.full(sci.shape, 4e-4 / 3)
    return Cube(sci, err, jnp.zeros(sci.shape, jnp.uint32), jnp.ones(planes, bool), variance, variance, variance)


def _arguments(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    row, column = np.indices(SHAPE, float)
    maps = np.stack([np.stack([column + dx, row - dx], -1) for dx in (0.3, 0.7)])
    return {
        "science": _cube(rng, N_SCIENCE, 1.0, 0.02),
        "references": _cube(rng, N_REFERENCES, 1.7, 0.3),
        "psf_mask": jnp.ones(SHAPE),
        "pixel_maps": maps,
        "output_shape": (SHAPE[0], SHAPE[1] + 1),
        "window": 3,
    }


OPTIONS = Options(klip=Klip(truncate=3))


@pytest.fixture(scope="module")
def reduction():
    return reduce(**_arguments(), options=OPTIONS)


def _with_science(arguments: dict, sci) -> dict:
    return arguments | {"science": eqx.tree_at(lambda c: c.sci, arguments["science"], sci)}


def test_star_is_subtracted(reduction):
    assert np.std(reduction.psfsub.sci) < 0.1 * np.std(_arguments()["science"].sci)
    assert bool(reduction.registration.converged.all())


@pytest.mark.parametrize("compiled", [lambda function: function, pytest.param(jax.jit, marks=pytest.mark.slow)])
def test_zero_flux_injection_gives_the_reduction_back(reduction, compiled):
    given = _arguments()

    def injected(flux):
        return reduce(**_with_science(given, given["science"].sci + flux * _star(2.0, 2.0)), options=OPTIONS)

    jax.tree.map(np.testing.assert_array_equal, compiled(injected)(0.0), reduction)


def test_a_companion_comes_through():
    arguments = _arguments()
    companion = np.exp(-((np.indices(SHAPE)[1] - 20) ** 2 + (np.indices(SHAPE)[0] - 6) ** 2) / 2)
    with_it = reduce(**_with_science(arguments, arguments["science"].sci + companion), options=OPTIONS)
    without = reduce(**arguments, options=OPTIONS)
    gained = with_it.psfsub.sci - without.psfsub.sci
    assert 0.5 < float(jnp.max(gained[:, :, 5:8, 19:22])) <= 1.0
    peak = np.unravel_index(np.nanargmax(with_it.i2d.sci), with_it.i2d.sci.shape)
    assert np.hypot(peak[0] - 5.5, peak[1] - 20.5) < 1.5


def _reduced_with_invalid(fill) -> coronjax.Reduction:
    """One science integration and three references not valid; what they hold is made by `fill`."""

    def spoilt(cube: Cube, planes: tuple) -> Cube:
        valid = cube.valid.at[planes].set(False)
        cube = jax.tree.map(lambda a: jnp.where(valid.reshape(*valid.shape, *(1,) * (a.ndim - 2)), a, fill(a)), cube)
        return eqx.tree_at(lambda c: c.valid, cube, valid)

    arguments = _arguments()
    arguments["science"] = spoilt(arguments["science"], (1, 2))
    arguments["references"] = spoilt(arguments["references"], ((0, 2, 2), (1, 0, 1)))
    return reduce(**arguments, options=OPTIONS)


def test_what_invalid_planes_hold_does_not_matter(reduction):
    def nothing(array):
        return jnp.full_like(array, jnp.nan if jnp.issubdtype(array.dtype, jnp.floating) else 0)

    def another_star(array):
        return 1000 * array[..., ::-1] if jnp.issubdtype(array.dtype, jnp.floating) else jnp.full_like(array, 4)

    empty, bright = (_reduced_with_invalid(fill) for fill in (nothing, another_star))
    for one in (empty, bright):
        # Every integration weighs the same.
        assert float(jnp.median(one.i2d.weight / reduction.i2d.weight)) == pytest.approx(5 / 6)
        assert one.used_references.tolist() == [True, False, True, True, False, False]
        assert not one.subtraction.weights[..., ~one.used_references].any()
    counted = np.asarray(empty.psfsub.valid)
    for name in ("i2d", "registration", "subtraction", "shared"):
        jax.tree.map(np.testing.assert_array_equal, getattr(bright, name), getattr(empty, name))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[counted], b[counted]), bright.psfsub, empty.psfsub)


@pytest.mark.slow
def test_invalid_planes_change_nothing(reduction):
    arguments = _arguments()

    def padded(cube: Cube, *, exposures: bool) -> Cube:
        def add(array, axis):
            fill = jnp.nan if jnp.issubdtype(array.dtype, jnp.floating) else 0
            return jnp.concatenate([array, jnp.full_like(jax.lax.slice_in_dim(array, 0, 1, axis=axis), fill)], axis)

        cube = jax.tree.map(lambda a: add(a, 1), cube)
        return jax.tree.map(lambda a: add(a, 0), cube) if exposures else cube

    arguments["science"] = padded(arguments["science"], exposures=False)
    arguments["references"] = padded(arguments["references"], exposures=True)
    again = reduce(**arguments, options=OPTIONS)
    for name in ("sci", "err", "weight", "var_poisson"):
        np.testing.assert_allclose(getattr(again.i2d, name), getattr(reduction.i2d, name), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(again.i2d.context[:1], reduction.i2d.context)
    np.testing.assert_allclose(again.psfsub.sci[:, :3], reduction.psfsub.sci, atol=1e-9)


def test_order_of_references_does_not_matter(reduction):
    arguments = _arguments()
    arguments["references"] = jax.tree.map(lambda a: a[::-1], arguments["references"])
    np.testing.assert_allclose(reduce(**arguments, options=OPTIONS).i2d.sci, reduction.i2d.sci, atol=1e-8)


def test_flux_of_references_does_not_matter(reduction):
    arguments = _arguments()
    references = arguments["references"]
    scaled = eqx.tree_at(lambda c: (c.sci, c.err), references, (references.sci * 1e3, references.err * 1e3))
    np.testing.assert_allclose(
        reduce(**arguments | {"references": scaled}, options=OPTIONS).i2d.sci, reduction.i2d.sci, atol=1e-7
    )


def test_nan_pixels_stay_where_they_are(reduction):
    arguments = _arguments()
    spoiled = reduce(**_with_science(arguments, arguments["science"].sci.at[0, 1, 9, 9].set(jnp.nan)), options=OPTIONS)
    bad = (np.asarray(spoiled.psfsub.dq) & DQ.DO_NOT_USE.value) != 0
    np.testing.assert_array_equal(np.isnan(spoiled.psfsub.sci), bad)
    assert bad[0, 1, 9, 9]
    assert bad.sum() == 1 + np.isnan(reduction.psfsub.sci).sum()
    np.testing.assert_allclose(spoiled.i2d.sci[20:, 20:], reduction.i2d.sci[20:, 20:], atol=0.05)
    assert np.isfinite(spoiled.i2d.sci[5:-5, 5:-5]).all()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["outlier_detection", "align_refs", "klip", "resample"])
def test_every_step_can_be_skipped(step):
    options = dataclasses.replace(OPTIONS, **{step: dataclasses.replace(getattr(OPTIONS, step), skip=True)})
    arguments = _arguments()
    result = reduce(**arguments, options=options)
    bad = (np.asarray(result.psfsub.dq) & DQ.DO_NOT_USE.value) != 0
    np.testing.assert_array_equal(np.isnan(result.psfsub.sci), bad)
    if step == "klip":
        # The star stays; a pedestal of every frame goes.
        change = np.asarray(arguments["science"].sci - result.psfsub.sci)
        assert np.ptp(change[~bad].reshape(-1)) < 0.3
        assert np.nanmax(np.ptp(np.where(bad, np.nan, change), axis=(2, 3))) < 1e-9
    assert (result.i2d is None) == (step == "resample")


def test_numbers_compile_once():
    arguments = _arguments()
    reduce(**arguments, options=OPTIONS)
    numbers = (
        Options(klip=Klip(truncate=2)),
        Options(outlier_detection=OutlierDetection(snr=3.0, maskpt=0.5)),
        Options(resample=Resample(pixfrac=0.8, fillval=0.0)),
    )
    calls = [partial(reduce, **_arguments(seed=1), options=options) for options in numbers]
    assert programs_made(_reduce.jitted, *calls) == 0
    # A choice is another program: here one of little else than copies.
    skipped = {"outlier_detection": OutlierDetection(skip=True), "background": Background(skip=True)}
    skipped |= {"align_refs": AlignRefs(skip=True), "klip": Klip(skip=True), "resample": Resample(skip=True)}
    assert programs_made(_reduce.jitted, partial(reduce, **arguments, options=Options(**skipped))) == 1


@pytest.mark.slow
def test_derivatives_match_finite_differences():
    arguments = _arguments()
    rng = np.random.default_rng(3)
    weight = jnp.asarray(rng.normal(size=(SHAPE[0], SHAPE[1] + 1)))
    step = 1e-6

    def figure(sci, references, maps):
        changed = arguments | {"pixel_maps": maps}
        changed["references"] = eqx.tree_at(lambda c: c.sci, arguments["references"], references)
        image = reduce(**_with_science(changed, sci), options=OPTIONS).i2d.sci
        return jnp.sum(jnp.where(jnp.isfinite(image), image, 0.0) * weight)

    point = (arguments["science"].sci, arguments["references"].sci, jnp.asarray(arguments["pixel_maps"]))
    gradients = jax.jit(jax.grad(figure, argnums=(0, 1, 2)))(*point)
    moves = [jnp.asarray(rng.normal(size=p.shape)) for p in point]
    for position, (gradient, move) in enumerate(zip(gradients, moves, strict=True)):
        ends = [[p + sign * step * move if i == position else p for i, p in enumerate(point)] for sign in (1, -1)]
        high, low = (float(figure(*end)) for end in ends)
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(float(jnp.vdot(gradient, move)), (high - low) / (2 * step), rtol=2e-5)
    _, forward = jax.jit(lambda p, t: jax.jvp(figure, p, t))(point, tuple(moves))
    expected = sum(float(jnp.vdot(g, m)) for g, m in zip(gradients, moves, strict=True))
    np.testing.assert_allclose(float(forward), expected, rtol=1e-8)


@pytest.mark.slow
def test_vmap_over_observations():
    items = [_arguments(seed) for seed in (0, 1)]
    fixed = {name: items[0][name] for name in ("output_shape", "window", "psf_mask", "pixel_maps")}

    def image(science, references):
        return reduce(science, references, **fixed, options=OPTIONS).i2d.sci

    stacked = [jax.tree.map(lambda *a: jnp.stack(a), *(i[name] for i in items)) for name in ("science", "references")]
    together = jax.vmap(image)(*stacked)
    for one, item in zip(together, items, strict=True):
        np.testing.assert_allclose(one, image(item["science"], item["references"]), atol=1e-8)


def test_arrays_closed_over_stay_inputs_of_the_chain():
    """The compiler would work out steps on constants, for minutes; those not differentiated have no tangent either."""
    arguments = _arguments()
    arrays = jax.tree.leaves((arguments["science"], arguments["references"]))
    level = jnp.zeros(len(arguments["science"].sci))

    def sky(level):
        return reduce(**arguments | {"background": level}, options=OPTIONS).i2d.sci

    plain = jax.jit(sky).lower(level).as_text().count("optimization_barrier")
    assert plain >= len(arrays)
    assert jax.jit(lambda a: jax.jvp(sky, (a,), (a,))).lower(level).as_text().count("optimization_barrier") == plain + 1


def test_float64_without_x64_is_one_clear_error():
    with jax.enable_x64(False), pytest.raises(coronjax.PrecisionError, match="jax_enable_x64"):
        reduce(**_arguments(), options=OPTIONS)


@pytest.mark.parametrize(
    ("options", "stack", "name"),
    [(Options.official(), stack, name) for stack in ("science", "references") for name in ("sci", "err")]
    + [(OPTIONS, "science", "sci")],
)
def test_one_array_may_be_wider_than_the_others(options, stack, name):
    """As where a companion of float64 is taken from exposures of float32: products have the dtype of the images."""
    arguments = _arguments()
    static = {name: arguments.pop(name) for name in ("output_shape", "window")}
    arguments = jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, arguments)
    wider = getattr(arguments[stack], name).astype(jnp.float64)
    arguments[stack] = dataclasses.replace(arguments[stack], **{name: wider})
    made = jax.eval_shape(lambda given: reduce(**given, **static, options=options), arguments)
    assert {a.dtype for a in (made.psfsub.sci, made.psfsub.err, made.i2d.sci)} == {arguments["science"].sci.dtype}


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="psf_mask has shape"):
        reduce(**_arguments() | {"psf_mask": jnp.ones((3, 3))}, options=OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_derivatives_are_finite_where_there_is_no_noise(skip):
    arguments = _arguments()
    options = Options(klip=Klip(truncate=3, skip=skip), outlier_detection=OutlierDetection(skip=True))
    none = dict.fromkeys(("var_poisson", "var_rnoise", "var_flat"))

    def floats(err):
        cubes = {name: dataclasses.replace(arguments[name], err=err[name], **none) for name in err}
        done = reduce(**(arguments | cubes), options=options)
        return done.psfalign.err, done.psfsub.err, done.i2d.sci, done.i2d.err

    err = {name: jnp.zeros_like(arguments[name].err) for name in ("science", "references")}
    values, slopes = jax.jit(lambda e: jax.jvp(floats, (e,), (jax.tree.map(jnp.ones_like, e),)))(err)
    assert all(np.isfinite(slope[np.isfinite(value)]).all() for value, slope in zip(values, slopes, strict=True))
    gradient = jax.jit(jax.grad(lambda e: jnp.nansum(floats(e)[2])))(err)
    assert all(np.isfinite(g).all() for g in gradient.values())
