"""The mean residual of an exposure for every number of modes."""

from typing import Any

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, relative_error
from benchmarks.rows import klip


def reference(data: Arrays) -> Arrays:
    references, science = klip.rows_of(data["references"]), klip.rows_of(data["science"]).mean(0)
    modes = klip.leading_modes(references, len(references))
    frames = science - np.cumsum((modes @ science)[:, None] * modes, axis=0)
    frames = frames.reshape(-1, *data["science"].shape[1:])
    return {"frames": frames, "frame": frames[int(data["modes"]) - 1]}


def ours(data: Arrays) -> Call:
    """Weights are linear in the science frame: those of the mean frame are the mean weights."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    from coronjax import ops

    @jax.jit
    def compiled(science: jax.Array, references: jax.Array, modes: jax.Array) -> jax.Array:
        frame, references = science.astype(float).mean(0, keepdims=True), references.astype(float)
        gram = ops.gram(references, frame)

        def one(count: jax.Array) -> jax.Array:
            return ops.subtract(frame, references, ops.klip_weights(gram, truncate=count).weights)[0]

        return jax.vmap(one)(modes)

    modes = jnp.arange(1, len(data["references"]) + 1)
    given = jax.device_put((data["science"], data["references"]))
    return lambda: {"frames": np.asarray(compiled(*given, modes))}


def one_number(data: Arrays) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    from coronjax import ops
    from coronjax.options import Klip

    @jax.jit
    def compiled(science: jax.Array, references: jax.Array, modes: jax.Array) -> Any:
        given = science.astype(float), references.astype(float)
        return ops.klip(*given, options=Klip(truncate=modes), error=False).residual.mean(0)

    given = jax.device_put((data["science"], data["references"], data["modes"]))
    return lambda: {"frame": np.asarray(compiled(*given))}


def floor(data: Arrays) -> Call:
    """The weights of all numbers of modes as sums over more and more modes, then one product with the references."""

    def call() -> Arrays:
        references, science = klip.rows_of(data["references"]), klip.rows_of(data["science"]).mean(0)
        values, vectors = np.linalg.eigh(references @ references.T)
        values, vectors = values[::-1], vectors[:, ::-1]
        shares = ((references @ science) @ vectors / values)[:, None] * vectors.T
        frames = np.cumsum(shares, axis=0) @ references
        np.subtract(science, frames, out=frames)
        return {"frames": frames.reshape(-1, *data["science"].shape[1:])}

    return call


def pyklip(data: Arrays) -> Call:
    from pyklip.klip import klip_math

    def call() -> Arrays:
        references = data["references"].reshape(len(data["references"]), -1).astype(float)
        science = klip.rows_of(data["science"]).mean(0)
        frames = klip_math(science, references, np.arange(1, len(references) + 1))
        return {"frames": frames.T.reshape(-1, *data["science"].shape[1:])}

    return call


ROW = Row(
    title="Every number of modes, combined",
    work="The mean over {n_science} integrations of {size} x {size} pixels less their star, for every number of modes "
    "from 1 to {n_references}, as many as there are references; float64. All who make them together work on the mean "
    "frame, which is the same. One number of modes: {modes}, `klip` of all integrations, then their mean.",
    sizes=klip.SIZES,
    arrays=klip.arrays,
    reference=reference,
    error=relative_error("frames", "frame"),
    unit="error of frames, relative",
    subjects=(
        Subject("coronjax, every number", ours, packages=("jax", "jaxlib")),
        Subject("coronjax, one number", one_number, packages=("jax", "jaxlib")),
        Subject("numpy, LAPACK, every number", floor),
        Subject("pyklip `klip_math`, every number", pyklip, "pyklip", ("pyklip", "numpy", "scipy")),
    ),
    limits=(Limit("coronjax, every number", "coronjax, one number", 5.0),),
)
