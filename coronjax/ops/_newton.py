"""Damped Newton steps in two parameters, as an optax transformation, and the loop that runs it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

if TYPE_CHECKING:
    import optax

Objective = Callable[[Array], tuple[Array, Array, Array]]


class NewtonState(NamedTuple):
    """The best point so far, what is known there, and how far the last step went from it."""

    params: Float[Array, "2"]
    value: Float[Array, ""]
    gradient: Float[Array, "2"]
    curvature: Float[Array, "2 2"]
    radius: Float[Array, ""]
    step_size: Float[Array, ""]


class Minimum(NamedTuple):
    """Where a minimisation ended."""

    params: Float[Array, "2"]
    converged: Bool[Array, ""]
    n_iterations: Int[Array, ""]


def damped_newton(max_step: float = 0.5) -> "optax.GradientTransformationExtraArgs":
    r"""Newton's method, with steps that lead downhill and no farther than the quadratic model can be trusted.

    $$ \Delta p = -(H + \nu)^{-1} g, \qquad \nu = \max(0, -2 \lambda_{min}) $$

    with $\lambda$ the eigenvalues of the curvature $H$; $\nu$ is the safeguard of Levenberg and Marquardt, and zero
    around a minimum, where convergence is quadratic. The step is cut at a radius. A point that is worse than the best
    one is left again: the next step starts from the best one and goes a quarter as far; else the radius doubles.

    `update` takes the objective's `value` and `curvature` (Hessian, or Gauss-Newton matrix) at `params` besides its
    gradient; the parameters are one array of two.

    Args:
        max_step: first and longest radius, in the unit of the parameters.

    Returns:
        The transformation; its state is a `NewtonState`.

    Source: Levenberg (1944); Marquardt (1963); Nocedal & Wright (2006), chapter 4.
    """
    import optax  # here, since a program that was kept needs none of it

    def init(params: Array) -> NewtonState:
        one = jnp.ones((), params.dtype)
        identity = jnp.eye(2, dtype=params.dtype)
        return NewtonState(params, one * jnp.inf, jnp.zeros_like(params), identity, one * max_step, one * jnp.inf)

    def update(
        gradient: Array, state: NewtonState, params: Array, *, value: Array, curvature: Array
    ) -> tuple[Array, NewtonState]:
        rounding = 64 * jnp.finfo(params.dtype).eps * jnp.abs(value)
        better = value <= state.value + rounding
        best = state._replace(params=params, value=value, gradient=gradient, curvature=curvature)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), best, state)
        low, _ = eigenvalues(best.curvature)
        positive = best.curvature + jnp.maximum(-2 * low, 0) * jnp.eye(2, dtype=params.dtype)
        step = -inverse(positive) @ best.gradient
        radius = jnp.where(better, best.radius, best.step_size / 4)
        length = jnp.linalg.norm(step)
        step = step * (radius / jnp.maximum(length, radius))
        best = best._replace(step_size=jnp.minimum(length, radius), radius=jnp.minimum(2 * radius, max_step))
        return best.params + step - params, best

    return optax.GradientTransformationExtraArgs(init, update)


def minimise(objective: Objective, start: Array, max_iterations: int | Array) -> Minimum:
    """Run `damped_newton` until a step is shorter than the square root of the rounding error.

    Convergence is quadratic, so the point that this last step reaches is as good as rounding allows.

    Args:
        objective: value, gradient and Hessian at a point.
        start: first point.
        max_iterations: most evaluations of `objective`; traced.

    Returns:
        `Minimum`; without convergence it is the best point seen.
    """
    import optax

    transform = damped_newton()
    tolerance = jnp.sqrt(jnp.finfo(start.dtype).eps)

    def unfinished(carry: tuple[Array, NewtonState, Array]) -> Array:
        _, state, count = carry
        return (state.step_size > tolerance) & (count < max_iterations)

    def iterate(carry: tuple[Array, NewtonState, Array]) -> tuple[Array, NewtonState, Array]:
        params, state, count = carry
        value, gradient, curvature = objective(params)
        step, state = transform.update(gradient, state, params, value=value, curvature=curvature)
        return optax.apply_updates(params, step), state, count + 1

    first = (start, transform.init(start), jnp.zeros((), jnp.int32))
    params, state, count = jax.lax.while_loop(unfinished, iterate, first)
    converged = state.step_size <= tolerance
    return Minimum(jnp.where(converged, params, state.params), converged, count)


def eigenvalues(matrix: Float[Array, "2 2"]) -> tuple[Array, Array]:
    """The eigenvalues of a symmetric matrix, ascending."""
    mean = (matrix[0, 0] + matrix[1, 1]) / 2
    half_gap = jnp.hypot((matrix[0, 0] - matrix[1, 1]) / 2, matrix[0, 1])
    return mean - half_gap, mean + half_gap


def inverse(matrix: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    """The inverse of a symmetric matrix, by its cofactors; zero where it is singular."""
    (a, b), (_, d) = matrix
    determinant = a * d - b * b
    cofactors = jnp.stack([jnp.stack([d, -b]), jnp.stack([-b, a])])
    return jnp.where(determinant != 0, cofactors / jnp.where(determinant != 0, determinant, 1), 0)
