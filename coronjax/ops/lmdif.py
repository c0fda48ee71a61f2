"""Least squares as MINPACK's lmdif does it, step by step, for numbers that agree with programs that rest on it.

Where the residual bends the objective as much as the images do, Gauss-Newton steps close in slowly, and lmdif stops at
its limit of evaluations, short of the minimum by far more than rounding: to land where it lands is to go the way it
goes. Elsewhere it stops at the minimum, scattered by the rounding of its finite differences. The step of its trust
region is worked out in the eigenbasis of the scaled normal matrix, where MINPACK factorises; the two are the same but
for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._devices import by_each, by_planes, whole
from .align import Registration
from .shift import shift_multiplier

Residual = Callable[[Float[Array, " n"]], Float[Array, "*m"]]

SLOW = 0.5  # share of the error that a Gauss-Newton step leaves
MAX_EVALUATIONS = 800  # scipy's leastsq: 200 (n + 1)
TOLERANCE = 1e-15  # of the sum of squares, and of the parameters
FACTOR = 100.0  # first trust region, in scaled parameters


class LeastSquares(NamedTuple):
    """Where lmdif stopped."""

    params: Float[Array, " n"]
    converged: Bool[Array, ""]  # by a tolerance, not by the limit
    n_evaluations: Int[Array, ""]


class _Model(NamedTuple):
    """The linearised problem at a point, in parameters scaled by `scale` and turned to the axes of the curvature."""

    axes: Float[Array, "n n"]
    curvature: Float[Array, " n"]
    slope: Float[Array, " n"]
    scale: Float[Array, " n"]


class _State(NamedTuple):
    params: Array
    residual: Array
    model: _Model
    fresh: Array  # the model belongs to `params`
    radius: Array
    damping: Array
    accepted: Array  # number of steps taken
    n_evaluations: Array
    stopped: Array
    converged: Array


def follow_lmdif(
    registration: Registration,
    targets: Float[Array, "plane y x"],
    moving: Float[Array, "y x"],
    weight: Float[Array, "y x"],
    valid: Bool[Array, " plane"],
) -> Registration:
    r"""Replace the shifts and scales of registrations by those at which MINPACK's lmdif stops, where that is elsewhere.

    It starts from no shift and scale 1, and is run for the planes whose contraction at the minimum,

    $$ \rho = \max |\operatorname{eig} (J^T J)^{-1} \textstyle\sum_i r_i \nabla^2 r_i |, $$

    is above one half; below, lmdif stops at the minimum. Derivatives remain those of the minimum.

    Args:
        registration: from `register_all` with `search=0`, float64.
        targets: as given to `register_all`.
        moving: likewise.
        weight: likewise.
        valid: likewise.

    Returns:
        The registration, for the planes concerned with lmdif's `shift` and `scale`; `n_iterations` counts its
        evaluations, `converged` says that it did not run to its limit of 800.

    Example:
        >>> star = jnp.exp(-0.1 * jnp.hypot(*jnp.mgrid[-8:9, -8:9]) ** 2)
        >>> stack, weight = 2 * fourier_shift(star, jnp.array([0.5, 0.25]))[None], jnp.ones_like(star)
        >>> images = stack, star, weight, jnp.ones(1, bool)
        >>> found = follow_lmdif(register_all(*images, search=0), *images)
        >>> found.shift.round(6).tolist(), found.scale.round(6).tolist()
        ([[0.5, 0.25]], [2.0])

    Source: align_refs of jwst 3.0.0 registers by scipy.optimize.leastsq, which is lmdif.
    """
    targets, moving, weight = jax.lax.stop_gradient((targets, *whole((moving, weight))))
    start = jnp.array([0.0, 0.0, 1.0], jnp.result_type(targets, moving, weight))
    spectrum, shape = by_each(jnp.fft.rfft2, moving.astype(start.dtype)), moving.shape

    def one(plane: tuple[Array, Array], shared: tuple) -> LeastSquares:
        target, follow = plane
        spectrum, weight, start = shared

        def residual(params: Array) -> Array:
            shifted = jnp.fft.irfft2(spectrum * shift_multiplier(shape, params[:2]), s=shape)
            return (target - params[2] * shifted) * weight

        return lmdif(residual, start, max_evaluations=MAX_EVALUATIONS, wanted=follow)

    slow = valid & registration.converged & (jax.lax.stop_gradient(registration.contraction) > SLOW)
    stopped = by_planes(one, (targets, slow), (spectrum, weight, start))

    def moved_to(value: Array, place: Array) -> Array:
        follow = slow.reshape(-1, *(1,) * (value.ndim - 1))
        return value + jax.lax.stop_gradient(jnp.where(follow, place - value, 0))

    return eqx.tree_at(
        lambda r: (r.shift, r.scale, r.converged, r.n_iterations),
        registration,
        (
            moved_to(registration.shift, stopped.params[:, :2]),
            moved_to(registration.scale, stopped.params[:, 2]),
            jnp.where(slow, stopped.converged, registration.converged),
            jnp.where(slow, stopped.n_evaluations, registration.n_iterations),
        ),
    )


def lmdif(
    residual: Residual,
    start: Float[Array, " n"],
    *,
    max_evaluations: int | Int[Array, ""],
    wanted: bool | Bool[Array, ""] = True,
) -> LeastSquares:
    r"""Minimise a sum of squares with forward differences and a trust region.

    $$ \Delta p = -(J^T J + \lambda D^2)^{-1} J^T r, \qquad \|D \Delta p\| \approx \delta $$

    Args:
        residual: of the parameters; any shape.
        start: first parameters.
        max_evaluations: of `residual`; no step is begun after that. Traced.
        wanted: whether to begin at all; `start` is where it stops if not. Traced.

    Returns:
        `LeastSquares`.

    Source: J. J. Moré (1978), "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes in
    Mathematics 630; its parameters as in MINPACK's lmdif with mode 1, factor 100, xtol = ftol = 1e-15, gtol = 0.
    """
    n, like = start.shape[0], jax.eval_shape(residual, start)
    first = jax.lax.cond(wanted, residual, lambda _: jnp.zeros(like.shape, like.dtype), start)
    zero = jnp.zeros((), start.dtype)
    nothing = _Model(jnp.eye(n, dtype=start.dtype), *(jnp.zeros_like(start),) * 3)
    no, begun = jnp.zeros((), bool), jnp.asarray(wanted)
    state = _State(start, first, nothing, no, zero, zero, jnp.zeros((), jnp.int32), begun.astype(jnp.int32), ~begun, no)

    def iterate(state: _State) -> _State:
        return _advance(residual, _linearise(residual, state), max_evaluations)

    end = jax.lax.while_loop(lambda s: ~s.stopped, iterate, state)
    return LeastSquares(end.params, end.converged, end.n_evaluations)


def _linearise(residual: Residual, state: _State) -> _State:
    """Give the state the model of its point, unless it has it from an earlier try."""

    def known(state: _State) -> tuple[_Model, Array, Array]:
        return state.model, state.radius, state.n_evaluations

    def made(state: _State) -> tuple[_Model, Array, Array]:
        params, n = state.params, state.params.shape[0]
        root = jnp.sqrt(jnp.finfo(params.dtype).eps)
        size = root * jnp.abs(params)
        size = jnp.where(size == 0, root, size)
        moved = jax.vmap(residual)(params + jnp.diag(size))
        jacobian = ((moved - state.residual) / size.reshape(-1, *(1,) * state.residual.ndim)).reshape(n, -1)
        normal = jnp.sum(jacobian[:, None] * jacobian[None], axis=-1)
        gradient = jnp.sum(jacobian * state.residual.reshape(-1), axis=-1)
        norms = jnp.sqrt(jnp.diagonal(normal))
        scale = jnp.where(state.accepted == 0, jnp.where(norms == 0, 1, norms), jnp.maximum(state.model.scale, norms))
        curvature, axes = jnp.linalg.eigh(normal / (scale[:, None] * scale))
        first_radius = FACTOR * _length(scale * params)
        radius = jnp.where(first_radius == 0, FACTOR, first_radius)
        model = _Model(axes, curvature, jnp.matmul(axes.T, gradient / scale, precision="highest"), scale)
        return model, jnp.where(state.accepted == 0, radius, state.radius), state.n_evaluations + n

    model, radius, n_evaluations = jax.lax.cond(state.fresh, known, made, state)
    return state._replace(model=model, radius=radius, n_evaluations=n_evaluations)


def _length(vector: Array) -> Array:
    return jnp.sqrt(jnp.sum(vector**2))


def _damping(model: _Model, radius: Array, before: Array) -> Array:
    """The damping whose step is as long as the trust region, to 10 %; none where the whole step fits."""
    size = _length(model.slope)
    tiny = jnp.finfo(size.dtype).tiny

    def step(damping: Array) -> tuple[Array, Array]:
        """Excess length of the damped step, and its correction by Newton's method on 1 / length."""
        curvature = jnp.maximum(model.curvature, tiny) + damping
        move = model.slope / curvature
        length = _length(move)
        unit = move / jnp.where(length > 0, length, 1)
        excess = length - radius
        return excess, excess / radius / jnp.maximum(jnp.sum(unit**2 / curvature), tiny)

    excess, correction = step(jnp.zeros_like(radius))
    fits = excess <= 0.1 * radius
    low, high = correction, size / radius
    high = jnp.where(high == 0, tiny / jnp.minimum(radius, 0.1), high)
    damping = jnp.minimum(jnp.maximum(before, low), high)
    damping = jnp.where(damping == 0, size / (excess + radius), damping)

    def refine(_: int, carry: tuple) -> tuple:
        damping, low, high, excess, done = carry
        trial = jnp.where(damping == 0, jnp.maximum(tiny, 0.001 * high), damping)
        new_excess, correction = step(trial)
        done_now = (jnp.abs(new_excess) <= 0.1 * radius) | ((low == 0) & (new_excess <= excess) & (excess < 0))
        low = jnp.where(new_excess > 0, jnp.maximum(low, trial), low)
        high = jnp.where(new_excess < 0, jnp.minimum(high, trial), high)
        following = jnp.where(done_now, trial, jnp.maximum(low, trial + correction))
        new = (following, low, high, new_excess, done_now)
        return jax.tree.map(lambda old, fresh: jnp.where(done, old, fresh), carry, new)

    def last(carry: tuple) -> Array:
        damping, _, high, _, done = carry
        # The tenth trial is used as it is.
        return jnp.where(done, damping, jnp.where(damping == 0, jnp.maximum(tiny, 0.001 * high), damping))

    searched = last(jax.lax.fori_loop(0, 9, refine, (damping, low, high, excess, jnp.zeros((), bool))))
    return jnp.where(fits, 0, searched)


