"""The flags of the sky image, pixel upon pixel and between pixels."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.cube import DQ, Cube
from coronjax.options import Resample
from tests.ops.drizzling import cubes, resampled

NOWHERE = int(DQ.DO_NOT_USE | DQ.NON_SCIENCE)


def flags_of(dq, noise=1.0, move=0.0, valid=None):
    """Flags of the image of one exposure [int y x], moved along x on an output as large and a border of 1."""
    dq = np.asarray(dq, np.uint32)[None]
    ones, y, x = jnp.ones(dq.shape), *np.mgrid[: dq.shape[2], : dq.shape[3]].astype(float)
    valid = jnp.ones(dq.shape[:2], bool) if valid is None else jnp.asarray(valid)[None]
    cube = Cube(ones, ones, jnp.asarray(dq), valid, ones, noise * ones, ones)
    frame, maps = (dq.shape[2] + 2, dq.shape[3] + 2), np.stack([x + move, y], -1)[None] + 1
    return np.asarray(resampled(cube, maps, (1.0,), (0.0,), frame=frame).dq)


def plane(*pixels, shape=(3, 4)):
    dq = np.zeros(shape, np.uint32)
    for (y, x), flags in pixels:
        dq[y, x] = flags
    return dq


@pytest.mark.slow
def test_flags_follow_half_of_the_weight():
    hot = plane(((1, 1), DQ.HOT))
    np.testing.assert_array_equal(np.argwhere(flags_of([hot]) == DQ.HOT), [[2, 2]])
    # two integrations: half is enough; three: one is not
    assert flags_of([hot, plane()])[2, 2] == DQ.HOT
    assert flags_of([hot, plane(), plane()])[2, 2] == 0
    # moved by 0.3 px, the larger share has the flag; by 0.5 px, both halves have
    assert flags_of([hot], move=0.3)[2, 1:5].tolist() == [0, DQ.HOT, 0, 0]
    assert flags_of([hot], move=0.5)[2, 1:5].tolist() == [0, DQ.HOT, DQ.HOT, 0]


def test_flags_follow_weight_and_not_number():
    hot = plane(((1, 1), DQ.HOT | DQ.WARM))
    noise = np.ones((2, 3, 4))
    noise[0, 1, 1] = 3.0
    assert flags_of([hot, plane()], noise)[2, 2] == 0
    assert flags_of([hot, plane()], 1 / noise)[2, 2] == DQ.HOT | DQ.WARM


def test_what_nothing_usable_reaches():
    dead = plane(((0, 0), DQ.DO_NOT_USE | DQ.DEAD), ((1, 1), DQ.DO_NOT_USE | DQ.OUTLIER), ((2, 3), DQ.NON_SCIENCE))
    found = flags_of([dead, plane(((0, 0), DQ.DO_NOT_USE | DQ.DEAD), ((2, 3), DQ.NON_SCIENCE))])
    assert found[1, 1] == DQ.DO_NOT_USE | DQ.DEAD
    assert found[2, 2] == 0  # one integration of two is left
    assert found[3, 4] == DQ.DO_NOT_USE | DQ.NON_SCIENCE
    border = np.ones(found.shape, bool)
    border[1:-1, 1:-1] = False
    assert (found[border] == NOWHERE).all()
    # beside usable pixels, flags of those without weight are not seen
    assert flags_of([dead], move=0.3)[1, 1:3].tolist() == [DQ.DO_NOT_USE | DQ.DEAD, 0]


def test_every_bit_is_carried_and_invalid_integrations_have_no_say():
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32).reshape(4, 8)
    kept = np.where((bits == DQ.NON_SCIENCE), bits | np.uint32(1), bits)
    np.testing.assert_array_equal(flags_of([bits])[1:-1, 1:-1], kept)
    full = np.full_like(bits, 0xFFFFFFFF)
    np.testing.assert_array_equal(flags_of([bits, full, full], valid=[True, False, False])[1:-1, 1:-1], kept)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_flags_and_weight_agree_where_there_is_nothing(scale):
    cube = cubes(np.random.default_rng(1))
    cube = eqx.tree_at(lambda c: c.var_rnoise, cube, cube.var_rnoise * scale)
    made = resampled(cube)
    dq, reached = np.asarray(made.dq), np.asarray(made.weight) > 0
    np.testing.assert_array_equal((dq & DQ.DO_NOT_USE) == 0, reached)
    assert not (dq[reached] & DQ.NON_SCIENCE).any()
    assert resampled(cube, options=Resample(flags=False)).dq is None
