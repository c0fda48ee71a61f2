"""Frames made ready to be moved and combined: outliers flagged, background and bad pixels gone, noise kept."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from .cube import DQ, Cube
from .ops import nanmedian, pedestal, predict_star
from .ops._devices import by_each, by_planes, by_planes_in_turn, whole
from .ops.outliers import Decision, decide_outliers, nothing_decided
from .ops.repair import repair_with_error
from .options import Options

_PREDICTORS = 16  # reference planes, at most, whose median predicts the star
_INNER = 0.25  # of the shorter side: what lies nearer to the middle does not tell the pedestal


class Frames(eqx.Module):
    """Images without holes, and what is known of their pixels."""

    image: Float[Array, "*planes y x"]  # MJy/sr, finite; references in their cubes' precision
    variance: Float[Array, "*planes y x"]  # (MJy/sr)^2, finite; likewise
    dq: UInt32[Array, "*planes y x"]  # FLUX_ESTIMATED where repaired
    measured: Bool[Array, "*planes y x"]  # not repaired


def flag_all(references: Cube, science: Cube, options: Options) -> tuple[Cube, Cube]:
    """Flag the outliers of every exposure.

    Args:
        references: `[exp int y x]`, floats of one dtype.
        science: `[exp int y x]`.
        options: those of `outlier_detection`.

    Returns:
        References and science, flagged.
    """
    chosen = options.outlier_detection
    unpredicted = chosen.skip or chosen.pairs == "both"
    star = None if unpredicted else whole(_typical_star(references))

    def decided(exposure: Cube, shared: tuple) -> Decision:
        star, chosen = shared
        prediction = None
        if star is not None:
            prediction = predict_star(star[None], jnp.isfinite(star)[None], jnp.ones(1, bool), exposure)
            prediction = prediction.astype(exposure.sci.dtype)
        return decide_outliers(exposure, prediction=prediction, options=chosen)

    def flagged(exposures: Cube, shared: tuple) -> Cube:
        some = jnp.any(exposures.valid, axis=-1)
        nothing = partial(nothing_decided, options=chosen)
        at_once = len(exposures.sci) if unpredicted else None  # which takes no memory to speak of
        found = by_planes(decided, exposures, shared, wanted=some, otherwise=nothing, batch_size=at_once)
        return found.applied(exposures)

    known = star, chosen
    return flagged(references, known), by_each(flagged, science, known)  # of science there are few


def _typical_star(references: Cube) -> Float[Array, "y x"]:
    """The median of some reference planes, evenly chosen: a library of thousands predicts no better."""
    planes, flags = (array.reshape(-1, *array.shape[-2:]) for array in (references.sci, references.dq))
    step = -(-len(planes) // _PREDICTORS)
    usable = (flags[::step] & jnp.uint32(DQ.DO_NOT_USE.value)) == 0
    return nanmedian(planes[::step], usable & references.valid.reshape(-1)[::step, None, None])


def prepare(cubes: tuple[Cube, ...], *, zero_non_science: Array, options: Options) -> tuple[Frames, ...]:
    """Subtract a pedestal and repair bad pixels, plane by plane.

    Args:
        cubes: stacks of planes with outliers flagged, `[*planes y x]`. All are worked on in one loop, so that it is
            compiled once, a few at a time: every plane of a library would need many times the memory of the input.
        zero_non_science: set bad NON_SCIENCE pixels to 0 (`align_refs.repair="box"`).
        options: those of `background` and `align_refs`.

    Returns:
        `Frames`, one for each stack.
    """

    def one(plane: tuple[Array, Array, Array], zero_non_science: Array) -> tuple[Array, Array, Array]:
        sci, err, dq = plane
        level = jnp.zeros((), sci.dtype)
        if not options.background.skip:
            level = pedestal(sci, _outer(sci.shape) & ((dq & jnp.uint32(DQ.DO_NOT_USE.value)) == 0)).level
        repaired, noise = repair_with_error(
            *(sci - level if not options.background.skip else sci, err, dq),
            zero_non_science=zero_non_science,
            options=options.align_refs,
        )
        return repaired.image, noise**2, ~repaired.filled

    stacks = [
        tuple(jnp.reshape(getattr(cube, name), (-1, *cube.sci.shape[-2:])) for name in ("sci", "err", "dq"))
        for cube in cubes
    ]
    wanted = [jnp.ravel(cube.valid) for cube in cubes]
    prepared = by_planes_in_turn(one, stacks, zero_non_science, wanted=wanted, otherwise=_blank, few=2)
    found = []
    for cube, planes in zip(cubes, prepared, strict=True):
        image, variance, measured = (a.reshape(cube.sci.shape) for a in planes)
        flags = jnp.where(measured, cube.dq, cube.dq | jnp.uint32(DQ.FLUX_ESTIMATED.value))
        found.append(Frames(image, variance, flags, measured))
    return tuple(found)


def _blank(plane: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """A plane of which nothing was measured."""
    sci, err, dq = plane
    return jnp.zeros_like(sci), jnp.ones_like(err), jnp.zeros(dq.shape, bool)


def _outer(shape: tuple[int, ...]) -> Bool[Array, "y x"]:
    """Pixels away from the middle of the frame, where the star is."""
    y, x = (jnp.arange(n) - (n - 1) / 2 for n in shape)
    return jnp.hypot(y[:, None], x[None, :]) > _INNER * min(shape)
