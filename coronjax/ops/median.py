"""The median over planes, pixel by pixel, of the planes that are usable there."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._blocks import Zones, over_blocks
from ._devices import by_pixels
from ._machine import has_wide_registers

# Pixels, so few that their bits stay in the processor's cache, and their counts in its registers of 256 bits.
BLOCK, SMALL_BLOCK = 256, 64
LARGEST_NETWORK = 16  # planes; a network of more comparators compiles and runs slower than the bisection


def nanmedian(stack: Float[Array, "n y x"], usable: Bool[Array, "n y x"]) -> Float[Array, "y x"]:
    r"""Take the median of the usable, finite-or-infinite but not NaN, values of each pixel.

    $$ m = \tfrac12 \left( v_{(\lfloor (n-1)/2 \rfloor)} + v_{(\lfloor n/2 \rfloor)} \right) $$

    over the $n$ usable values in ascending order: the middle one, or the mean of the two middle ones. Exact, with no
    sort: a sorting network for few planes, a bisection on the bits of the floats for many.

    Args:
        stack: planes, any unit; float32 or float64.
        usable: which values count; NaN never does.

    Returns:
        The median, NaN where no plane is usable. The derivative is that of the values picked.

    Raises:
        ValueError: `stack` and `usable` differ in shape.

    Example:
        >>> nanmedian(jnp.array([1.0, 9.0, 2.0]).reshape(3, 1, 1), jnp.ones((3, 1, 1), bool)).item()
        2.0

    Source: the definition of `numpy.nanmedian`. Network: K. E. Batcher (1968), "Sorting networks and their
    applications".
    """
    if stack.shape != usable.shape:
        raise ValueError(f"stack has shape {stack.shape} and usable {usable.shape}")
    return by_pixels(lambda images, *_: (_median(*images), None), (stack, usable))[0]


def _median(stack: Array, usable: Array) -> Array:
    if len(stack) <= LARGEST_NETWORK:
        usable = usable & ~jnp.isnan(stack)
        return median_of_few(list(jnp.where(usable, stack, jnp.inf)), jnp.sum(usable, axis=0, dtype=jnp.int32))
    planes, good = stack.reshape(len(stack), -1), usable.reshape(len(stack), -1)
    found = jax.lax.platform_dependent(planes, good, cpu=_block_by_block, default=_middle)
    return found.reshape(stack.shape[1:])


def _block_by_block(planes: Array, good: Array) -> Array:
    wide = has_wide_registers()
    size = BLOCK if wide else SMALL_BLOCK

    def one(part: tuple[Array, Array], _: object) -> Array:
        return _middle(*part, in_bytes=wide)

    return over_blocks(lambda b: (b.of(planes), b.of(good)), one, Zones(), planes.shape, size=size)


def _middle(stack: Array, usable: Array, in_bytes: bool = True) -> Array:
    """Mean of the two middle values that are usable; NaN where none is."""
    usable = usable & ~jnp.isnan(stack)
    count = jnp.sum(usable, axis=0, dtype=jnp.int32)
    lower, upper = _select_by_bisection(in_bytes, jnp.where(usable, stack, 0), usable, count)
    return jnp.where(count > 0, (lower + upper) / 2, jnp.nan)


def _comparators(n: int) -> list[tuple[int, int]]:
    """Batcher's odd-even merge sort: the pairs of positions to put in order, one after another."""
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    return pairs


def _ordered_pair(a: Array, b: Array) -> tuple[Array, Array]:
    """The lesser of two and the greater, neither NaN: one instruction each, where `jnp.minimum` takes five."""
    ordered = a < b
    return jax.lax.select(ordered, a, b), jax.lax.select(ordered, b, a)


def median_of_few(planes: list[Float[Array, "y x"]], count: Int[Array, "y x"]) -> Float[Array, "y x"]:
    """The median of the values that count, pixel by pixel, by a sorting network; for few planes.

    Args:
        planes: infinity where a value does not count.
        count: how many of every pixel do.

    Returns:
        The median; NaN where nothing counts.
    """
    planes = list(planes)
    for low, high in _comparators(len(planes)):
        planes[low], planes[high] = _ordered_pair(planes[low], planes[high])

    # No plane has rank -1: where nothing counts, no infinity is picked.
    some, nothing = count > 0, jnp.zeros_like(planes[0])

    def pick(rank: Array) -> Array:
        chosen = nothing
        for k, plane in enumerate(planes[: len(planes) // 2 + 1]):  # no middle lies higher
            chosen = jax.lax.select(rank == k, plane, chosen)
        return chosen

    middle = (pick((count - 1) >> 1) + pick(jnp.where(some, count >> 1, -1))) / 2
    return jnp.where(some, middle, jnp.nan)


def _ordered(values: Array) -> Array:
    """Signed integers in the order of the floats; applied to those, with the kinds exchanged, the floats again."""
    kind = jnp.int32 if values.dtype.itemsize == 4 else jnp.int64
    back = jnp.issubdtype(values.dtype, jnp.integer)
    bits = values if back else jax.lax.bitcast_convert_type(values, kind)
    bits = jnp.where(bits < 0, bits ^ jnp.iinfo(kind).max, bits)  # a negative float falls as its other bits rise
    return jax.lax.bitcast_convert_type(bits, jnp.float32 if kind == jnp.int32 else jnp.float64) if back else bits


def sorted_values(values: Float[Array, " n"]) -> Float[Array, " n"]:
    """Sort floats that are not NaN: as integers, whose comparison the compiler makes several times faster."""
    return _ordered(jax.lax.sort(_ordered(values)))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _select_by_bisection(in_bytes: bool, values: Array, usable: Array, count: Array) -> tuple[Array, Array]:
    """The two middle values, their bits found from the highest down by counting what lies below."""
    bits = _ordered(values)
    kind, width = bits.dtype, jnp.iinfo(bits.dtype).bits
    highest = jnp.iinfo(kind).max
    bits = jnp.where(usable, bits, highest)  # above all values: counted where there are none
    # The narrower the counts, the more of them are added at once, unless to compare makes numbers wide as the values.
    few = jnp.uint8 if in_bytes and len(values) < 256 else jnp.int32
    rank, upper_rank = ((count - 1) >> 1).astype(few), (count >> 1).astype(few)

    def step(i: int, found: Array) -> Array:
        trial = found ^ (jnp.ones((), kind) << jnp.asarray(width - 1 - i, kind))  # the first one is the sign
        return jnp.where(jnp.sum(bits < trial, axis=0, dtype=few) <= rank, trial, found)

    low = jax.lax.fori_loop(0, width, step, jnp.full(count.shape, jnp.iinfo(kind).min, kind))
    not_above = jnp.sum(bits <= low, axis=0, dtype=few)
    next_up = jnp.min(jnp.where(bits > low, bits, highest), axis=0)
    return _ordered(low), _ordered(jnp.where(not_above > upper_rank, low, next_up))


@_select_by_bisection.defjvp
def _select_by_bisection_jvp(in_bytes: bool, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    values, usable, count = primals
    found = _select_by_bisection(in_bytes, values, usable, count)

    def picked(target: Array) -> Array:
        plane = jnp.argmax(usable & (values == target), axis=0)
        return jnp.take_along_axis(tangents[0], plane[None], axis=0)[0]

    return found, (picked(found[0]), picked(found[1]))
