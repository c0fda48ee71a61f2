"""One science exposure: align the references to it, model the star, subtract it, and say how well that is known."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .alignment import Circumstances, align_references, blurred, register_references
from .cube import DQ, Cube
from .frames import Frames
from .ops import KlipResult, Registration, SharedNoise, fit_pixels, klip, references_variance, speckle_variance
from .ops._devices import by_each, whole
from .ops._root import root
from .ops._sums import sum_of_planes
from .options import Options
from .reduction import Aligned, Subtraction

_REPAIRED = 0.5  # share of the star's model that may rest on repaired pixels


class Registered(eqx.Module):
    """A science exposure on which the references have been registered."""

    registration: Registration
    blurred: tuple[Cube, Frames] | None  # it, and it prepared, at the Nyquist limit; None: as it was


class Removed(eqx.Module):
    """What comes of one science exposure."""

    aligned: Aligned
    psfsub: Cube
    shared: SharedNoise | None
    subtraction: Subtraction


def register_exposure(
    science: Cube, frames: Frames, planes: Frames, valid: Bool[Array, " plane"], known: Circumstances, options: Options
) -> Registered:
    """Blur one science exposure where that is needed, and find where on it each reference lies.

    Args:
        science: its integrations, outliers flagged, `[int y x]`.
        frames: the same, prepared.
        planes: reference planes, prepared.
        valid: which of them count.
        known: of the exposure.
        options: every choice.

    Returns:
        `Registered`.
    """
    used, frames, moved = science.valid, _working(frames, options), None
    if known.blur is not None:
        moved = by_each(partial(blurred, options=options), science, frames, known.blur)
        frames = moved[1]
    return Registered(register_references(planes, valid, frames, used, known, options), moved)


def remove_star(
    science: Cube,
    frames: Frames,
    planes: Frames,
    valid: Bool[Array, " plane"],
    registration: Registration,
    known: Circumstances,
    options: Options,
) -> Removed:
    """Subtract the star from one science exposure.

    Args:
        science: its integrations, outliers flagged, blurred where that is needed, `[int y x]`.
        frames: the same, prepared.
        planes: reference planes, prepared.
        valid: which of them count.
        registration: of the references to it.
        known: of the exposure.
        options: every choice.

    Returns:
        `Removed`.
    """
    dtype, frames = science.sci.dtype, _working(frames, options)
    aligned = align_references(planes, valid, registration, known.blur, options)
    # The products' precision: what psfalign holds is what is subtracted.
    images, fit, used = aligned.image.astype(dtype), None, science.valid
    if not options.klip.use_repaired:
        used = used & jnp.any(frames.measured, axis=(1, 2))  # a blank integration leaves no pixel to fit
        fit = fit_pixels(frames.measured, aligned.measured, valid_science=used, valid_references=valid)
    subtracted = whole(
        klip(
            *(frames.image, _converted(images, frames.image.dtype)),
            options=options.klip,
            fit=fit,
            valid_science=used,
            valid_references=valid,
            error=options.klip.error == "scatter",
        )
    )
    psfsub, shared = _psfsub(science, frames, aligned, subtracted, (used, valid), known, options)
    dq = None if options.align_refs.use_repaired else aligned.dq
    fitted = jnp.ones(known.psf_mask.shape, bool) if fit is None else fit
    psfalign = Aligned(images, root(aligned.variance).astype(dtype), dq)
    return Removed(psfalign, psfsub, shared, _subtraction(subtracted, fitted))


def _subtraction(found: KlipResult, fitted: Bool[Array, "y x"]) -> Subtraction:
    """What a reduction keeps of KLIP, whose one zone is the whole frame."""
    return Subtraction(
        weights=found.weights[0],
        n_modes=found.n_modes[0],
        gap=found.gap[0],
        eigenvalues=found.eigenvalues[0],
        fitted=fitted,
    )


def _working(frames: Frames, options: Options) -> Frames:
    """Frames in the precision that is worked in."""
    return eqx.tree_at(lambda f: f.image, frames, frames.image.astype(options.precision))


def _converted(images: Array, dtype: jnp.dtype) -> Array:
    """In another precision, as rows of pixels and once: the compiler would do it for the means and for the rest."""
    if images.dtype == dtype:
        return images
    rows = images.reshape(len(images), -1).astype(dtype)
    return jax.lax.optimization_barrier(rows).reshape(images.shape)


def _psfsub(
    science: Cube,
    frames: Frames,
    aligned: Frames,
    subtracted: KlipResult,
    counted: tuple[Array, Array],
    known: Circumstances,
    options: Options,
) -> tuple[Cube, SharedNoise | None]:
    """The exposure without the star, its errors, and the noise that its integrations share.

    `counted`: which integrations and which reference planes are in use.
    """
    dtype, skipped, (valid_science, valid) = science.sci.dtype, options.klip.skip, counted
    residual = frames.image if skipped else subtracted.residual
    if options.klip.error == "scatter":
        err = science.err
        if not skipped and subtracted.error is not None:
            err = jnp.broadcast_to(subtracted.error, residual.shape).astype(dtype)
        return eqx.tree_at(lambda c: (c.sci, c.err), science, (residual.astype(dtype), err)), None
    weights = jnp.zeros_like(subtracted.weights[0]) if skipped else subtracted.weights[0]
    references = references_variance(weights, aligned.variance, valid_science=valid_science, valid_references=valid)
    references = references + _background_noise(weights, valid_science, known)
    dq = _trusted(science.dq, weights, aligned.measured, valid_science, valid)
    bad = (dq & jnp.uint32(DQ.DO_NOT_USE.value)) != 0
    detector, speckles = _detector_variance(science), jnp.zeros_like(references)
    if not skipped:
        used = ~bad & valid_science[:, None, None]
        speckles = by_each(_speckles, residual, frames.image - residual, detector, references, used, known)
    err = root(detector + references + speckles)
    sci, err = (jnp.where(bad, jnp.nan, array).astype(dtype) for array in (residual, err))
    return eqx.tree_at(lambda c: (c.sci, c.err, c.dq), science, (sci, err, dq)), SharedNoise(references, speckles)


def _background_noise(weights: Array, valid_science: Array, known: Circumstances) -> Array:
    """Variance by the backgrounds; one that target and references share cancels as far as the star's model has it."""
    if known.background_variance is None:
        return jnp.zeros((), weights.dtype)
    total = jnp.sum(jnp.where(valid_science[:, None], weights, 0)) / jnp.maximum(jnp.sum(valid_science), 1)
    factor = jnp.where(known.same_background, (1 - total) ** 2, 1 + total**2)
    return factor * jnp.nan_to_num(known.background_variance).astype(weights.dtype)


