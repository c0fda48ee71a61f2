"""Fill the holes of an image from its good pixels, however far: coarse to fine, then as smoothly as optics allow."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

TENSION = 0.3  # of the membrane against the plate; keeps what lies beyond the last good pixel from running away
SWEEPS = 16  # of the relaxation; the holes they reach are about as many pixels across as its square root
STIFFEST = 64.0 + 8.0 * TENSION  # eigenvalue of the chequerboard, the largest
SOFTEST = 1.0  # the least of a hole of 5 x 5 pixels
EDGE = 2  # pixels that the bending of a pixel reaches to
SMALL = 100  # pixels along an axis: matrix products are then as fast as sums of slices, and compile far faster


def from_coarser(image: Float[Array, "y x"], good: Bool[Array, "y x"]) -> Float[Array, "y x"]:
    """Fill holes with weighted means of good pixels, from ever coarser images: positive stays positive.

    Args:
        image: any unit; ignored where `good` is false, yet finite.
        good: which pixels are measured.

    Returns:
        The image without holes; 0 everywhere where nothing is good.
    """
    weight = jnp.asarray(good, image.dtype)
    return _pull(jnp.where(good, image, 0), weight)


def _pull(total: Float[Array, "y x"], weight: Float[Array, "y x"]) -> Float[Array, "y x"]:
    """Fill one level: its own mean as far as its weight goes, the coarser level's for the rest."""
    if max(total.shape) == 1:
        return total / jnp.where(weight > 0, weight, 1)
    below = _pull(_halved(total), _halved(weight))
    own = jnp.minimum(weight, 1)
    mean = total / jnp.where(weight > 0, weight, 1)
    return own * mean + (1 - own) * _doubled(below, total.shape)


def _halved(image: Float[Array, "y x"]) -> Float[Array, "i j"]:
    """Sums over overlapping tents four pixels wide, two pixels apart; outside there is nothing.

    Not normalised: a coarse pixel counts in full as soon as it saw about one good pixel.
    """
    if max(image.shape) <= SMALL:
        return _along_both([_halving(n) for n in image.shape], image)
    for axis in (0, 1):
        n = image.shape[axis]
        image = jnp.moveaxis(image, axis, 0)
        padded = jnp.pad(image, ((1, 2 + n % 2), (0, 0)))
        size = 2 * ((n + 1) // 2)
        one, two, three, four = (padded[i : i + size : 2] for i in range(4))
        image = jnp.moveaxis((one + 3 * two + 3 * three + four) / 4, 0, axis)
    return image


def _doubled(image: Float[Array, "i j"], shape: tuple[int, ...]) -> Float[Array, "y x"]:
    """Linear interpolation to twice the size, constant beyond the edge, cut to `shape`."""
    if max(shape) <= SMALL:
        return _along_both([_doubling(n) for n in shape], image)
    for axis, n in enumerate(shape):
        image = jnp.moveaxis(image, axis, 0)
        padded = jnp.pad(image, ((1, 1), (0, 0)), mode="edge")
        both = jnp.stack([3 * image + padded[:-2], 3 * image + padded[2:]], axis=1) / 4
        image = jnp.moveaxis(both.reshape(-1, image.shape[1])[:n], 0, axis)
    return image


def _along_both(matrices: list[np.ndarray], image: Array) -> Array:
    down, across = (jnp.asarray(matrix, image.dtype) for matrix in matrices)
    return jnp.matmul(jnp.matmul(down, image, precision="highest"), across.T, precision="highest")


def _halving(n: int) -> np.ndarray:
    """What `_halved` does along an axis of n pixels, as a matrix."""
    half = (n + 1) // 2
    offset = np.arange(n) - 2 * np.arange(half)[:, None]
    return np.select([(offset == 0) | (offset == 1), (offset == -1) | (offset == 2)], [0.75, 0.25], 0.0)


def _doubling(n: int) -> np.ndarray:
    """What `_doubled` does along an axis of n pixels, as a matrix."""
    half, fine = (n + 1) // 2, np.arange(n)
    beside = np.clip(fine // 2 + np.where(fine % 2 == 0, -1, 1), 0, half - 1)
    coarse = np.arange(half)
    return np.asarray(0.75 * (coarse == fine[:, None] // 2) + 0.25 * (coarse == beside[:, None]))


def relax(start: Float[Array, "y x"], free: Bool[Array, "y x"]) -> Float[Array, "y x"]:
    r"""Move the free pixels towards the least bending of a plate under tension through the others.

    $$ \min_u \sum (\Delta u)^2 + \tau \, |\nabla u|^2 $$

    by Chebyshev's iteration: a fixed polynomial of the operator, so the result is linear in `start`. What varies over
    more pixels than the iteration reaches stays as it is.

    Args:
        start: an image without holes.
        free: which pixels may move.
    """
    mask = jnp.asarray(free, start.dtype)
    middle, half = (STIFFEST + SOFTEST) / 2, (STIFFEST - SOFTEST) / 2
    ratios = [half / middle]
    for _ in range(SWEEPS - 1):
        ratios.append(1 / (2 * middle / half - ratios[-1]))
    # The first sweep is a plain step: its momentum meets no previous one.
    momentum = np.array([0.0] + [new * old for old, new in pairwise(ratios)])
    step = np.array([1 / middle] + [2 * new / half for new in ratios[1:]])

    def sweep(carry: tuple, numbers: tuple[Array, Array]) -> tuple[tuple, None]:
        framed, image, change = carry
        change = numbers[0] * change + numbers[1] * mask * _force(framed)
        image = image + change
        return (_mirrored(framed, image), image, change), None

    numbers = jnp.asarray(momentum, start.dtype), jnp.asarray(step, start.dtype)
    framed = jnp.pad(start, EDGE, mode="symmetric")
    return jax.lax.scan(sweep, (framed, start, jnp.zeros_like(start)), numbers)[0][1]


def _force(framed: Float[Array, "i j"]) -> Float[Array, "y x"]:
    r"""$\tau \Delta u - \Delta \Delta u$ of an image in its mirrored edge: the differences beyond it are none."""
    ny, nx = (n - 2 * EDGE for n in framed.shape)

    def at(*steps: tuple[int, int]) -> Array:
        first, *others = (framed[EDGE + j : EDGE + j + ny, EDGE + i : EDGE + i + nx] for j, i in steps)
        return sum(others, first)

    itself, near = at((0, 0)), at((0, 1), (0, -1), (1, 0), (-1, 0))
    diagonal, far = at((1, 1), (1, -1), (-1, 1), (-1, -1)), at((0, 2), (0, -2), (2, 0), (-2, 0))
    return TENSION * (near - 4 * itself) - (20 * itself - 8 * near + 2 * diagonal + far)


def _mirrored(framed: Float[Array, "i j"], image: Float[Array, "y x"]) -> Float[Array, "i j"]:
    """Put an image into its frame and mirror it there, in place: to pad it anew would copy it several times.

    All that is written comes from the image, none from the frame, or the compiler copies that first.
    """
    rows, columns = (np.pad(np.arange(n), EDGE, mode="symmetric") for n in image.shape)
    framed = framed.at[EDGE:-EDGE, EDGE:-EDGE].set(image)
    for beyond in (slice(None, EDGE), slice(-EDGE, None)):
        framed = framed.at[beyond, EDGE:-EDGE].set(image[rows[beyond]])
        framed = framed.at[:, beyond].set(image[:, columns[beyond]][rows])
    return framed
