"""Stacks of a few sizes, so that another number of integrations or references mostly finds a compiled program."""

from pathlib import Path

import jax
import numpy as np
from astropy.io import fits

from coronjax import Cube
from coronjax.inputs import _rectangular, padded_size
from coronjax.io.exposure import Exposure


def test_padded_sizes_waste_little():
    assert [padded_size(n) for n in (1, 7, 8, 9, 64, 65, 80, 81)] == [1, 7, 8, 10, 64, 80, 80, 96]
    assert all(n <= padded_size(n) <= 1.25 * n for n in range(1, 2000))
    assert len({padded_size(n) for n in range(1, 1001)}) == 36


def _exposure(planes, rng):
    shape = (planes, 4, 5)
    images = [rng.random(shape).astype(np.float32) for _ in range(5)]
    cube = Cube(*images[:2], np.zeros(shape, np.uint32), np.ones(planes, bool), *images[2:])
    return Exposure(Path("a_calints.fits"), cube, fits.Header(), {}, None, None)


def test_other_numbers_have_the_same_shapes():
    rng = np.random.default_rng(0)
    shapes = set()
    for numbers in ([9] * 9, [10, 3] * 5, [1] * 8 + [9]):
        exposures = tuple(_exposure(planes, rng) for planes in numbers)
        moved, cube, notes = _rectangular(exposures, padded_size(len(exposures)))
        shapes.add(tuple(leaf.shape for leaf in jax.tree.leaves(cube)))
        assert notes == []
        assert cube.valid.sum(axis=1).tolist() == numbers + [0] * (10 - len(numbers))
        np.testing.assert_array_equal(cube.sci[cube.valid], np.concatenate([e.cube.sci for e in exposures]))
        for before, after, stack in zip(exposures, moved, cube.sci, strict=False):
            np.testing.assert_array_equal(after.cube.sci, before.cube.sci)
            assert np.shares_memory(after.cube.sci, stack)
            assert not after.cube.sci.flags.writeable
    assert len(shapes) == 1


def test_stacks_are_taken_without_a_copy():
    """JAX takes numpy arrays as they lie where they begin on a cache line."""
    _, cube, _ = _rectangular((_exposure(3, np.random.default_rng(0)),), 1)
    for leaf in (cube.sci, cube.dq, cube.var_flat):
        assert leaf.ctypes.data % 64 == 0
        assert not leaf.flags.writeable
    assert jax.device_put(cube.sci).unsafe_buffer_pointer() == cube.sci.ctypes.data
