"""A library on disk, in blocks, against the same references in memory; and what it takes of memory."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coronjax import Klip
from coronjax.library import klip_library
from coronjax.ops import klip

PEAK = """
import resource
import jax
import numpy as np
jax.config.update("jax_enable_x64", True)
from coronjax import Klip
from coronjax.library import klip_library

class Made:  # pages of a mapped file would count as the program's
    def __init__(self, *shape):
        self.shape = shape

    def __getitem__(self, place):
        rows = len(range(self.shape[1])[place[1]])
        rng = np.random.default_rng(place[1].start)
        return rng.normal(size=(self.shape[0], rows, self.shape[2]))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

klip_library(np.ones((2, 8, 320)), Made(100, 8, 320), options=Klip(10))  # what JAX itself takes
before = peak()
klip_library(np.ones((2, 320, 320)), Made(1000, 320, 320), options=Klip(10), block_bytes=16 * 2**20)
print(peak() - before)
"""


def references(n: int, ny: int, nx: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    star = 100 * np.exp(-np.hypot(*np.indices((ny, nx)) - ny // 2) / 4)
    return star * rng.normal(1, 0.05, (n, 1, 1)) + rng.normal(size=(n, ny, nx))


@pytest.mark.parametrize("rows", [1, 5, 8, 21, 100])
def test_as_in_memory(rows: int, tmp_path: Path) -> None:
    frames = references(30, 21, 17)
    np.save(tmp_path / "library.npy", frames[2:])
    library = np.load(tmp_path / "library.npy", mmap_mode="r")
    with jax.enable_x64(True):
        found = klip_library(frames[:2], library, options=Klip(6), block_bytes=rows * 28 * 17 * 8)
        whole = klip(jnp.asarray(frames[:2]), jnp.asarray(frames[2:]), options=Klip(6), error=False)
    scatter = float(np.std(whole.residual))
    np.testing.assert_allclose(found.residual, whole.residual, atol=1e-10 * scatter)
    np.testing.assert_allclose(found.weights, whole.weights, atol=1e-10)
    assert (int(found.n_modes[0]), found.error) == (6, None)


def test_images_of_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(5, 5\) pixels and the library of \(6, 5\)"):
        klip_library(np.ones((1, 5, 5)), np.ones((2, 6, 5)))


@pytest.mark.slow
def test_memory_is_that_of_the_formula() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    expected = 250e6 + 8 * 16 * 2**20 + 20 * 1000**2 * 8 + 3 * 2 * 320 * 320 * 8
    assert int(done.stdout) < expected < 1000 * 320 * 320 * 8
