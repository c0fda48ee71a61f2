"""Rows of KLIP, and of the noise that it leaves."""

import jax
import jax.numpy as jnp
import numpy as np

from coronjax.ops import (
    Gram,
    Weights,
    correlate_speckles,
    fit_pixels,
    gram,
    klip,
    klip_sweep,
    klip_weights,
    modes,
    references_variance,
    residual_error,
    speckle_variance,
    subtract,
)
from coronjax.options import Klip

from .row import Arguments, Row
from .samples import cut, sample_stars


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


ROWS: list[Row] = [
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
        unpad=cut,
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
        unpad=lambda output: (cut(output[0]), output[1]),
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
            sample_stars(rng)[1],
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
]
