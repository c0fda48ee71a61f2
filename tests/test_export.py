"""The chain, its gradient and every step as one program for processors, GPUs and TPUs, made where there is none of the
two: float32 throughout, nothing called back on the host, no calls but those that JAX keeps stable.
"""

import dataclasses
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from coronjax import Cube, Options, ops, reduce
from coronjax.options import Klip

from .properties import every_op, sample

PLATFORMS = ("cpu", "cuda", "tpu")
# Programs that run once are compiled faster than well.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# The eigenvectors of the Gram matrix, and the linear equations of the star's prediction.
OF_TPU = {"Eigh", "LuDecomposition"}
OF_CUDA = {"cusolver_syevd_ffi", "cusolver_getrf_ffi", "cu_lu_pivots_to_permutation"}
OF_CPU = {"lapack_ssyevd_ffi", "lapack_sgetrf_ffi", "lapack_strsm_ffi"}
# Many references of which few modes are asked for: random numbers and orthogonal columns.
ORTHOGONAL = {
    "cu_threefry2x32_ffi",
    "Qr",
    "ProductOfElementaryHouseholderReflectors",
    "cusolver_geqrf_ffi",
    "cusolver_orgqr_ffi",
    "lapack_sgeqrf_ffi",
    "lapack_sorgqr_ffi",
}
ALLOWED = OF_TPU | OF_CUDA | OF_CPU

SHAPE = (24, 26)
_OFFICIAL = Options.official()
OPTIONS = {
    "default": Options(klip=Klip(truncate=1), precision="float32"),
    # lmdif is followed to where it stops by the rounding of float64, and has no float32.
    "official": dataclasses.replace(
        _OFFICIAL,
        klip=dataclasses.replace(_OFFICIAL.klip, truncate=1),
        align_refs=dataclasses.replace(_OFFICIAL.align_refs, minimiser="newton"),
        precision="float32",
    ),
}


@pytest.fixture(autouse=True)
def single_precision() -> Iterator[None]:
    with jax.enable_x64(False):
        yield


def arrays() -> dict:
    """What a program is called with: dictionaries of arrays, which a stored program knows by itself."""
    rng = np.random.default_rng(0)
    y, x = np.indices(SHAPE, np.float32)
    star = 100 * np.exp(-((x - 12.5) ** 2 + (y - 11.5) ** 2) / 30)

    def cube(*planes: int) -> dict:
        # Integrations of one exposure are alike: otherwise every pixel of the star is an outlier.
        bright = star * rng.normal(1, 0.1, (planes[0], 1, 1, 1)) * rng.normal(1, 0.01, (planes[0], 1, *SHAPE))
        sci = (bright + rng.normal(size=(*planes, *SHAPE))).astype(np.float32)
        dq = (rng.random(sci.shape) < 0.01).astype(np.uint32)
        variances = {f"var_{name}": np.full_like(sci, 1 / 3) for name in ("poisson", "rnoise", "flat")}
        return {"sci": sci, "err": np.ones_like(sci), "dq": dq, "valid": np.ones(planes, bool), **variances}

    return {
        "science": cube(2, 2),
        "references": cube(3, 2),
        "psf_mask": np.ones(SHAPE, np.float32),
        "pixel_maps": np.stack([np.stack([x + dx, y - dx], -1) for dx in np.float32([0.3, 0.7])]),
        "background_variance": np.full((2, *SHAPE), 0.01, np.float32),
        "star": np.full((2, 2), 12, np.float32),
        "blur": np.float32(0.6),
    }


def image(given: dict, options: Options) -> dict:
    cubes = {name: Cube(**given[name]) for name in ("science", "references")}
    found = reduce(**given | cubes, output_shape=SHAPE, options=options)
    return {"sci": found.i2d.sci, "err": found.i2d.err, "psfsub": found.psfsub.sci}


def gradient(given: dict, options: Options) -> jax.Array:
    def total(sci: jax.Array) -> jax.Array:
        sky = image(given | {"science": given["science"] | {"sci": sci}}, options)["sci"]
        return jnp.sum(jnp.where(jnp.isfinite(sky), sky, 0) ** 2)

    return jax.grad(total)(jnp.asarray(given["science"]["sci"]))


