"""Every choice a reduction depends on: one frozen class per step and one for the chain.

Numbers are pytree leaves and are traced: changing one never compiles again. Names, switches, sizes and sets of DQ bits
are static.
"""

from __future__ import annotations

from typing import Literal

import equinox as eqx

from .cube import parse_bits
from .errors import OptionsError


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise OptionsError(message)


def _is_number(value: object) -> bool:
    """A number given by a user; tracers and stand-ins of JAX's pytree machinery are not checked."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_bits(name: str, text: str) -> None:
    try:
        parse_bits(text)
    except ValueError as error:
        raise OptionsError(f"{name}: {error}") from None


class OutlierDetection(eqx.Module):
    """Flag cosmic rays against the median of an exposure's integrations."""

    snr: float = 5.0
    """A pixel is an outlier when it differs from the median by more than this many times its error."""
    maskpt: float = 0.7
    """Pixels whose weight is below this share of the mean weight do not enter the median."""
    good_bits: str = eqx.field(static=True, default="~DO_NOT_USE")
    """DQ bits that are tolerated in a pixel of the median; a leading ~ names those that are not."""
    skip: bool = eqx.field(static=True, default=False)
    """Leave the step out; NaN and DO_NOT_USE are still made to agree."""

    def __check_init__(self) -> None:
        """Refuse numbers outside their range."""
        _check(not _is_number(self.snr) or self.snr > 0, f"outlier_detection.snr={self.snr} must be positive")
        _check(
            not _is_number(self.maskpt) or 0 <= self.maskpt <= 1,
            f"outlier_detection.maskpt={self.maskpt} must be in [0, 1]",
        )
        _check_bits("outlier_detection.good_bits", self.good_bits)


class AlignRefs(eqx.Module):
    """Repair bad pixels, then align every reference image to the first science integration."""

    median_box_length: int = eqx.field(static=True, default=3)
    """Side of the box whose median replaces a bad pixel, pixels."""
    bad_bits: str = eqx.field(static=True, default="DO_NOT_USE")
    """DQ bits that make a pixel bad; NaN is always bad."""
    minimiser: Literal["newton", "lmdif"] = eqx.field(static=True, default="newton")
    """Newton's method from the best integer shift; or, from no shift, to where MINPACK's lmdif stops."""
    skip: bool = eqx.field(static=True, default=False)
    """Subtract the reference images where they lie; bad pixels are still repaired."""

    def __check_init__(self) -> None:
        """Refuse numbers outside their range."""
        _check(
            self.median_box_length >= 0, f"align_refs.median_box_length={self.median_box_length} must not be negative"
        )
        _check_bits("align_refs.bad_bits", self.bad_bits)


class Klip(eqx.Module):
    """Model the star by the leading Karhunen-Loeve modes of the reference images and subtract it."""

    truncate: int = 50
    """Number of KL modes kept; more than there are references means all of them."""
    skip: bool = eqx.field(static=True, default=False)
    """Leave the star in."""

    def __check_init__(self) -> None:
        """Refuse numbers outside their range."""
        _check(
            not _is_number(self.truncate) or self.truncate >= 0, f"klip.truncate={self.truncate} must not be negative"
        )


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
    fillval: float = float("nan")
    """Value of output pixels that no input reaches."""
    skip: bool = eqx.field(static=True, default=False)
    """Make no sky image."""

    def __check_init__(self) -> None:
        """Refuse numbers outside their range."""
        _check(
            not _is_number(self.pixfrac) or 0 < self.pixfrac <= 1, f"resample.pixfrac={self.pixfrac} must be in (0, 1]"
        )
        for name in ("pixel_scale_ratio", "pixel_scale"):
            value = getattr(self, name)
            _check(not _is_number(value) or value > 0, f"resample.{name}={value} must be positive")
        _check(
            self.output_shape is None or min(self.output_shape) >= 2,
            f"resample.output_shape={self.output_shape} must be at least 2 x 2",
        )


class Options(eqx.Module):
    """The options of a whole reduction.

    Example:
        >>> Options(klip=Klip(truncate=20)).klip.truncate
        20
    """

    outlier_detection: OutlierDetection = OutlierDetection()
    align_refs: AlignRefs = AlignRefs()
    klip: Klip = Klip()
    resample: Resample = Resample()
    precision: Literal["float64", "float32"] = eqx.field(static=True, default="float64")
    """Precision of registration, KLIP and resampling; float64 needs JAX's x64 mode, which `run` sees to."""

    @classmethod
    def official(cls) -> Options:
        """The options that reproduce calwebb_coron3 of jwst 3.0.0 with its registration done in float64."""
        return cls(align_refs=AlignRefs(minimiser="lmdif"))