def _detector_variance(science: Cube) -> Array:
    """Variance of each integration by itself: the sum of those in the files, else the square of ERR."""
    known = [v for v in (science.var_poisson, science.var_rnoise, science.var_flat) if v is not None]
    total = sum(known[1:], known[0]) if known else science.err**2
    return jnp.where(jnp.isfinite(total) & (total > 0), total, 0)


def _trusted(dq: Array, weights: Array, measured: Array, valid_science: Array, valid: Array) -> Array:
    """Flags of the exposure, with those pixels out of use where the star's model rests on repaired pixels."""
    share = jnp.abs(jnp.sum(jnp.where(valid_science[:, None], weights, 0), axis=0)) * valid
    total = jnp.sum(share)
    repaired = jnp.tensordot(share, jnp.where(measured, 0.0, 1.0).astype(share.dtype), 1, precision="highest")
    flags = jnp.uint32(DQ.DO_NOT_USE.value | DQ.FLUX_ESTIMATED.value)
    return jnp.where((repaired > _REPAIRED * total) & (total > 0), dq | flags, dq)


def _speckles(
    residual: Array, removed: Array, detector: Array, references: Array, used: Array, known: Circumstances
) -> Array:
    """Variance of the residual speckles, from the means of the integrations."""
    n = jnp.maximum(jnp.sum(used, axis=0), 1)
    mean, model = (sum_of_planes(jnp.where(used, image, 0)) / n for image in (residual, removed))
    noise = sum_of_planes(jnp.where(used, detector, 0)) / n**2 + references
    good = jnp.any(used, axis=0)
    return speckle_variance(mean, noise, known.star, fwhm=known.resolution, model=model, good=good)
