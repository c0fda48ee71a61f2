"""A frame in its tapered border."""

import jax.numpy as jnp
import numpy as np
import pytest

from coronjax.ops import crop_border, pad_and_taper


@pytest.mark.parametrize("shape", [(9, 12), (3, 1), (1, 1)])
@pytest.mark.parametrize("width", [0, 1, 5])
def test_frame_comes_out_as_it_went_in(shape, width):
    image = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    padded = pad_and_taper(image, width)
    assert padded.shape == tuple(n + 2 * width for n in shape)
    np.testing.assert_array_equal(crop_border(padded, width), image)


def test_border_fades_to_nothing_without_a_jump():
    y, x = np.mgrid[:40, :50]
    padded = np.asarray(pad_and_taper(jnp.asarray(100.0 + 0.1 * x + 0.2 * y), 16))
    steps = [np.abs(np.diff(padded, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 12.0  # of 100, over 16 pixels: a cosine's steepest is pi / 2 times the mean
    assert max(np.abs(padded[0]).max(), np.abs(padded[:, -1]).max()) < 1.0


def test_refuses_a_border_that_does_not_fit():
    with pytest.raises(ValueError, match="negative"):
        pad_and_taper(jnp.ones((4, 4)), -1)
    with pytest.raises(ValueError, match="does not fit"):
        crop_border(jnp.ones((4, 4)), 2)
