"""Compare optimisers for the registration once: error and time after N iterations. Numbers in docs/adr/001.

python -m benchmarks.optimisers
"""

import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from coronjax.ops import fourier_shift, register
from coronjax.ops._newton import damped_newton

Problem = tuple[jax.Array, jax.Array, jax.Array]
CHECKPOINTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 50, 100, 300)


def problem(seed: int = 0, size: int = 96) -> Problem:
    """A noisy star behind a coronagraph, shifted and scaled: target, moving image, weight."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(x, y)
    blur = np.exp(-(np.fft.fftfreq(size)[:, None] ** 2 + np.fft.fftfreq(size) ** 2) * 2 * (np.pi * 1.0) ** 2)
    speckles = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) * blur).real ** 2
    star = 1e3 * speckles / speckles.max() * np.exp(-radius / 12)
    weight = 1 - 0.95 * np.exp(-(radius**2) / 20)
    target = 1.7 * fourier_shift(jnp.asarray(star), jnp.array([-0.64, 0.53])) + 0.5 * rng.normal(size=star.shape)
    return target, jnp.asarray(star + 0.5 * rng.normal(size=star.shape)), jnp.asarray(weight)


def residual(params: jax.Array, images: Problem) -> jax.Array:
    """Weighted residual in units of the target's rms."""
    target, moving, weight = images
    unit = jnp.sqrt(jnp.sum((weight * target) ** 2))
    return ((target - params[2] * fourier_shift(moving, params[:2])) * weight / unit).ravel()


def cost(params: jax.Array, images: Problem) -> jax.Array:
    return jnp.sum(residual(params, images) ** 2) / 2


def first_order(transform: optax.GradientTransformationExtraArgs, images: Problem) -> Iterator[jax.Array]:
    """The iterates of an optax transformation from (0, 0, 1)."""
    start = jnp.array([0.0, 0.0, 1.0])

    @jax.jit
    def step(params: jax.Array, state: optax.OptState) -> tuple[jax.Array, optax.OptState]:
        value, gradient = jax.value_and_grad(cost)(params, images)
        update, state = transform.update(
            gradient, state, params, value=value, grad=gradient, value_fn=lambda p: cost(p, images)
        )
        return optax.apply_updates(params, update), state

    params, state = start, transform.init(start)
    while True:
        params, state = step(params, state)
        yield params


def scale_of(shift: jax.Array, images: Problem) -> jax.Array:
    """The best scale of a shift."""
    target, moving, weight = images
    shifted = fourier_shift(moving, shift) * weight
    return jnp.vdot(target * weight, shifted) / jnp.vdot(shifted, shifted)


def projected(curvature: str) -> Callable[[Problem], Iterator[jax.Array]]:
    """Damped steps in the shift alone, the scale eliminated, with the Gauss-Newton matrix or the Hessian."""

    def iterates(images: Problem) -> Iterator[jax.Array]:
        def reduced(shift: jax.Array) -> jax.Array:
            return residual(jnp.append(shift, scale_of(shift, images)), images)

        def value_of(shift: jax.Array) -> jax.Array:
            return jnp.sum(reduced(shift) ** 2) / 2

        transform = damped_newton()

        @jax.jit
        def step(shift: jax.Array, state: optax.OptState) -> tuple[jax.Array, optax.OptState]:
            value, gradient = jax.value_and_grad(value_of)(shift)
            slopes = jax.jacfwd(reduced)(shift)
            matrix = slopes.T @ slopes if curvature == "Gauss-Newton" else jax.hessian(value_of)(shift)
            known = {"value": value, "curvature": matrix, "rounding": 64 * jnp.finfo(value.dtype).eps * value}
            update, state = transform.update(gradient, state, shift, **known)
            return optax.apply_updates(shift, update), state

        shift = jnp.zeros(2)
        state = transform.init(shift)
        while True:
            shift, state = step(shift, state)
            yield jnp.append(shift, scale_of(shift, images))

    return iterates


METHODS: dict[str, Callable[[Problem], Iterator[jax.Array]]] = {
    "momentum SGD (0.3, 0.9)": lambda images: first_order(optax.sgd(0.3, 0.9), images),
    "Adam (0.1)": lambda images: first_order(optax.adam(0.1), images),
    "Adam (0.02)": lambda images: first_order(optax.adam(0.02), images),
    "L-BFGS": lambda images: first_order(optax.lbfgs(), images),
    "Gauss-Newton, projected": projected("Gauss-Newton"),
    "Newton, projected": projected("Hessian"),
}


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    images = problem()
    best = register(*images)
    print(f"minimum {best.shift} scale {best.scale:.6f}, {best.n_iterations} iterations of register")
    print("| method | " + " | ".join(map(str, CHECKPOINTS)) + " | ms per iteration |")
    for name, method in METHODS.items():
        iterates, errors = method(images), []
        next(iterates)
        iterates = method(images)
        start = time.perf_counter()
        for count in range(1, CHECKPOINTS[-1] + 1):
            params = next(iterates)
            if count in CHECKPOINTS:
                errors.append(float(jnp.abs(params[:2] - best.shift).max()))
        elapsed = 1e3 * (time.perf_counter() - start) / CHECKPOINTS[-1]
        print(f"| {name} | " + " | ".join(f"{error:.0e}" for error in errors) + f" | {elapsed:.1f} |")
    jax.block_until_ready(register(*images))
    start = time.perf_counter()
    for _ in range(10):
        jax.block_until_ready(register(*images))
    print(f"register: {1e2 * (time.perf_counter() - start):.1f} ms in all")


if __name__ == "__main__":
    main()
