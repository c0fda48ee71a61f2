"""Steps on eight devices, simulated on the processor, beside the same on one: run by `test_sharding.py` as a program.

Prints for each case how far the results are apart, over the scatter of each array, and the largest array that any
communication between the devices brings to one of them, over the stack of references.
"""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from coronjax import Cube, Klip, Options, ops, reduce
from coronjax.ops import _zones

SHAPE = (24, 32)
N_REFERENCES = 32
KLIP = Klip(truncate=4)
COLLECTIVE = re.compile(
    r" = (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast)(?:-start)?\("
)
Given = dict[str, jax.Array]


def stacks(shape: tuple[int, int] = SHAPE) -> Given:
    """References made of four images, and science frames made of the same."""
    rng = np.random.default_rng(0)
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    star = 40 * np.exp(-(np.hypot(y[:, None], x) ** 2) / 30)
    images = np.concatenate([star[None], rng.normal(size=(3, *shape)) * np.array([7, 5, 3])[:, None, None]])
    mixed = {n: rng.normal(size=(n, 4)) + np.array([5, 0, 0, 0]) for n in (3, N_REFERENCES)}
    science, references = (np.tensordot(m, images, 1) + rng.normal(size=(n, *shape)) for n, m in mixed.items())
    zone = np.digitize(np.hypot(y[:, None], x), [4, 8, 12]) % 4
    return {
        "science": science,
        "references": references + 20,
        "fit": rng.random(shape) < 0.9,
        "zones": zone == np.arange(2)[:, None, None],
        "valid": np.arange(N_REFERENCES) < 29,
        "weight": np.ones(shape),
    }


def klip(given: Given) -> object:
    return ops.klip(given["science"], given["references"], options=KLIP)


def klip_in_halves(given: Given) -> object:
    """As of more references than are multiplied as a whole."""
    with mock.patch.object(_zones, "_WHOLE", 10):
        return klip(given), klip_gradient(given)


def klip_masked(given: Given) -> object:
    masks = {"fit": given["fit"], "zones": given["zones"], "valid_references": given["valid"]}
    return ops.klip(given["science"], given["references"], options=KLIP, **masks)


def klip_gradient(given: Given) -> object:
    def total(science: jax.Array, references: jax.Array) -> jax.Array:
        found = ops.klip(science, references, options=KLIP)
        return jnp.sum(jnp.sin(found.residual)) + jnp.sum(found.error**2)

    return jax.grad(total, argnums=(0, 1))(given["science"], given["references"])


def parts(given: Given) -> object:
    gram = ops.gram(given["references"], given["science"])
    weights = ops.klip_weights(gram, truncate=4)
    return (
        gram,
        ops.subtract(given["science"], given["references"], weights.weights),
        ops.residual_error(given["references"], gram, truncate=4),
        jnp.abs(ops.modes(given["references"], gram, truncate=4)),
        ops.klip_sweep(given["science"], given["references"], jnp.array([1, 3])),
    )


def sweep_of_zones(given: Given) -> object:
    masks = {"zones": given["zones"], "valid_references": given["valid"]}
    return ops.klip_sweep(given["science"], given["references"], jnp.array([1, 3]), **masks)


def parts_of_zones(given: Given) -> object:
    masks = {"zones": given["zones"], "valid_references": given["valid"]}
    gram = ops.gram(given["references"], given["science"], **masks)
    return (
        ops.residual_error(given["references"], gram, truncate=4, **masks),
        jnp.abs(ops.modes(given["references"], gram, truncate=4, **masks)),
    )


def median(given: Given) -> object:
    return ops.nanmedian(given["references"], given["references"] > 0)


def registration(given: Given) -> object:
    images = given["references"], given["science"][0], given["weight"], given["valid"]
    found = ops.register_all(*images, pedestal=True)
    return found.shift, found.scale, found.residual, found.standard_error, ops.follow_lmdif(found, *images).shift


def registration_gradient(given: Given) -> object:
    def total(references: jax.Array, moving: jax.Array) -> jax.Array:
        return jnp.sum(ops.register_all(references, moving, given["weight"], given["valid"]).shift)

    return jax.grad(total, argnums=(0, 1))(given["references"], given["science"][0])


