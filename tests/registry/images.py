"""Rows of what is done to one image: shifts, borders, blur, pedestal."""

import jax.numpy as jnp
import numpy as np

from coronjax.ops import blur, crop_border, fourier_shift, pad_and_taper, pedestal, shift_frame

from .row import Arguments, Row


def _frame_to_shift(rng: np.random.Generator) -> Arguments:
    """Image, variance, shift and flags."""
    image, variance = jnp.asarray(rng.normal(size=(8, 9))), jnp.asarray(rng.uniform(1.0, 2.0, (8, 9)))
    return image, variance, jnp.asarray(rng.normal(size=2)), jnp.asarray(rng.integers(0, 8, (8, 9)), jnp.uint32)


ROWS: list[Row] = [
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
]
