"""Move the references onto a science exposure: registration, then one shift with noise and flags."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .cube import DQ, VARIANCES, Cube
from .frames import Frames
from .ops import (
    Registration,
    blur,
    follow_lmdif,
    pad_and_taper,
    register_all,
    registration_weight,
    repair_bad_pixels,
    shift_frame,
    unregistered,
)
from .ops._devices import by_planes
from .ops._root import root
from .options import Options

_COMMON = 0.5  # share of the references in which a pixel is measured for it to take part in any registration
_OUT_OF_USE = DQ.DO_NOT_USE.value | DQ.FLUX_ESTIMATED.value  # flags of what was not measured


class Circumstances(eqx.Module):
    """What is known of one science exposure besides its images."""

    psf_mask: Float[Array, "y x"]  # weight in the registration, in the frame of the detector
    psf_mismatch: Float[Array, ""]  # share of the star's light by which PSFs differ
    star: Float[Array, " 2"]  # (x, y), pixels
    resolution: Float[Array, ""]  # width of a resolution element, pixels
    blur: Float[Array, ""] | None  # sigma of the Gaussian against undersampling, pixels; None: none is needed
    background_variance: Float[Array, "y x"] | None  # of the background that was subtracted, (MJy/sr)^2
    same_background: Bool[Array, ""]  # the references are less the same one


def blurred(science: Cube, frames: Frames, sigma: Array, options: Options) -> tuple[Cube, Frames]:
    """Blur a science exposure to the Nyquist limit, with its variances and flags.

    Args:
        science: its integrations, `[int y x]`.
        frames: the same, prepared.
        sigma: of the Gaussian, pixels.
        options: `align_refs` says how frames are bordered.

    Returns:
        Integrations and frames, blurred.
    """
    still = jnp.zeros(2, frames.image.dtype)
    padding = options.align_refs.padding

    def move(plane: tuple, sigma: Array) -> Frames:
        image, variance, dq, measured = plane
        moved = shift_frame(image, variance, _marked(dq, measured), still, sigma, padding=padding)
        return _unmarked(moved.image, moved.variance, moved.dq)

    def noise(plane: tuple[Array, Array], sigma: Array) -> Array:
        variance, dq = plane
        whole = repair_bad_pixels(variance, dq, positive=True, options=options.align_refs).image
        return shift_frame(whole, whole, dq, still, sigma, padding=padding).variance

    moved = by_planes(move, (frames.image, frames.variance, frames.dq, frames.measured), sigma)
    bad = (moved.dq & jnp.uint32(DQ.DO_NOT_USE.value)) != 0
    fields = {"sci": moved.image, "err": root(moved.variance)}
    for name in VARIANCES:
        variance = getattr(science, name)
        if variance is not None:
            fields[name] = by_planes(noise, (variance, science.dq), sigma)
    kept = {name: jnp.where(bad, jnp.nan, value).astype(science.sci.dtype) for name, value in fields.items()}
    cube = Cube(dq=moved.dq, valid=science.valid, **kept)
    return cube, moved


def _marked(dq: Array, measured: Array) -> Array:
    """Flags in which a repaired pixel is FLUX_ESTIMATED, so that it is followed through the interpolation."""
    return jnp.where(measured, dq & ~jnp.uint32(DQ.FLUX_ESTIMATED.value), dq | jnp.uint32(DQ.FLUX_ESTIMATED.value))


def _unmarked(image: Array, variance: Array, dq: Array) -> Frames:
    return Frames(image, variance, dq, (dq & jnp.uint32(DQ.FLUX_ESTIMATED.value)) == 0)


def _unmoved(plane: tuple) -> Frames:
    """A plane that is no reference, as it is and out of use."""
    image, variance, dq, measured, _ = plane
    return Frames(image, variance, dq | jnp.uint32(_OUT_OF_USE), jnp.zeros_like(measured))


def register_references(
    planes: Frames,
    valid: Bool[Array, " plane"],
    frames: Frames,
    used: Bool[Array, " int"],
    known: Circumstances,
    options: Options,
) -> Registration:
    """Register the first usable science integration to every reference plane, the way the options say.

    Args:
        planes: reference planes, prepared.
        valid: which of them count.
        frames: science integrations, prepared, blurred where that is needed.
        used: which of those are no padding.
        known: of the exposure.
        options: those of `align_refs`.

    Returns:
        `Registration`, `[plane]`.
    """
    chosen, mask = options.align_refs, known.psf_mask.astype(frames.image.dtype)
    if chosen.skip:
        return unregistered(len(planes.image), mask.dtype)
    if chosen.minimiser == "lmdif":
        nearest = register_all(planes.image, frames.image[0], mask, valid, search=0)
        return follow_lmdif(nearest, planes.image, frames.image[0], mask, valid)
    first = jnp.argmax(used & jnp.any(frames.measured, axis=(1, 2)))
    image, variance, good = frames.image[first], frames.variance[first], None
    if not chosen.use_repaired:
        counted = jnp.sum(planes.measured & valid[:, None, None], axis=0)
        mask = mask * frames.measured[first] * (counted >= _COMMON * jnp.sum(valid))
        good = jax.vmap(lambda plane: jnp.pad(plane, chosen.padding))(planes.measured)
    if chosen.weighting == "noise":
        mask = registration_weight(mask, image, variance, mismatch=known.psf_mismatch)
    images = planes.image.astype(mask.dtype)
    if known.blur is not None:
        images = by_planes(lambda plane, sigma: blur(plane, sigma, padding=chosen.padding), images, known.blur)
    return register_all(
        _bordered(images, chosen.padding),
        pad_and_taper(image, chosen.padding),
        jnp.pad(mask, chosen.padding),
        valid,
        good=good,
        pedestal=chosen.pedestal,
        target_variance=_bordered(planes.variance, chosen.padding),
        moving_variance=pad_and_taper(variance, chosen.padding),
    )


def _bordered(images: Array, width: int) -> Array:
    return jax.vmap(lambda image: pad_and_taper(image, width))(images)


def align_references(
    planes: Frames,
    valid: Bool[Array, " plane"],
    registration: Registration,
    sigma: Float[Array, ""] | None,
    options: Options,
) -> Frames:
    """Move the reference planes onto the science exposure, one after another.

    Args:
        planes: prepared, not blurred.
        valid: which of them count.
        registration: of the exposure.
        sigma: of the Gaussian against undersampling, pixels; None: none is needed.
        options: those of `align_refs`.

    Returns:
        Frames on the pixels of the exposure, in the precision of the planes. What comes from beyond a plane's edge is
        DO_NOT_USE.
    """
    if options.align_refs.skip:
        return planes
    amount = 0.0 if sigma is None else sigma
    working = jnp.dtype(options.precision)

    def move(plane: tuple, amount: Array | float) -> Frames:
        image, variance, dq, measured, shift = plane
        flags, padding = _marked(dq, measured), options.align_refs.padding
        moved = shift_frame(image.astype(working), variance, flags, -shift, amount, padding=padding)
        flags = jnp.where(moved.inside, moved.dq, moved.dq | jnp.uint32(_OUT_OF_USE))
        return _unmarked(moved.image.astype(image.dtype), moved.variance, flags)

    each = (planes.image, planes.variance, planes.dq, planes.measured, registration.shift)
    return by_planes(move, each, amount, wanted=valid, otherwise=_unmoved)