def check(program: export.Exported, allowed: set[str]) -> None:
    """Refuse double precision, calls of the host and calls that are not listed.

    `jax.export` itself, of whose checks none is switched off, refuses those that JAX does not keep stable.
    """
    text = program.mlir_module()
    assert not re.search(r"\bf64\b|xf64", text)
    assert "callback" not in text
    assert set(re.findall(r"custom_call @([^\s(]+)", text)) <= allowed
    assert text.count("stablehlo.custom_call") == len(re.findall(r"custom_call @[^\s(]+", text))


CASES = [
    pytest.param("official", image, PLATFORMS),
    *(
        pytest.param(name, function, platforms, marks=pytest.mark.slow)
        for name, function, platforms in [
            ("official", gradient, ("tpu",)),
            ("default", image, ("tpu",)),
            ("default", image, PLATFORMS),
            ("official", gradient, PLATFORMS),
            ("default", gradient, PLATFORMS),
            ("official", image, ("tpu",)),
            ("default", gradient, ("tpu",)),
        ]
    ),
]


@pytest.mark.parametrize(("name", "function", "platforms"), CASES)
def test_lowers_for_every_device(name, function, platforms):
    program = export.export(jax.jit(lambda given: function(given, OPTIONS[name])), platforms=platforms)(arrays())
    assert program.platforms == platforms
    check(program, OF_TPU if platforms == ("tpu",) else ALLOWED)


@pytest.mark.slow
@every_op
def test_every_step_lowers(row):
    if row.name == "follow_lmdif":
        pytest.skip("float64 by its nature: it follows the rounding of another program")
    arguments = jax.tree.map(jnp.asarray, sample(row))
    program = export.export(jax.jit(row.call), platforms=PLATFORMS)(*arguments)
    check(program, ALLOWED)


@pytest.mark.slow
@pytest.mark.parametrize("function", [image, gradient])
@pytest.mark.parametrize("name", OPTIONS)
def test_stored_program_gives_the_same_numbers(name, function):
    given = arrays()

    def here(given: dict) -> object:
        return function(given, OPTIONS[name])

    program = export.export(jax.jit(here), platforms=PLATFORMS)(given)
    stored = export.deserialize(program.serialize())
    assert stored.mlir_module_serialized == program.mlir_module_serialized
    again, before, direct = (jax.jit(f, compiler_options=QUICK)(given) for f in (stored.call, program.call, here))
    jax.tree.map(np.testing.assert_array_equal, again, before)
    agree(again, direct)


def test_stored_klip_gives_the_same_numbers():
    """In more than one block of pixels."""
    rng = np.random.default_rng(1)
    references = rng.normal(size=(5, 110, 120)).astype(np.float32) * np.float32([9, 7, 5, 3, 1])[:, None, None]
    science = references[:2] + rng.normal(size=(2, 110, 120)).astype(np.float32)

    @jax.jit
    def here(science: jax.Array, references: jax.Array) -> list:
        return jax.tree.leaves(ops.klip(science, references, options=Klip(truncate=3)))

    program = export.export(here, platforms=PLATFORMS)(science, references)
    check(program, ALLOWED)
    agree(export.deserialize(program.serialize()).call(science, references), here(science, references))


@pytest.mark.slow
def test_leading_modes_of_a_large_library_lower():
    """They are found by orthogonalising products with the Gram matrix, from a random start."""
    size, kind = 2100, jnp.float32
    shapes = ((1, size, size), (1, size, 3), (1,), (1, size), (1, 3))
    gram = ops.Gram(*(jax.ShapeDtypeStruct(shape, kind) for shape in shapes))
    program = export.export(
        jax.jit(lambda g: ops.klip_weights(g, truncate=9, max_modes=20).weights), platforms=PLATFORMS
    )
    check(program(gram), ALLOWED | ORTHOGONAL)


def agree(one: object, other: object) -> None:
    """To the rounding of float32: the compiler may put the two together differently; a registration multiplies that."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        scale = np.nanstd(np.asarray(b)) or 1.0
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-3 * scale)
