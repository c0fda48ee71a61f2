"""Every choice a reduction depends on: one frozen class per step and one for the chain.

Numbers are pytree leaves and are traced: changing one never compiles again. Names, switches, sizes and sets of DQ bits
are static.
"""

from __future__ import annotations

import math
import numbers
from typing import Literal, get_args, get_type_hints

import equinox as eqx
import numpy as np

from .cube import parse_bits
from .errors import OptionsError


def _check_number(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Refuse what is no finite number in a range. Tracers, arrays and None pass: nobody types them."""
    if value is None or (hasattr(value, "shape") and not isinstance(value, np.generic)):
        return
    kind = numbers.Integral if whole else numbers.Real
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kind):
        raise OptionsError(f"{name}={value!r} must be {'a whole' if whole else 'a'} number")
    number = float(value)
    if not math.isfinite(number):
        raise OptionsError(f"{name}={value!r} must be finite")
    if number < low or number > high or (above and number == low):
        bounds = f"{'above' if above else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
        raise OptionsError(f"{name}={value!r} must be {bounds}")


def _check_choice(options: eqx.Module, step: str, name: str) -> None:
    """Refuse a name that its annotation does not list."""
    value, allowed = getattr(options, name), get_args(get_type_hints(type(options))[name])
    if value not in allowed:
        raise OptionsError(f"{step}{name}={value!r} must be one of {', '.join(map(repr, allowed))}")


def _check_bits(name: str, text: object) -> None:
    try:
        parse_bits(str(text))
    except ValueError as error:
        raise OptionsError(f"{name}={text!r}: {error}") from None


class OutlierDetection(eqx.Module):
    """Flag cosmic rays against the median of an exposure's integrations."""

    snr: float = 5.0
    """A pixel is an outlier when it differs from the median by more than this many times its error."""
    maskpt: float = 0.7
    """Pixels whose weight is below this share of the mean weight do not enter the median."""
    good_bits: str = eqx.field(static=True, default="~DO_NOT_USE")
    """DQ bits that are tolerated in a pixel of the median; a leading ~ names those that are not."""
    pairs: Literal["prediction", "both"] = eqx.field(static=True, default="prediction")
    """Of two integrations that differ, flag the one that a prediction of the star's light speaks against; or both."""
    mismatch: float = 0.1
    """Share by which the star's light may differ between two integrations without a cosmic ray (for pairs). What counts
    of that light is what a pixel's neighbours do not predict: smooth changes flag nothing."""
    skip: bool = eqx.field(static=True, default=False)
    """Leave the step out; NaN and DO_NOT_USE are still made to agree."""

    def __check_init__(self) -> None:
        """Refuse values that make no sense."""
        _check_number("outlier_detection.snr", self.snr, 0, above=True)
        _check_number("outlier_detection.maskpt", self.maskpt, 0, 1)
        _check_number("outlier_detection.mismatch", self.mismatch, 0)
        _check_bits("outlier_detection.good_bits", self.good_bits)
        _check_choice(self, "outlier_detection.", "pairs")


class Background(eqx.Module):
    """Subtract the median of the association's background exposures; without any, a pedestal of every frame."""

    skip: bool = eqx.field(static=True, default=False)
    """Leave backgrounds and pedestals in."""


class AlignRefs(eqx.Module):
    """Repair bad pixels, then align every reference image to the first science integration."""

    repair: Literal["neighbours", "box"] = eqx.field(static=True, default="neighbours")
    """Fill bad pixels from the nearest good ones, however far; or from the median of a box, 0 where that is empty."""
    median_box_length: int = eqx.field(static=True, default=3)
    """Side of the box, pixels."""
    bad_bits: str = eqx.field(static=True, default="DO_NOT_USE")
    """DQ bits that make a pixel bad; NaN is always bad."""
    minimiser: Literal["newton", "lmdif"] = eqx.field(static=True, default="newton")
    """Newton's method from the best integer shift; or, from no shift, to where MINPACK's lmdif stops."""
    pedestal: bool = eqx.field(static=True, default=True)
    """Fit a constant level along with shift and scale."""
    weighting: Literal["noise", "mask"] = eqx.field(static=True, default="noise")
    """Weigh pixels by the PSF mask and what noise and differing PSFs will leave there; or by the mask alone."""
    use_repaired: bool = eqx.field(static=True, default=False)
    """Let repaired pixels take part in the registration."""
    padding: int = eqx.field(static=True, default=16)
    """Width of the tapered border around a frame that is shifted, pixels; 0 takes the frame to be periodic."""
    blur: bool = eqx.field(static=True, default=True)
    """Blur undersampled frames to the Nyquist limit before they are shifted."""
    skip: bool = eqx.field(static=True, default=False)
    """Subtract the reference images where they lie; bad pixels are still repaired."""

    def __check_init__(self) -> None:
        """Refuse values that make no sense."""
        _check_number("align_refs.median_box_length", self.median_box_length, 0, whole=True)
        _check_bits("align_refs.bad_bits", self.bad_bits)
        _check_number("align_refs.padding", self.padding, 0, whole=True)
        _check_choice(self, "align_refs.", "repair")
        _check_choice(self, "align_refs.", "weighting")
        _check_choice(self, "align_refs.", "minimiser")


class Klip(eqx.Module):
    """Model the star by the leading Karhunen-Loeve modes of the reference images and subtract it."""

    truncate: int = 50
    """Number of KL modes kept; more than there are references means all of them."""
    max_modes: int | None = eqx.field(static=True, default=None)
    """Most modes that `truncate` may ask for. Of more than 2000 references only so many modes are then computed, far
    faster, and nothing can be differentiated by the references; those not found are not kept (`n_modes`). None: all."""
    use_repaired: bool = eqx.field(static=True, default=False)
    """Let repaired pixels decide the weights of the references."""
    error: Literal["propagated", "scatter"] = eqx.field(static=True, default="propagated")
    """Noise of detector and references and the scatter of residual speckles; or the scatter of the references."""
    skip: bool = eqx.field(static=True, default=False)
    """Leave the star in."""

    def __check_init__(self) -> None:
        """Refuse values that make no sense."""
        _check_number("klip.truncate", self.truncate, 0, whole=True)
        _check_number("klip.max_modes", self.max_modes, 1, whole=True)
        _check_choice(self, "klip.", "error")


class Star(eqx.Module):
    """Find the star in every science exposure, and make the WCS of all agree on it."""

    source: Literal["auto", "data", "header", "wcs"] = eqx.field(static=True, default="auto")
    """Fit of a model of the star behind the mask; the header's reference pixel; the WCS as it is. Auto: the fit where
    it is reliable, else the header."""
    positions: tuple[tuple[float, float], ...] | None = None
    """0-based pixel (x, y) of the star in every science exposure; takes precedence over `source`."""

    def __check_init__(self) -> None:
        """Refuse values that make no sense."""
        _check_choice(self, "star.", "source")
        for position in self.positions or ():
            for value in position:
                _check_number("star.positions", value)


class Resample(eqx.Module):
    """Drizzle all integrations of all exposures onto one image of the sky."""

    pixfrac: float = 1.0
    """Side of the square that a pixel drops onto the output, in input pixels, 0 < pixfrac <= 1."""
    kernel: Literal["square"] = eqx.field(static=True, default="square")
    """How a pixel's light is spread over the output."""
    pixel_scale_ratio: float = 1.0
    """Output over input pixel scale."""
    pixel_scale: float | None = None
    """Output pixel scale, arcsec; takes precedence over pixel_scale_ratio."""
    rotation: float | None = None
    """Position angle of the output's y axis, degrees; by default that of the first science exposure."""
    output_shape: tuple[int, int] | None = eqx.field(static=True, default=None)
    """Output size (nx, ny); by default what holds every exposure."""
    crpix: tuple[float, float] | None = None
    """0-based pixel (x, y) of the output's reference point."""
    crval: tuple[float, float] | None = None
    """Right ascension and declination of the output's reference point, degrees."""
    weight_type: Literal["ivm", "exptime"] = eqx.field(static=True, default="ivm")
    """Weight pixels by inverse read-noise variance or by exposure time."""
    variances: Literal["propagated", "drizzled"] = eqx.field(static=True, default="propagated")
    """Add variances up with the square of each pixel's share; or drizzle their roots like an image."""
    cut_pixels: bool = eqx.field(static=True, default=True)
    """Use every pixel; or leave out those that the drizzle package skips where the output's frame cuts the image."""
    flags: bool = eqx.field(static=True, default=True)
    """Give the sky image data quality flags."""
    fillval: float = float("nan")
    """Value of output pixels that no input reaches."""
    skip: bool = eqx.field(static=True, default=False)
    """Make no sky image."""

    def __check_init__(self) -> None:
        """Refuse values that make no sense."""
        _check_number("resample.pixfrac", self.pixfrac, 0, 1, above=True)
        _check_number("resample.pixel_scale_ratio", self.pixel_scale_ratio, 0, above=True)
        _check_number("resample.pixel_scale", self.pixel_scale, 0, above=True)
        _check_number("resample.rotation", self.rotation)
        for name, low in (("output_shape", 2), ("crpix", -math.inf), ("crval", -math.inf)):
            for value in getattr(self, name) or ():
                _check_number(f"resample.{name}", value, low, whole=name == "output_shape")
        if isinstance(self.fillval, str):
            raise OptionsError(f"resample.fillval={self.fillval!r} must be a number, or nan")
        _check_choice(self, "resample.", "kernel")
        _check_choice(self, "resample.", "weight_type")
        _check_choice(self, "resample.", "variances")


class Options(eqx.Module):
    """The options of a whole reduction.

    Example:
        >>> Options(klip=Klip(truncate=20)).klip.truncate
        20
    """

    outlier_detection: OutlierDetection = OutlierDetection()
    background: Background = Background()
    align_refs: AlignRefs = AlignRefs()
    klip: Klip = Klip()
    star: Star = Star()
    resample: Resample = Resample()
    precision: Literal["float64", "float32"] = eqx.field(static=True, default="float64")
    """Precision of registration and KLIP; resampling works out areas in that of the pixel maps and sums in that of the
    cubes. float64 needs JAX's x64 mode, which `run` sees to. float32 costs 1e-4 of the residual scatter, with the
    18 references of a NIRCam observation as with 100 and speckles of 5 % of the star, and 2e-4 of it in resampling."""

    def __check_init__(self) -> None:
        """Refuse values that make no sense together."""
        _check_choice(self, "", "precision")
        if self.precision == "float32" and self.align_refs.minimiser == "lmdif":
            raise OptionsError("align_refs.minimiser='lmdif' stops by float64 rounding: it needs precision='float64'")

    @classmethod
    def official(cls) -> Options:
        """The options that reproduce calwebb_coron3 of jwst 3.0.0 with its registration done in float64."""
        align_refs = AlignRefs(
            repair="box",
            minimiser="lmdif",
            pedestal=False,
            weighting="mask",
            use_repaired=True,
            padding=0,
            blur=False,
        )
        return cls(
            outlier_detection=OutlierDetection(pairs="both"),
            background=Background(skip=True),
            align_refs=align_refs,
            klip=Klip(use_repaired=True, error="scatter"),
            star=Star(source="wcs"),
            resample=Resample(variances="drizzled", cut_pixels=False, flags=False),
        )
