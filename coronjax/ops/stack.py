"""Put the integrations of all reference exposures into one stack."""

import equinox as eqx
import jax

from ..cube import Cube


def stack_references(references: Cube) -> Cube:
    """Join the exposures and integrations axes of the references into one axis of planes.

    Args:
        references: exposures of reference stars, `[exposure, integration, y, x]`, MJy/sr.

    Returns:
        A cube `[exposure * integration, y, x]` in the order of exposures, then integrations. It has no variances: the
        reference images are a model of the star from here on, and their detector noise is in `err`.

    Raises:
        ValueError: `references` has no axis of exposures.

    Example:
        >>> shape = (2, 3, 4, 4)
        >>> cube = Cube(jnp.ones(shape), jnp.ones(shape), jnp.zeros(shape, jnp.uint32), jnp.ones((2, 3), bool))
        >>> stack_references(cube).sci.shape
        (6, 4, 4)

    Source: stack_refs of jwst 3.0.0.
    """
    if references.sci.ndim != 4:
        raise ValueError(f"references has shape {references.sci.shape}, not [exposure, integration, y, x]")
    bare = eqx.tree_at(
        lambda cube: (cube.var_poisson, cube.var_rnoise, cube.var_flat),
        references,
        (None, None, None),
        is_leaf=lambda leaf: leaf is None,
    )
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), bare)
