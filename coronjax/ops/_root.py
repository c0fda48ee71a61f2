"""A square root whose derivative is finite everywhere."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def root(square: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The square root of what is positive; 0 with derivative 0 of the rest; NaN of NaN."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), jnp.where(jnp.isnan(square), jnp.nan, 0))
