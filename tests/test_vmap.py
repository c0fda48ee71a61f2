"""An op written for one item gives, vmapped over several, what a loop gives; compiled, it mutates nothing."""

import jax
import jax.numpy as jnp

from .properties import assert_trees_close, called, every_op, sample


@every_op
def test_vmap_equals_loop(row):
    items = [sample(row, seed) for seed in (0, 1, 2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *items)
    call = jax.jit(row.call)
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[called(call, item) for item in items])
    assert_trees_close(called(jax.jit(jax.vmap(row.call)), stacked), looped)
