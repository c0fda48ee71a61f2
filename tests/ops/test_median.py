"""The median equals numpy's to the bit, by network and by bisection, ties, infinities and signed zeros included."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.ops import nanmedian


def expected(stack):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN pixels
        return np.nanmedian(stack, axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 16, 17, 40, 41])
def test_equals_numpy(n, dtype):
    rng = np.random.default_rng(n)
    stack = rng.normal(size=(n, 9, 11)).round(1).astype(dtype)  # rounded: many ties
    stack[rng.random(stack.shape) < 0.2] = np.nan
    stack[:, 0, 0], stack[:, 1, 1], stack[0, 2, 2] = np.nan, -0.0, np.inf
    found = jax.jit(nanmedian)(stack, np.ones(stack.shape, bool))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected(stack))


@pytest.mark.parametrize("n", [9, 30])
def test_what_is_not_usable_does_not_count(n):
    rng = np.random.default_rng(n)
    stack, usable = rng.normal(size=(n, 6, 7)), rng.random((n, 6, 7)) < 0.5
    usable[0] = True
    np.testing.assert_array_equal(jax.jit(nanmedian)(stack, usable), expected(np.where(usable, stack, np.nan)))


@pytest.mark.parametrize("n", [8, 9, 30, 31])
def test_derivative_is_that_of_the_values_picked(n):
    stack = np.random.default_rng(n).normal(size=(n, 3, 3))
    gradient = jax.jit(jax.grad(lambda s: jnp.sum(nanmedian(s, jnp.ones(s.shape, bool)))))(jnp.asarray(stack))
    assert set(np.unique(gradient)) <= {0.0, 0.5, 1.0}
    np.testing.assert_allclose(np.sum(gradient, axis=0), 1.0)
    np.testing.assert_allclose(np.sum(gradient * stack, axis=0), expected(stack))


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("n", [40, 300])  # counts of 300 planes are no bytes
def test_for_registers_of_either_width(n, wide, monkeypatch):
    monkeypatch.setattr("coronjax.ops.median.has_wide_registers", lambda: wide)
    stack = np.random.default_rng(n).normal(size=(n, 11, 13)).round(1).astype(np.float32)
    compiled = jax.jit(lambda stack: nanmedian(stack, jnp.ones(stack.shape, bool)))
    np.testing.assert_array_equal(compiled(stack), expected(stack))


@pytest.mark.parametrize("n", [9, 20])
def test_more_pixels_than_are_worked_on_at_once(n):
    stack = np.random.default_rng(n).normal(size=(n, 37, 61)).astype(np.float32)
    stack[np.random.default_rng(1).random(stack.shape) < 0.2] = np.nan
    np.testing.assert_array_equal(jax.jit(nanmedian)(stack, np.ones(stack.shape, bool)), expected(stack))
