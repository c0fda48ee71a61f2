"""What the subtraction of the star rests on and brings in: the pixels that decide it and the references' noise."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def fit_pixels(
    science: Bool[Array, "t y x"],
    references: Bool[Array, "k y x"],
    *,
    valid_science: Bool[Array, " t"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
    share: float | Float[Array, ""] = 0.95,
) -> Bool[Array, "y x"]:
    r"""Choose the pixels that decide the weights of the references.

    $$ f_p = \bigwedge_t g_{tp} \; \wedge \; \frac{1}{n} \sum_k g_{kp} \ge s $$

    Every plane of a large library has bad pixels of its own: were all of them left out, no pixel would remain. The few
    that are repaired in a twentieth of the planes do no harm.

    Args:
        science: pixels of each integration that were measured, not repaired.
        references: the same of each reference plane, once aligned.
        valid_science: false for padding.
        valid_references: false for padding.
        share: $s$, of the $n$ valid references. Traced.

    Returns:
        True where a pixel takes part. Without a valid plane on one side, the other decides.

    Example:
        >>> good = jnp.ones((2, 1, 3), bool).at[0, 0, 1].set(False)
        >>> fit_pixels(good, jnp.ones((5, 1, 3), bool).at[1:, 0, 2].set(False)).tolist()
        [[True, False, False]]
    """
    measured = science if valid_science is None else science | ~valid_science[:, None, None]
    valid = jnp.ones(len(references), bool) if valid_references is None else valid_references
    count = jnp.sum(references & valid[:, None, None], axis=0)
    # A little slack, so that rounding in share * n decides nothing.
    return jnp.all(measured, axis=0) & (count + 1e-3 >= share * jnp.sum(valid))


def references_variance(
    weights: Float[Array, "t k"],
    variances: Float[Array, "k y x"],
    *,
    valid_science: Bool[Array, " t"] | None = None,
    valid_references: Bool[Array, " k"] | None = None,
) -> Float[Array, "y x"]:
    r"""Variance that the noise of the references brings into an exposure.

    $$ v_p = \sum_k \bar w_k^2 \, v_{kp}, \qquad \bar w_k = \frac{1}{n} \sum_t w_{tk} $$

    All integrations of an exposure subtract the same references with nearly the same weights, so that this noise is
    common to them: it does not average down.

    Args:
        weights: of each reference in each integration.
        variances: of the aligned references, (MJy/sr)^2; what is not finite counts as 0.
        valid_science: false for padding.
        valid_references: false for padding.

    Returns:
        Variance of the mean of the integrations due to the references, (MJy/sr)^2.

    Example:
        >>> references_variance(jnp.array([[0.5, 0.0], [0.5, 1.0]]), jnp.ones((2, 1, 1))).tolist()
        [[0.5]]
    """
    counted = jnp.ones(len(weights), bool) if valid_science is None else valid_science
    kept = jnp.where(counted[:, None], weights, 0)
    mean = jnp.sum(kept, axis=0) / jnp.maximum(jnp.sum(counted), 1)
    usable = jnp.isfinite(variances)
    if valid_references is not None:
        usable, mean = usable & valid_references[:, None, None], jnp.where(valid_references, mean, 0)
    return jnp.tensordot(mean**2, jnp.where(usable, variances, 0), 1, precision="highest")
