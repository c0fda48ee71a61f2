"""Damped Newton steps in two parameters, as an optax transformation, and the loop that runs it."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

if TYPE_CHECKING:
    import optax

Seen = TypeVar("Seen")

MAX_STEP = 0.5  # pixels
_VAGUE = 0.02  # pixels: a minimum of which the place is less certain has not been found


class Objective(NamedTuple):
    """What is to be minimised, at a point."""

    value: Float[Array, ""]
    gradient: Float[Array, "2"]
    curvature: Float[Array, "2 2"]
    rounding: Float[Array, ""]  # by how much values may differ that are the same but for rounding


class NewtonState(NamedTuple):
    """The best point so far but for rounding, what is known there, and how far the last step went from it."""

    params: Float[Array, "2"]
    there: Objective
    radius: Float[Array, ""]
    step_size: Float[Array, ""]
    length: Float[Array, ""]  # of that step before it was cut
    decrease: Float[Array, ""]  # of the objective at the end of that, as the quadratic model has it
    uncertainty: Float[Array, ""]  # of the place of a minimum there, by the rounding of the gradient


class Minimum(NamedTuple, Generic[Seen]):
    """Where a minimisation ended."""

    params: Float[Array, "2"]
    seen: Seen  # there
    converged: Bool[Array, ""]
    n_iterations: Int[Array, ""]


class _Search(NamedTuple, Generic[Seen]):
    """Where a minimisation is."""

    params: Array  # where it looks next
    state: NewtonState
    seen: Seen  # at the best point
    steps: Array
    ended: Array


def damped_newton(max_step: float = MAX_STEP) -> "optax.GradientTransformationExtraArgs":
    r"""Newton's method, with steps that lead downhill and no farther than the quadratic model can be trusted.

    $$ \Delta p = -(H + \nu)^{-1} g, \qquad \nu = \max(0, -2 \lambda_{min}) $$

    with $\lambda$ the eigenvalues of the curvature $H$; $\nu$ is the safeguard of Levenberg and Marquardt, and zero
    around a minimum, where convergence is quadratic. The step is cut at a radius. A point that is worse than the best
    one, and not by rounding alone, is left again: the next step starts from the best one and goes a quarter as far;
    else the radius doubles.

    `update` takes the objective's `value`, `curvature` (Hessian, or Gauss-Newton matrix) and `rounding` (by how much
    values may differ that are the same) at `params` besides its gradient; the parameters are one array of two.

    Args:
        max_step: first and longest radius, in the unit of the parameters.

    Returns:
        The transformation; its state is a `NewtonState`.

    Source: Levenberg (1944); Marquardt (1963); Nocedal & Wright (2006), chapter 4.
    """
    import optax  # here, since registering needs none of it, and it takes a tenth of a second

    def update(
        gradient: Array, state: NewtonState, params: Array, *, value: Array, curvature: Array, rounding: Array
    ) -> tuple[Array, NewtonState]:
        return _step(Objective(value, gradient, curvature, rounding), state, params, max_step)

    return optax.GradientTransformationExtraArgs(partial(_begin, max_step=max_step), update)


def _begin(params: Array, max_step: float) -> NewtonState:
    one = jnp.ones((), params.dtype)
    far = one * jnp.inf
    worst = Objective(far, jnp.zeros_like(params), jnp.eye(2, dtype=params.dtype), 0 * one)
    return NewtonState(params, worst, one * max_step, far, far, far, far)


def _step(here: Objective, state: NewtonState, params: Array, max_step: float) -> tuple[Array, NewtonState]:
    better = here.value <= state.there.value + here.rounding
    before = state.params, state.there
    best, there = jax.tree.map(lambda new, old: jnp.where(better, new, old), (params, here), before)
    low, _ = eigenvalues(there.curvature)
    positive = there.curvature + jnp.maximum(-2 * low, 0) * np.eye(2, dtype=params.dtype)
    step = -symmetric_times(inverse(positive), there.gradient)
    radius = jnp.where(better, state.radius, state.step_size / 4)
    length, decrease = jnp.sqrt(jnp.sum(step**2)), -jnp.sum(there.gradient * step) / 2
    step = step * (radius / jnp.maximum(length, radius))
    size, radius = jnp.minimum(length, radius), jnp.minimum(2 * radius, max_step)
    # Of the allowance for values about an eighth is usual, and slopes per pixel are as uncertain as values.
    uncertainty = there.rounding / (8 * jnp.maximum(jnp.abs(low), jnp.finfo(low.dtype).tiny))
    after = NewtonState(
        params=best,
        there=there,
        radius=radius,
        step_size=size,
        length=length,
        decrease=decrease,
        uncertainty=uncertainty,
    )
    return best + step - params, after


def minimise(
    look: Callable[[Array], Seen],
    objective: Callable[[Seen], Objective],
    start: Array,
    unseen: Seen,
    max_iterations: int | Array,
) -> Minimum[Seen]:
    """Run `damped_newton` until a step would be shorter than the square root of the rounding error, or lost in it.

    That step is left to the caller: convergence is quadratic, so the point that it reaches is as good as rounding
    allows. A step may also be short because no point near the best one is better, as on a ridge: that has converged
    only where the model promises no decrease that could be told from rounding.

    Args:
        look: what there is to see at a point.
        objective: what is minimised, from that, with the Hessian as its curvature.
        start: first point.
        unseen: anything of the form of what is seen.
        max_iterations: most steps; traced. The start is looked at in any case.

    Returns:
        `Minimum`; without convergence it is the best point seen but for rounding.
    """
    least = jnp.sqrt(jnp.finfo(start.dtype).eps)

    def iterate(search: _Search[Seen]) -> _Search[Seen]:
        seen = look(search.params)
        step, state = _step(objective(seen), search.state, search.params, MAX_STEP)
        best = jnp.all(state.params == search.params)
        seen = jax.tree.map(lambda new, old: jnp.where(best, new, old), seen, search.seen)
        steps = search.steps + 1
        on = state.step_size > jnp.clip(state.uncertainty, least, _VAGUE)  # false where NaN
        return _Search(search.params + step, state, seen, steps, ~(on & (steps < max_iterations)))

    none = jnp.zeros((), jnp.int32)
    first = _Search(start, _begin(start, MAX_STEP), unseen, none, jnp.zeros((), bool))
    end = jax.lax.while_loop(lambda search: ~search.ended, iterate, first)
    final = end.state
    tolerance = jnp.clip(final.uncertainty, least, _VAGUE)
    near = (final.length <= tolerance) | (final.decrease <= final.there.rounding)
    converged = (final.step_size <= tolerance) & near & (final.uncertainty < _VAGUE) & jnp.isfinite(final.there.value)
    return Minimum(final.params, end.seen, converged, jnp.minimum(end.steps, max_iterations))


# Matrices of two or three rows are multiplied and inverted element by element: of a call for each, the compiler makes a
# kernel, and compiling those took longer than registering.


def eigenvalues(matrix: Float[Array, "2 2"]) -> tuple[Array, Array]:
    """The eigenvalues of a symmetric matrix, ascending."""
    first, second = matrix[0, 0], matrix[1, 1]
    mean, half_gap = (first + second) / 2, jnp.sqrt(((first - second) / 2) ** 2 + matrix[0, 1] ** 2)
    return mean - half_gap, mean + half_gap


def inverse(matrix: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    """The inverse of a symmetric matrix, by its cofactors; zero where it is singular."""
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] ** 2
    cofactors = matrix[::-1, ::-1] * np.array([[1, -1], [-1, 1]], matrix.dtype)
    return jnp.where(determinant != 0, cofactors / jnp.where(determinant != 0, determinant, 1), 0)


def symmetric_times(symmetric: Float[Array, "n n"], other: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """A symmetric matrix times a vector or a matrix."""
    return jnp.sum(symmetric.reshape(*symmetric.shape, *(1,) * (other.ndim - 1)) * other[:, None], axis=0)
