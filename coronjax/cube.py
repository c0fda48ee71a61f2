"""A cube of integrations as an immutable pytree, and the DQ bits that say which pixels to trust."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

VARIANCES = ("var_poisson", "var_rnoise", "var_flat")  # of a cube that has them


class DQ(enum.IntFlag):
    """The bits of a JWST data quality array that coronagraphic processing meets.

    Source: JWST pipeline documentation, "Data Quality Flags".
    """

    DO_NOT_USE = 1
    SATURATED = 2
    JUMP_DET = 4
    DROPOUT = 8
    OUTLIER = 16
    PERSISTENCE = 32
    AD_FLOOR = 64
    CHARGELOSS = 128
    UNRELIABLE_ERROR = 256
    NON_SCIENCE = 512
    DEAD = 1024
    HOT = 2048
    WARM = 4096
    LOW_QE = 8192
    RC = 16384
    TELEGRAPH = 32768
    NONLINEAR = 65536
    BAD_REF_PIXEL = 131072
    NO_FLAT_FIELD = 262144
    NO_GAIN_VALUE = 524288
    NO_LIN_CORR = 1048576
    NO_SAT_CHECK = 2097152
    UNRELIABLE_BIAS = 4194304
    UNRELIABLE_DARK = 8388608
    UNRELIABLE_SLOPE = 16777216
    UNRELIABLE_FLAT = 33554432
    OPEN = 67108864
    ADJ_OPEN = 134217728
    FLUX_ESTIMATED = 268435456
    MSA_FAILED_OPEN = 536870912
    OTHER_BAD_PIXEL = 1073741824
    REFERENCE_PIXEL = 2147483648


def parse_bits(text: str) -> tuple[int, bool]:
    """Read a set of DQ bits written as names or numbers, joined by `,` or `+`.

    Args:
        text: for example `"DO_NOT_USE"`, `"HOT+WARM"`, `"1,2048"`, `"~DO_NOT_USE"` or `""`.

    Returns:
        The bits as one integer, and whether a leading `~` asks for their complement.

    Raises:
        ValueError: a name that is no DQ bit, or more than 32 bits.

    Example:
        >>> parse_bits("~HOT+WARM")
        (6144, True)
    """
    complement = text.strip().startswith("~")
    bits = 0
    for word in text.strip().lstrip("~").replace("+", ",").split(","):
        word = word.strip()
        if word.isdigit():
            bits |= int(word)
        elif word in DQ.__members__:
            bits |= DQ[word].value
        elif word and word.lower() != "none":
            raise ValueError(f"{word!r} is not a DQ bit; known are {', '.join(DQ.__members__)}")
    if bits >= 2**32:
        raise ValueError(f"{bits} does not fit into the 32 bits of a DQ array")
    return bits, complement


class Cube(eqx.Module):
    """A stack of integrations, pixel by pixel: values, errors, flags and variances.

    The leading axes may be one (integrations of an exposure, planes of a stack) or two (exposures, integrations).
    Planes where `valid` is false are padding: they change no value and no gradient.
    """

    sci: Float[Array, "*planes y x"]  # surface brightness, MJy/sr
    err: Float[Array, "*planes y x"]  # its standard deviation, MJy/sr
    dq: UInt32[Array, "*planes y x"]  # data quality bits
    valid: Bool[Array, "*planes"]  # false: padding
    var_poisson: Float[Array, "*planes y x"] | None = None  # (MJy/sr)^2; None: the files have none
    var_rnoise: Float[Array, "*planes y x"] | None = None
    var_flat: Float[Array, "*planes y x"] | None = None


def of_one_dtype(cube: Cube) -> Cube:
    """Take errors and variances to the dtype of the values.

    Args:
        cube: with floats of any dtypes.

    Returns:
        A cube whose floats have the dtype of `sci`.

    Example:
        >>> sci = jnp.ones((1, 2, 2), jnp.float32)
        >>> cube = Cube(sci, sci.astype(float), jnp.zeros((1, 2, 2), jnp.uint32), jnp.ones(1, bool))
        >>> of_one_dtype(cube).err.dtype
        dtype('float32')
    """
    fields: dict[str, Any] = {}
    for name in ("err", *VARIANCES):
        array = getattr(cube, name)
        fields[name] = None if array is None else array.astype(cube.sci.dtype)
    return dataclasses.replace(cube, **fields)


def unusable(cube: Cube) -> Bool[Array, "*planes y x"]:
    """Pixels that are NaN in any array, or flagged DO_NOT_USE.

    Args:
        cube: integrations.

    Returns:
        True where a pixel is not to be used.

    Example:
        >>> one = jnp.ones((1, 1, 2))
        >>> unusable(Cube(one, one, jnp.array([[[1, 4]]], jnp.uint32), jnp.ones(1, bool))).tolist()
        [[[True, False]]]

    Source: calwebb_coron3 of jwst 3.0.0, outlier detection and resampling both begin so.
    """
    bad = (cube.dq & DQ.DO_NOT_USE.value) != 0
    for array in (cube.sci, cube.err, cube.var_poisson, cube.var_rnoise, cube.var_flat):
        if array is not None:
            bad = bad | jnp.isnan(array)
    return bad


def masked(cube: Cube, bad: Bool[Array, "*planes y x"]) -> Cube:
    """Make pixels NaN in every array, and DO_NOT_USE.

    Args:
        cube: integrations.
        bad: which pixels.

    Returns:
        A cube of the same shape.

    Example:
        >>> one = jnp.ones((1, 1, 2))
        >>> cube = Cube(one, one, jnp.zeros((1, 1, 2), jnp.uint32), jnp.ones(1, bool))
        >>> masked(cube, jnp.array([[[True, False]]])).sci.tolist()
        [[[nan, 1.0]]]
    """
    fields: dict[str, Any] = {"dq": jnp.where(bad, cube.dq | jnp.uint32(DQ.DO_NOT_USE.value), cube.dq)}
    for name in ("sci", "err", *VARIANCES):
        array = getattr(cube, name)
        fields[name] = None if array is None else jnp.where(bad, jnp.nan, array)
    return dataclasses.replace(cube, **fields)