def _region(radius: Array, damping: Array, length: Array, ratio: Array, shrink: Array) -> tuple[Array, Array]:
    """Radius and damping after a step of that length, which brought `ratio` of what the model had promised."""
    poor, good = ratio <= 0.25, (damping == 0) | (ratio >= 0.75)
    next_radius = jnp.where(poor, shrink * jnp.minimum(radius, 10 * length), jnp.where(good, 2 * length, radius))
    next_damping = jnp.where(poor, damping / shrink, jnp.where(good, 0.5 * damping, damping))
    return next_radius, next_damping


def _advance(residual: Residual, state: _State, max_evaluations: int | Array) -> _State:
    """Try one step, keep it if it is good, and set the trust region and the damping for the next."""
    model, eps = state.model, jnp.finfo(state.params.dtype).eps
    damping = _damping(model, state.radius, state.damping)
    turned = -model.slope / (jnp.maximum(model.curvature, jnp.finfo(state.params.dtype).tiny) + damping)
    move = jnp.matmul(model.axes, turned, precision="highest")
    length = _length(move)
    radius = jnp.where(state.accepted == 0, jnp.minimum(state.radius, length), state.radius)
    params = state.params + move / model.scale
    trial = residual(params)
    norm, trial_norm = _length(state.residual), _length(trial)
    unit = jnp.where(norm > 0, norm, 1)
    actual = jnp.where(0.1 * trial_norm < norm, 1 - (trial_norm / unit) ** 2, -1)
    linear, damped = jnp.sum(model.curvature * turned**2) / unit**2, damping * length**2 / unit**2
    predicted, slope = linear + 2 * damped, -(linear + damped)
    ratio = jnp.where(predicted != 0, actual / jnp.where(predicted != 0, predicted, 1), 0)
    shrink = jnp.where(actual >= 0, 0.5, 0.5 * slope / jnp.where(actual < 0, slope + 0.5 * actual, 1))
    shrink = jnp.where((0.1 * trial_norm >= norm) | (shrink < 0.1), 0.1, shrink)
    next_radius, next_damping = _region(radius, damping, length, ratio, shrink)
    keep = ratio >= 1e-4
    kept = jnp.where(keep, params, state.params)
    n_evaluations = state.n_evaluations + 1
    small = (jnp.abs(actual) <= TOLERANCE) & (predicted <= TOLERANCE) & (0.5 * ratio <= 1)
    narrow = next_radius <= TOLERANCE * _length(model.scale * kept)
    stuck = (jnp.abs(actual) <= eps) & (predicted <= eps) & (0.5 * ratio <= 1)
    stuck = stuck | (next_radius <= eps * _length(model.scale * kept))
    flat = jnp.all(model.slope == 0)
    return _State(
        kept,
        jnp.where(keep, trial, state.residual),
        model,
        ~keep,
        next_radius,
        next_damping,
        state.accepted + keep,
        n_evaluations,
        small | narrow | stuck | flat | (n_evaluations >= max_evaluations),
        small | narrow,
    )
