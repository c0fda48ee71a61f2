"""The median over planes, pixel by pixel, of the planes that are usable there."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt

from ._blocks import Block, over_blocks
from ._devices import by_pixels

BLOCK = 1024  # pixels
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
    usable = usable & ~jnp.isnan(stack)
    count = jnp.sum(usable, axis=0)
    values = jnp.where(usable, stack, 0)
    if stack.shape[0] <= LARGEST_NETWORK:
        lower, upper = _select_by_network(values, usable, count)
    else:
        lower, upper = _select_in_blocks(values, usable, count)
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


def _select_by_network(values: Array, usable: Array, count: Array) -> tuple[Array, Array]:
    """The two middle values, from planes sorted with the unusable ones last."""
    planes = list(jnp.where(usable, values, jnp.inf))
    for low, high in _comparators(len(planes)):
        planes[low], planes[high] = jnp.minimum(planes[low], planes[high]), jnp.maximum(planes[low], planes[high])

    def pick(rank: Array) -> Array:
        chosen = jnp.zeros_like(planes[0])
        for k, plane in enumerate(planes):
            chosen = jnp.where((rank == k) & (count > 0), plane, chosen)
        return chosen

    return pick((count - 1) >> 1), pick(count >> 1)


def _ordered_bits(values: Float[Array, "n y x"]) -> UInt[Array, "n y x"]:
    """Unsigned integers in the order of the floats."""
    kind = jnp.uint32 if values.dtype == jnp.float32 else jnp.uint64
    bits = jax.lax.bitcast_convert_type(values, kind)
    top = kind(1) << kind(jnp.iinfo(kind).bits - 1)
    return jnp.where(bits & top != 0, ~bits, bits | top)


def _select_in_blocks(values: Array, usable: Array, count: Array) -> tuple[Array, Array]:
    """The two middle values; so few pixels at a time that their bits stay in the processor's cache."""
    stack, good, n = (array.reshape(*array.shape[:-2], -1) for array in (values, usable, count))

    def one(block: Block) -> tuple[Array, Array]:
        return _select_by_bisection(block.of(stack), block.of(good), block.of(n))

    lower, upper = over_blocks(one, n.size, size=BLOCK)
    return lower.reshape(count.shape), upper.reshape(count.shape)


def _select_by_bisection(values: Array, usable: Array, count: Array) -> tuple[Array, Array]:
    """The two middle values, their bits found from the highest down by counting what lies below."""
    bits = _ordered_bits(jax.lax.stop_gradient(values))
    kind, width = bits.dtype, jnp.iinfo(bits.dtype).bits
    bits = jnp.where(usable, bits, ~jnp.zeros((), kind))  # above all values: counted where there are none
    rank = (count - 1) >> 1

    def step(i: int, found: Array) -> Array:
        trial = found | (jnp.ones((), kind) << jnp.asarray(width - 1 - i, kind))
        below = jnp.sum(bits < trial, axis=0)
        return jnp.where(below <= rank, trial, found)

    low = jax.lax.fori_loop(0, width, step, jnp.zeros(count.shape, kind))
    not_above = jnp.sum(bits <= low, axis=0)
    next_up = jnp.min(jnp.where(bits > low, bits, ~jnp.zeros((), kind)), axis=0)
    high = jnp.where(not_above > count >> 1, low, next_up)

    def pick(target: Array) -> Array:
        plane = jnp.argmax(bits == target, axis=0)
        return jnp.take_along_axis(values, plane[None], axis=0)[0]

    return pick(low), pick(high)
