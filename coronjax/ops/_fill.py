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
    for axis, n in enumerate(shape):
        image = jnp.moveaxis(image, axis, 0)
        padded = jnp.pad(image, ((1, 1), (0, 0)), mode="edge")
        both = jnp.stack([3 * image + padded[:-2], 3 * image + padded[2:]], axis=1) / 4
        image = jnp.moveaxis(both.reshape(-1, image.shape[1])[:n], 0, axis)
    return image


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

    def sweep(carry: tuple[Array, Array], numbers: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        image, change = carry
        bend = _laplacian(image)
        force = TENSION * bend - _laplacian(bend)
        change = numbers[0] * change + numbers[1] * mask * force
        return (image + change, change), None

    numbers = jnp.asarray(momentum, start.dtype), jnp.asarray(step, start.dtype)
    return jax.lax.scan(sweep, (start, jnp.zeros_like(start)), numbers)[0][0]


def _laplacian(image: Float[Array, "y x"]) -> Float[Array, "y x"]:
    """Sum of the differences to the four neighbours; beyond the edge there is none."""
    ny, nx = image.shape
    p = jnp.pad(image, 1, mode="edge")
    return p[:ny, 1:-1] + p[2:, 1:-1] + p[1:-1, :nx] + p[1:-1, 2:] - 4 * image
