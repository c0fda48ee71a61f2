"""The root of a variance where there is none: nothing, and no derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.ops._root import root

SQUARES = [-1.0, 0.0, 4.0, np.inf, np.nan]


@pytest.mark.parametrize("slope", [jax.grad, jax.jacfwd])
def test_root_and_derivative(slope):
    np.testing.assert_array_equal(root(jnp.array(SQUARES)), [0, 0, 2, np.inf, np.nan])
    np.testing.assert_array_equal([slope(root)(square) for square in SQUARES], [0, 0, 0.25, 0, 0])
