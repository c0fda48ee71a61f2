"""Matrix products are taken at the full precision of their factors: accelerators round them otherwise, in float32."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from coronjax import Cube, Options, reduce
from coronjax.options import Klip

from .properties import differentiable, every_differentiable_op, every_op, of_differentiable, sample
from .test_export import OPTIONS, arrays

PRODUCTS = ("dot_general", "conv_general_dilated")


def products(jaxpr: Any) -> Iterator[Any]:
    """Every product of floats in a program, those of the programs inside it too."""
    for equation in jaxpr.eqns:
        factors = [variable.aval for variable in equation.invars]
        if equation.primitive.name in PRODUCTS and all(jnp.issubdtype(f.dtype, jnp.inexact) for f in factors):
            yield equation
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda leaf: isinstance(leaf, core.ClosedJaxpr | core.Jaxpr)
        ):
            if isinstance(value, core.ClosedJaxpr):
                yield from products(value.jaxpr)
            elif isinstance(value, core.Jaxpr):
                yield from products(value)


def rounded(program: Any) -> list[str]:
    highest = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
    return sorted({str(p.source_info.traceback) for p in products(program.jaxpr) if p.params["precision"] != highest})


def test_a_rounded_product_is_found() -> None:
    square = jnp.ones((2, 2), jnp.float32)
    assert rounded(jax.make_jaxpr(jax.jit(lambda x: x @ x))(square))
    assert not rounded(jax.make_jaxpr(jax.jit(lambda x: jnp.matmul(x, x, precision="highest")))(square))


@every_op
def test_no_op_rounds_factors(row) -> None:
    assert not rounded(jax.make_jaxpr(lambda *given: row.output(row.call(*given)))(*sample(row)))


@pytest.mark.slow
@every_differentiable_op
def test_no_derivative_rounds_factors(row) -> None:
    arguments = sample(row)

    def slope(*values: Any) -> Any:
        found, back = jax.vjp(of_differentiable(row, arguments), *values)
        return back([jnp.ones_like(leaf) for leaf in found])

    assert not rounded(jax.make_jaxpr(slope)(*differentiable(row, arguments)))


@pytest.mark.parametrize("options", [*OPTIONS.values(), Options(klip=Klip(max_modes=3), precision="float32")])
def test_the_chain_does_not_round_factors(options: Options) -> None:
    def chain(given: dict) -> Any:
        science, references = Cube(**given.pop("science")), Cube(**given.pop("references"))
        return reduce(science, references, **given, output_shape=(24, 26), options=options)

    with jax.enable_x64(False):
        assert not rounded(jax.make_jaxpr(chain)(arrays()))