def chain(given: Given, *, options: Options | None = None) -> object:
    """The reduction; each reference an exposure of its own."""

    def cube(images: jax.Array) -> Cube:
        ones = jnp.ones_like(images)
        return Cube(
            images, ones, jnp.zeros_like(images, jnp.uint32), jnp.ones(images.shape[:2], bool), ones, ones, ones
        )

    options = Options(klip=KLIP) if options is None else options
    y, x = np.indices(SHAPE, float)
    maps = np.stack([x + 0.3, y - 0.3], -1)[None]
    science, references = cube(given["science"][None]), cube(given["references"][:, None])
    found = reduce(science, references, given["weight"], maps, output_shape=SHAPE, window=3, options=options)
    return found.psfsub.sci, found.psfsub.err, found.registration.shift, found.i2d.sci, found.i2d.err, found.i2d.dq


def official(given: Given) -> object:
    """But for lmdif: where it stops is decided by rounding, and so by the order of a sum."""
    options = Options.official()
    align_refs = dataclasses.replace(options.align_refs, minimiser="newton")
    return chain(given, options=dataclasses.replace(options, align_refs=align_refs))


def chain_gradient(given: Given) -> object:
    def total(references: jax.Array) -> jax.Array:
        psfsub = chain(given | {"references": references})[0]
        return jnp.sum(jnp.where(jnp.isfinite(psfsub), psfsub, 0) ** 2)

    return jax.grad(total)(given["references"])


CASES: dict[str, Callable[[Given], object]] = {
    function.__name__: function
    for function in (
        klip,
        klip_in_halves,
        klip_masked,
        klip_gradient,
        parts,
        sweep_of_zones,
        parts_of_zones,
        median,
        registration,
        registration_gradient,
        chain,
        chain_gradient,
        official,
    )
}


def refused(given: Given) -> bool:
    """Whether `reduce` says what is wrong with explicit axes."""
    try:
        jax.eval_shape(chain, given)
    except ValueError as error:
        return "automatic axes" in str(error)
    return False


def layouts() -> dict[str, tuple[Mesh, P, P]]:
    """Meshes, how they divide the references, and how the science frames."""
    explicit = jax.make_mesh((2, 4), ("references", "pixels"))
    automatic = Mesh(explicit.devices, explicit.axis_names)
    line = Mesh(explicit.devices.reshape(-1), ("references",))
    return {
        "references x pixels": (automatic, P("references", "pixels"), P(None, "pixels")),
        "explicit": (explicit, P("references", "pixels"), P(None, "pixels")),
        "references": (line, P("references"), P()),
    }


def brought(program: str, stack: int) -> float:
    """The largest array that communication makes on one device, over the stack."""
    largest = 0
    for results, kind in COLLECTIVE.findall(program):
        sizes = [math.prod(int(n) for n in shape.split(",") if n) for shape in re.findall(r"\[([\d,]*)\]", results)]
        # What comes from all the others is one array in pieces; else the compiler joins what has nothing in common.
        largest = max(largest, sum(sizes) if kind == "all-to-all" else max(sizes))
    return largest / stack


def apart(one: object, other: object) -> float:
    """The largest difference between results, over the scatter of each array."""
    worst = 0.0
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        if not np.isnan(b).all():
            worst = max(worst, float(np.nanmax(np.abs(a - b)) / (np.nanstd(b) or np.nanmax(np.abs(b)) or 1)))
    return worst


def compare(case: str, layout: str) -> dict:
    mesh, of_references, of_science = layouts()[layout]
    name, _, odd = case.partition("/")
    given, function = stacks((21, 31) if odd else SHAPE), CASES[name]
    if odd:  # no axis of the mesh divides the pixels
        of_references, of_science = P("references"), P()
    specs = {"references": of_references, "science": of_science}
    placed = {name: jax.device_put(a, NamedSharding(mesh, specs.get(name, P()))) for name, a in given.items()}
    if layout == "explicit" and name == "chain":
        return {"refused": refused(placed)}
    program = jax.jit(function).lower(placed).compile()
    return {
        "devices": len(placed["references"].sharding.device_set),
        "apart": apart(program(placed), jax.jit(function)(given)),
        "brought": brought(program.as_text(), given["references"].size),
    }


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    print(json.dumps([compare(*pair.split(":")) for pair in sys.argv[1:]]))
