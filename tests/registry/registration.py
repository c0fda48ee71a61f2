"""Rows of the registration of images of stars."""

from typing import Any

import jax.numpy as jnp

from coronjax.ops import follow_lmdif, register, register_all, registration_weight

from .row import Arguments, Row
from .samples import cut, sample_stars


def _pad_planes(arguments: Arguments) -> Arguments:
    """Targets with one more plane, all NaN and not valid."""
    targets, moving, weight, valid = arguments
    targets = jnp.concatenate([targets, jnp.full_like(targets[:1], jnp.nan)])
    return targets, moving, weight, jnp.append(valid, False)


def _fitted(result: Any) -> Any:
    """The parts of a registration that carry derivatives."""
    return result.shift, result.scale, result.residual


ROWS: list[Row] = [
    Row(
        "register",
        register,
        sample_stars,
        differentiable=(0, 1, 2),
        output=_fitted,
        numbers={"max_iterations": (50, 20), "prefer_near": (0.1, 0.0)},
        degenerate=lambda a: (a[0], jnp.full_like(a[1], 3.0), a[2]),
    ),
    Row(
        "registration_weight",
        registration_weight,
        lambda rng: (lambda stars: (stars[2], stars[1], 0.25 + 0.1 * jnp.abs(stars[1])))(sample_stars(rng)),
        differentiable=(0,),
        numbers={"mismatch": (0.1, 0.0)},
        degenerate=lambda a: (a[0], jnp.zeros_like(a[1]), a[2]),
    ),
    Row(
        "register_all",
        register_all,
        lambda rng: (*sample_stars(rng, 3), jnp.ones(3, bool)),
        differentiable=(0, 1, 2),
        output=_fitted,
        numbers={"max_iterations": (50, 20), "prefer_near": (0.1, 0.0)},
        pad=_pad_planes,
        unpad=lambda output: tuple(cut(part) for part in output),
        degenerate=lambda a: (jnp.zeros_like(a[0]), a[1], jnp.zeros_like(a[2]), a[3]),
    ),
    Row(
        "follow_lmdif",
        lambda *images: follow_lmdif(register_all(*images, search=0), *images),
        lambda rng: (*sample_stars(rng, 3), jnp.ones(3, bool)),
        differentiable=(0, 1, 2),
        output=lambda result: (result.shift, result.scale),
        pad=_pad_planes,
        unpad=lambda output: tuple(cut(part) for part in output),
        degenerate=lambda a: (jnp.zeros_like(a[0]), a[1], jnp.zeros_like(a[2]), a[3]),
    ),
]
