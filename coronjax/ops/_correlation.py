r"""Weighted products of images under a shift, as trigonometric polynomials in that shift.

A Fourier-shifted image is a band-limited function read at $x - s$. Its weighted product with another image, and its
weighted square, are therefore finite Fourier series in $s$, whose coefficients are products of spectra. Built once,
each is read with all derivatives at any shift by two small matrix products, without another FFT.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

ROUNDING = 64  # allowance for errors of values, in rounding errors of the norm of the coefficients: 3 to 8 are usual


class Series(eqx.Module):
    r"""$f(s) = u(s_y)^T K\, u(s_x)$ with $u(s) = (\cos \omega s, \sin \omega s)$ over the frequencies of an axis."""

    coefficients: Float[Array, "2*j 2*k"]  # K; cosines first
    rounding: Float[Array, ""]  # by how much rounding may put values wrong
    shape: tuple[int, int] = eqx.field(static=True)  # of the images: their first frequency is one turn over it

    def derivatives(self, shift: Float[Array, "2"]) -> Float[Array, "3 3"]:
        """The value and its derivatives at `shift` = (sx, sy): [order in sy, order in sx]."""
        axes = zip(self.coefficients.shape, self.shape, (shift[1], shift[0]), strict=True)
        rows, columns = (_waves(2 * np.pi * (np.arange(n // 2) / size), step) for n, size, step in axes)
        # The table comes second: three rows times it take less time than it times three columns.
        along_y = jnp.matmul(rows, self.coefficients, precision="highest")
        return jnp.matmul(along_y, columns.T, precision="highest")

    def on_grid(self, shifts_y: np.ndarray, shifts_x: np.ndarray) -> Float[Array, "i j"]:
        """Values at every pair of whole shifts along the two axes."""
        axes = zip(self.coefficients.shape, (shifts_y, shifts_x), self.shape, strict=True)
        rows, columns = (_at_integers(n // 2, shifts, size, self.rounding.dtype) for n, shifts, size in axes)
        along_x = jnp.matmul(self.coefficients, columns.T, precision="highest")
        return jnp.matmul(rows, along_x, precision="highest")


def _at_integers(n: int, shifts: np.ndarray, size: int, dtype: jnp.dtype) -> Float[Array, "i 2*k"]:
    """Cosines and sines of the first n frequencies of an axis at whole shifts, as exact as at none."""
    turns = jnp.asarray(shifts, jnp.int32)[:, None] * jnp.arange(n, dtype=jnp.int32) % size
    angles = jnp.asarray(2 * np.pi / size, dtype) * turns.astype(dtype)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)


def _waves(omega: np.ndarray, shift: Float[Array, ""]) -> Float[Array, "3 2*k"]:
    """Cosines and sines of one axis, and their first two derivatives in the shift."""
    omega = omega.astype(shift.dtype)
    cosine, sine = jnp.cos(omega * shift), jnp.sin(omega * shift)
    value = jnp.concatenate([cosine, sine])
    slope = np.concatenate([-omega, omega]) * jnp.concatenate([sine, cosine])
    return jnp.stack([value, slope, -np.tile(omega**2, 2) * value])


def product_series(other: Complex[Array, "y k"], spectrum: Complex[Array, "y k"], shape: tuple[int, int]) -> Series:
    r"""$\sum_x A(x) S(I; s)(x)$ of two images given by their `rfft2`, `other` of A and `spectrum` of I."""
    ny, nx = shape
    columns = np.full(nx // 2 + 1, 2.0)  # a half plane stands for its mirror image too
    columns[0] = 1.0
    if nx % 2 == 0:
        columns[-1] = 1.0
    return _series(*_halves(spectrum * jnp.conj(other)), columns / (ny * nx), shape, shape)


class SquareSpectrum(eqx.Module):
    """The spectrum of the square of an image, on a grid fine enough to hold it: twice the bandwidth of the image."""

    positive: Complex[Array, "j k"]  # rows as `_halves` has them
    negative: Complex[Array, "j k"]
    shape: tuple[int, int] = eqx.field(static=True)  # of the image


def square_spectrum(spectrum: Complex[Array, "y k"], shape: tuple[int, int]) -> SquareSpectrum:
    """All that `power_series` needs of an image, given by its `rfft2`, whatever the weight."""
    (ny, nx), (my, mx) = shape, (_fine_size(n) for n in shape)
    shares = _shares(shape, spectrum.real.dtype)
    positive, negative = (half * share for half, share in zip(_halves(spectrum), shares, strict=True))
    between = jnp.zeros((my - 2 * (ny // 2) - 1, nx // 2 + 1), spectrum.dtype)
    rows = jnp.concatenate([positive, between, negative[:0:-1]])
    if nx % 2 == 0:  # on the fine grid it has a mirror image
        rows = rows.at[:, -1].divide(2)
    fine = jnp.fft.irfft2(rows, s=(my, mx)) * (my * mx / (ny * nx))
    mirror = np.where(np.arange(mx // 2 + 1) == 0, 1.0, 2.0).astype(fine.dtype)
    return SquareSpectrum(*_halves(jnp.fft.rfft2(fine**2) * (mirror / (my * mx))), (ny, nx))


def power_series(square: SquareSpectrum, spectrum: Complex[Array, "y k"]) -> Series:
    r"""$\sum_x V(x) S(I; s)(x)^2$ for the `rfft2` of a weight V and the image I whose square is given."""
    (ny, nx), (my, mx) = square.shape, (_fine_size(n) for n in square.shape)
    positive, negative = (jnp.conj(half) for half in _repeated(spectrum, (ny, nx), (my, mx)))
    # The fine grid has nothing at its own Nyquist frequencies.
    weights = np.ones(mx // 2 + 1)
    return _series(square.positive * positive, square.negative * negative, weights, (my, mx), (ny, nx))


def _repeated(spectrum: Complex[Array, "y k"], shape: tuple[int, int], fine: tuple[int, int]) -> tuple[Array, Array]:
    """The halves of a periodic spectrum on the grid of `_fine_size`, from that of the image.

    Put together of slices: to fetch one element after another takes as long as a transform.
    """
    nx, (my, mx) = shape[1], fine
    mirrored = _turned(spectrum)[:, (nx - 1) // 2 : 0 : -1]
    columns = jnp.concatenate([spectrum, jnp.conj(mirrored)], axis=1)
    columns = _tiled(columns, mx // 2 + 1, axis=1)
    return _tiled(columns, my // 2 + 1, axis=0), _tiled(_turned(columns), my // 2 + 1, axis=0)


def _tiled(spectrum: Complex[Array, "y k"], length: int, *, axis: int) -> Complex[Array, "j k"]:
    """Repeated along an axis, to so many rows or columns."""
    whole, rest = divmod(length, spectrum.shape[axis])
    parts = [spectrum] * whole
    if rest:
        parts.append(jax.lax.slice_in_dim(spectrum, 0, rest, axis=axis))
    return jnp.concatenate(parts, axis)


def _halves(spectrum: Complex[Array, "y k"]) -> tuple[Array, Array]:
    """The rows of the frequencies 0, 1, ... and those of 0, -1, ..., both up to the Nyquist frequency."""
    half = len(spectrum) // 2 + 1
    return spectrum[:half], _turned(spectrum, half)


def _shares(shape: tuple[int, int], dtype: jnp.dtype) -> tuple[Array, Array]:
    """How much of each coefficient belongs to either of `_halves`, for an image of that shape.

    Of indices, not of tables: constants are many times as large in a program that is being linked.
    """
    row, column = (jax.lax.broadcasted_iota(jnp.int32, (shape[0] // 2 + 1, shape[1] // 2 + 1), axis) for axis in (0, 1))
    # The Nyquist row is both -N/2 and +N/2, except where the columns are at theirs: one sign.
    both = 2 * row == shape[0]
    one = both & (2 * column == shape[1])
    positive = jnp.where(one, 1.0, jnp.where(both, 0.5, 1.0))
    negative = jnp.where(one | (row == 0), 0.0, jnp.where(both, 0.5, 1.0))
    return positive.astype(dtype), negative.astype(dtype)


def _turned(spectrum: Complex[Array, "y k"], rows: int | None = None) -> Complex[Array, "j k"]:
    """The rows of the opposite frequencies, the first so many of them."""
    rows = len(spectrum) if rows is None else rows
    return jnp.concatenate([spectrum[:1], spectrum[:-rows:-1]])


def _fine_size(n: int) -> int:
    """The smallest even length with small prime factors that holds twice the frequencies of `n` points."""
    return next(size for size in itertools.count(2 * n + 2, 2) if 30**20 % size == 0)


def _series(
    positive: Complex[Array, "j k"],
    negative: Complex[Array, "j k"],
    weights: np.ndarray,
    grid: tuple[int, int],
    shape: tuple[int, int],
) -> Series:
    r"""$\mathrm{Re} \sum_{jk} w_k c_{jk}\, e^{-i(\omega_j s_y + \omega_k s_x)}$, of frequencies as an `rfft2` has them.

    Args:
        positive: coefficients of the half plane, in the rows of `_halves`.
        negative: likewise.
        weights: of its columns.
        grid: that the transform is of, rows and columns.
        shape: of the image, in pixels, which the grid spans.
    """
    real = positive.real.dtype
    ahead, behind = (weights.astype(real) * share for share in _shares(grid, real))
    positive, negative = positive * ahead, negative * behind
    # With the cosine of a row goes what is even in it, with the sine what is odd.
    even, odd = positive + negative, positive - negative
    table = jnp.block([[even.real, even.imag], [odd.imag, -odd.real]])
    return Series(table, ROUNDING * jnp.finfo(real).eps * _norm(table), shape)


def _norm(table: Float[Array, "j k"]) -> Float[Array, ""]:
    """Root of the sum of squares, also where a square is beyond the range of the dtype."""
    top = jnp.max(jnp.abs(table))
    return top * jnp.sqrt(jnp.sum((table / jnp.where(top > 0, top, 1)) ** 2))
