"""Register one image to another: the shift and the flux scale between them, with errors and derivatives."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._devices import by_each, by_planes, whole
from ._objective import weigh
from ._registration import Registration, fit, images_of, share

SEARCH, PREFER_NEAR, MAX_ITERATIONS = 8, 0.1, 50  # pixels; share of the objective; four to seven are usual


def unregistered(n_planes: int, dtype: jnp.dtype) -> Registration:
    """The registration of planes that are taken where they lie.

    Args:
        n_planes: how many.
        dtype: of its numbers.

    Returns:
        `Registration` as where nothing decides.

    Example:
        >>> unregistered(2, jnp.float32).scale.tolist()
        [1.0, 1.0]
    """
    zero, none = jnp.zeros(n_planes, dtype), jnp.zeros(n_planes, jnp.int32)
    errors = jnp.zeros((n_planes, 3), dtype)
    return Registration(jnp.zeros((n_planes, 2), dtype), zero + 1, none != 0, none, zero, errors, errors, zero, zero)


@partial(jax.jit, static_argnames=("search", "pedestal"))
def register(
    target: Float[Array, "y x"],
    moving: Float[Array, "y x"],
    weight: Float[Array, "y x"],
    *,
    pedestal: bool = False,
    target_variance: Float[Array, "y x"] | None = None,
    moving_variance: Float[Array, "y x"] | None = None,
    search: int | None = SEARCH,
    prefer_near: float | Float[Array, ""] = PREFER_NEAR,
    max_iterations: int | Int[Array, ""] = MAX_ITERATIONS,
) -> Registration:
    r"""Find the shift and scale that take `moving` to `target` in the weighted least-squares sense.

    $$ \min_{s_x, s_y, \beta, \ell} \sum_{yx} \left[ \left( T - \beta\, S(R; s_x, s_y) - \ell \right) W \right]^2 $$

    with $S$ of `fourier_shift`, and $\ell = 0$ unless a pedestal is fitted. The best scale of a shift is
    $\beta(s) = c(s) / q(s)$, $c = \sum W^2 T S$, $q = \sum W^2 S^2$ (with a pedestal both about weighted means:
    $\sum W^2 T = 0$, and $q$ less $(\sum W^2 S)^2 / \sum W^2$), which leaves $-c^2/q$ to minimise. $c$ and $q$
    are read from their Fourier series in $s$: at integer shifts, the best of which is the start, and from there on,
    with their derivatives, for a damped Newton iteration. Everything about $q$ depends on `moving` and `weight`
    alone and is done once under `vmap` with `in_axes=None` for the two.

    Derivatives in the three images are those of the minimum itself, by the implicit function theorem: one Newton step
    at the minimum, $p^* - H^{-1} g(p^*; T, R, W)$, in which only $g$ is differentiated. First order, both modes.

    Standard errors are $H^{-1} \left[ \sum W^4 (v_T + \beta^2 v_R)\, \nabla m \nabla m^T \right] H^{-1}$ with
    $m = \beta S + \ell$ and the variances $v$ of the two images, the second shifted: right whatever the weight.
    Without variances the squared residual $r^2$ takes their place, as if all of it were independent noise. `mismatch`
    is what PSFs that differ add: the same with $\sum_b u_b u_b^T$, $u_b = \sum_{i \in b} W^2 r \nabla m$, in the
    middle, less the squared standard error; b are blocks of 8 x 8 pixels, within which residuals may be correlated. It
    knows of nothing that looks like a shift: a star that moves behind a fixed mask moves its image more, or less, than
    itself.

    In float64 the result is within 1e-9 pixel of the minimum; in float32 within about 1e-4, if no pixel without
    weight is far brighter than those with.

    Args:
        target: any unit, finite.
        moving: same unit, finite.
        weight: multiplies the residual; 0 leaves a pixel out. `registration_weight` makes one.
        pedestal: fit a level along with shift and scale. Static.
        target_variance: of the noise, same unit squared; ignored where `weight` is 0, may be NaN there.
        moving_variance: likewise; NaN counts as 0. If one of the two is given and the other not, that has no noise.
        search: largest integer shift tried along an axis by the coarse start, pixels; None: half the frame, which takes
            two to three times as long. Static.
        prefer_near: start farther than one pixel away along an axis only where the objective is lower by this share
            than nearer to zero. Where a mask fixed on the detector dominates, the least of several minima need not be
            the star; telescopes point better than a pixel. 0 starts from the least of all. Traced.
        max_iterations: most Newton iterations; traced.

    Returns:
        `Registration`. `fourier_shift(target, -shift)` lies where `moving` does.

    Raises:
        ValueError: the images differ in shape.

    Example:
        >>> star = jnp.exp(-0.1 * jnp.hypot(*jnp.mgrid[-8:9, -8:9]) ** 2)
        >>> moved = 3.0 * fourier_shift(star, jnp.array([1.5, -0.5])) + 0.2
        >>> found = register(moved, star, jnp.ones_like(star), pedestal=True)
        >>> [round(float(v), 3) for v in (*found.shift, found.pedestal)]
        [1.5, -0.5, 0.2]

    Source: the objective of align_refs of calwebb_coron3, jwst 3.0.0. Golub & Pereyra (1973) for the elimination of
    scale and level; White (1980) for the errors, Liang & Zeger (1986) for those by blocks.
    """
    images = images_of(target, moving, weight, target_variance, moving_variance)
    return fit(images, *share(images, pedestal, search), search, prefer_near, max_iterations)


@partial(jax.jit, static_argnames=("search", "pedestal", "batch_size"))
def register_all(
    targets: Float[Array, "plane y x"],
    moving: Float[Array, "y x"],
    weight: Float[Array, "y x"],
    valid: Bool[Array, " plane"],
    *,
    good: Bool[Array, "plane y x"] | None = None,
    pedestal: bool = False,
    target_variance: Float[Array, "plane y x"] | None = None,
    moving_variance: Float[Array, "y x"] | None = None,
    search: int | None = SEARCH,
    prefer_near: float | Float[Array, ""] = PREFER_NEAR,
    max_iterations: int | Int[Array, ""] = MAX_ITERATIONS,
    batch_size: int | None = None,
) -> Registration:
    """Register one image to every plane of a stack, a few planes at a time.

    Args:
        targets: any unit, finite where `valid` and `good`.
        moving: same unit, finite.
        weight: multiplies the residual; 0 leaves a pixel out.
        valid: planes that count. Others have shift 0, scale 1 and residual 0, and no derivative.
        good: pixels of each target that count, all by default; the others' values change nothing. The energy of the
            moving image is then summed for every plane anew: half as long again.
        pedestal: as in `register`. Static.
        target_variance: as in `register`, plane by plane.
        moving_variance: as in `register`.
        search: as in `register`. Static.
        prefer_near: as in `register`; traced.
        max_iterations: as in `register`; traced.
        batch_size: planes worked on at once: bounds the memory. By default two; on an accelerator, as many as keep it
            busy. Static.

    Returns:
        `Registration` with a leading plane axis.

    Raises:
        ValueError: planes, `moving` and `weight` differ in shape.

    Example:
        >>> star = jnp.exp(-0.1 * jnp.hypot(*jnp.mgrid[-8:9, -8:9]) ** 2)
        >>> register_all(jnp.stack([star, star]), star, jnp.ones_like(star), jnp.array([True, False])).converged
        Array([ True, False], dtype=bool)

    Source: see `register`.
    """
    for name, stack in (("good", good), ("target_variance", target_variance)):
        if stack is not None and stack.shape != targets.shape:
            raise ValueError(f"{name} has shape {stack.shape} where targets has {targets.shape}")
    nothing = jnp.zeros(targets.shape[1:], targets.dtype)
    images = by_each(images_of, nothing, *whole((moving, weight)), None, whole(moving_variance))
    prepared, common = by_each(lambda images: share(images, pedestal, search), images)

    def one(plane: tuple, shared: tuple) -> Registration:
        target, counts, usable, variance = plane
        images, prepared, common, prefer_near, max_iterations = shared
        usable = counts if usable is None else usable & counts
        own = images.weight if good is None else jnp.where(usable, images.weight, 0)
        images = images.of_target(jnp.where(usable, target, 0), own, variance)
        weighted = common if good is None else weigh(prepared, jax.lax.stop_gradient(images.weight), search)
        return fit(images, prepared, weighted, search, prefer_near, max_iterations)

    valid = jnp.asarray(valid, bool)
    planes = targets, valid, good, target_variance
    shared = images, prepared, common, prefer_near, max_iterations

    def none(_: Any) -> Registration:
        return jax.tree.map(lambda a: a[0], unregistered(1, images.moving.dtype))

    return by_planes(one, planes, shared, wanted=valid, otherwise=none, few=2, batch_size=batch_size)
