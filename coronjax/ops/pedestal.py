"""The background level of a frame, between the star and its noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .median import sorted_values

WINDOW = 1.5  # standard deviations on either side of the level that decide it
ITERATIONS = 12  # each halves the distance to the fixed point
SPREAD = 1.447  # standard deviation of the level over sigma / sqrt(n), for that window and Gaussian noise
NORMAL = 1.4826  # standard deviation over the median deviation of Gaussian noise


class Pedestal(eqx.Module):
    """A constant level and how well it is known."""

    level: Float[Array, ""]  # unit of the image
    standard_error: Float[Array, ""]  # of the level, for independent pixel noise; carries no derivative
    sigma: Float[Array, ""]  # scatter of the pixels about the level; carries no derivative
    n_pixels: Int[Array, ""]  # that decided; 0 means that nothing is known, and the level is 0


def pedestal(image: Float[Array, "y x"], good: Bool[Array, "y x"]) -> Pedestal:
    r"""Find the level about which the faint pixels of a frame scatter.

    $$ b = \frac{1}{|W|} \sum_{i \in W} d_i, \qquad W = \{ i : g_i, \; |d_i - b| \le 1.5 \, \sigma \}, \qquad
       \sigma = 1.4826 \operatorname{median} \{ b - d_i : g_i, \; d_i < b \} $$

    from the median, iterated to the fixed point. Sigma comes from the pixels below the level, which light does not
    reach, and the window is symmetric: noise does not bias the level. Where the star's halo lies over half of the
    pixels it does, by 0.1 to 0.2 sigma; choose `good` far from the star.

    Args:
        image: any unit. Values where `good` is false are ignored, NaN included.
        good: which pixels may decide.

    Returns:
        `Pedestal`. The standard error is that of Gaussian noise, $1.447 \, \sigma / \sqrt n$ for $n$ good pixels.

    Raises:
        ValueError: `image` and `good` differ in shape.

    Example:
        >>> image = jnp.full((6, 6), 2.0).at[3, 3].set(500.0)
        >>> pedestal(image, jnp.ones((6, 6), bool)).level.item()
        2.0

    Source: Huber 1981, Robust Statistics, chapter 3 (the "skipped" mean and its variance).
    """
    if image.shape != good.shape:
        raise ValueError(f"image has shape {image.shape} and good {good.shape}")
    good = good & jnp.isfinite(image)
    values = jnp.where(good, image, 0)
    fixed = jax.lax.stop_gradient(values)
    ordered = sorted_values(jnp.where(good, fixed, jnp.inf).ravel())
    n_good = jnp.sum(good, dtype=jnp.int32)

    def window(level: Array) -> tuple[Array, Array]:
        below = jnp.sum(ordered < level, dtype=jnp.int32)
        sigma = jnp.where(below > 0, NORMAL * (level - _middle(ordered, below)), 0)
        return good & (jnp.abs(fixed - level) <= WINDOW * sigma), sigma

    def step(_: int, level: Array) -> Array:
        chosen = window(level)[0]
        count = jnp.sum(chosen, dtype=jnp.int32)
        return jnp.where(count > 0, jnp.sum(jnp.where(chosen, fixed, 0)) / jnp.maximum(count, 1), level)

    centre = jax.lax.fori_loop(0, ITERATIONS, step, _middle(ordered, n_good))
    chosen, sigma = window(centre)
    n_chosen = jnp.sum(chosen, dtype=jnp.int32)
    mean = jnp.sum(jnp.where(chosen, values, 0)) / jnp.maximum(n_chosen, 1)
    # Of a few pixels none may lie so near to their level.
    level = jnp.where(n_chosen > 0, mean, centre)
    return Pedestal(level, SPREAD * sigma / jnp.sqrt(jnp.maximum(n_good, 1).astype(sigma.dtype)), sigma, n_chosen)


def _middle(ordered: Float[Array, " n"], count: Int[Array, ""]) -> Float[Array, ""]:
    """The median of the first `count` values, which are in order and finite; 0 of none."""
    pair = ordered[jnp.stack([jnp.maximum(count - 1, 0) // 2, jnp.minimum(count // 2, ordered.size - 1)])]
    return jnp.mean(jnp.where(count > 0, pair, 0))
