"""Predict the star's light in an exposure from other exposures."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..cube import DQ, Cube
from .median import nanmedian

_MISMATCH = 0.1  # share of the star's light by which another exposure is off, in the weights of the fit
_STEPS = 4  # reweighted fits
_TOLERANCE = 9.0  # squared deviation, over what is expected, at which a pixel has lost half of its weight


def predict_star(
    planes: Float[Array, "k y x"],
    good: Bool[Array, "k y x"],
    valid: Bool[Array, " k"],
    exposure: Cube,
) -> Float[Array, "y x"]:
    r"""Predict the star's light in an exposure: the median of other images of a star, scaled and moved to fit.

    $$ \hat d = a M + b + g_x \, \partial_x M + g_y \, \partial_y M, \qquad M = \operatorname{median}_k R_k $$

    The four numbers minimise the squared deviation from the median of the exposure's integrations over good pixels,
    each weighted by $1 / (\sigma^2 + (0.1 M)^2)$ and, in a few steps, less the more it deviates (Cauchy's weights), so
    that companions and cosmic rays do not count.

    Args:
        planes: images of a star from other exposures, any common unit: every integration, or one median per exposure.
            One that already is the median of all is as good, and cheap to share between exposures.
        good: which of their pixels count; NaN never does.
        valid: which planes count.
        exposure: the integrations to predict, `[int y x]`, MJy/sr.

    Returns:
        The star's light with the exposure's pedestal, MJy/sr; NaN where no plane is good, and everywhere if none is
        valid or the exposure has no good pixel.

    Example:
        >>> y, x = jnp.mgrid[:9, :9] - 4.0
        >>> star = jnp.exp(-(x**2 + y**2) / 8)
        >>> sci = (3 * star + 1)[None]
        >>> cube = Cube(sci, jnp.ones_like(sci), jnp.zeros(sci.shape, jnp.uint32), jnp.ones(1, bool))
        >>> found = predict_star(star[None], jnp.ones((1, 9, 9), bool), jnp.ones(1, bool), cube)
        >>> bool(jnp.allclose(found, sci[0], atol=1e-3))
        True

    Source: iteratively reweighted least squares, Holland & Welsch 1977, Commun. Stat. A6, 813.
    """
    median = nanmedian(planes, good & valid[:, None, None])
    usable = (exposure.dq & jnp.uint32(DQ.DO_NOT_USE.value)) == 0
    usable = usable & exposure.valid[:, None, None] & jnp.isfinite(exposure.sci) & jnp.isfinite(exposure.err)
    target, error = nanmedian(exposure.sci, usable), nanmedian(exposure.err, usable)
    median, target, error = (jnp.asarray(a, jnp.result_type(median, target, error)) for a in (median, target, error))
    known = jnp.isfinite(median)
    peak = jnp.max(jnp.where(known, jnp.abs(jax.lax.stop_gradient(median)), 0))
    star = jnp.where(known, median, 0) / jnp.where(peak > 0, peak, 1)
    terms = jnp.stack([star, jnp.ones_like(star), _slope(star, known, 1), _slope(star, known, 0)])
    fitted = known & jnp.isfinite(target) & jnp.isfinite(error)
    prediction = _fit(terms, jnp.where(fitted, target, 0), jnp.where(fitted, error, 1), fitted)
    return jnp.where(known & jnp.any(fitted), prediction, jnp.nan)


def _slope(image: Array, known: Array, axis: int) -> Array:
    """Half the difference of the two neighbours along an axis; 0 where one of them is not known."""

    def at(array: Array, step: int) -> Array:
        beyond = jnp.zeros_like(jax.lax.slice_in_dim(array, 0, 1, axis=axis))
        n = array.shape[axis]
        if step > 0:
            return jnp.concatenate([jax.lax.slice_in_dim(array, 1, n, axis=axis), beyond], axis)
        return jnp.concatenate([beyond, jax.lax.slice_in_dim(array, 0, n - 1, axis=axis)], axis)

    return jnp.where(at(known, 1) & at(known, -1), (at(image, 1) - at(image, -1)) / 2, 0)


def _fit(terms: Array, target: Array, error: Array, fitted: Array) -> Array:
    """The combination of `terms` that fits `target`, by least squares reweighted for robustness."""
    ridge = 100 * jnp.finfo(terms.dtype).eps
    prior = jnp.where(fitted, 1.0, 0.0).astype(terms.dtype)
    size = jnp.maximum(jnp.max(jnp.abs(target)), jnp.finfo(terms.dtype).tiny)
    prediction = jnp.abs(terms[0]) * size  # of the right size: only for the first weights

    def fit(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        prediction, robust = state
        expected = error**2 + (_MISMATCH * prediction) ** 2
        weight = prior * robust / jnp.where(expected > 0, expected, 1)
        weight = weight / jnp.maximum(jnp.max(weight), jnp.finfo(terms.dtype).tiny)
        normal = jnp.einsum("iyx,jyx,yx->ij", terms, terms, weight, precision="highest")
        scale = jnp.sqrt(jnp.where(jnp.diag(normal) > 0, jnp.diag(normal), 1))
        right = jnp.einsum("iyx,yx,yx->i", terms, target, weight, precision="highest") / scale
        system = normal / jnp.outer(scale, scale) + ridge * jnp.eye(len(terms), dtype=terms.dtype)
        found = jnp.linalg.solve(system, right) / scale
        prediction = jnp.einsum("i,iyx->yx", found, terms, precision="highest")
        expected = error**2 + (_MISMATCH * prediction) ** 2
        robust = 1 / (1 + (target - prediction) ** 2 / jnp.where(expected > 0, _TOLERANCE * expected, 1))
        return (prediction, robust), None

    # A loop, compiled once for all its steps.
    return jax.lax.scan(fit, (prediction, prior), None, _STEPS)[0][0]
