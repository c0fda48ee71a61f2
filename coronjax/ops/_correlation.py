r"""Weighted products of images under a shift, as trigonometric polynomials in that shift.

A Fourier-shifted image is a band-limited function read at $x - s$. Its weighted product with another image, and its
weighted square, are therefore finite Fourier series in $s$, whose coefficients are products of spectra. Built once,
each is read with all derivatives at any shift by two small matrix products, without another FFT.
"""

import itertools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float


class Series(eqx.Module):
    r"""$f(s) = \mathrm{Re} \sum_{jk} c_{jk}\, e^{-i(\omega_j s_y + \omega_k s_x)}$."""

    coefficients: Float[Array, "2*j k"]  # real over imaginary parts: complex products of matrices take twice as long
    omega_y: Float[Array, " j"]  # radians per pixel
    omega_x: Float[Array, " k"]  # radians per pixel

    def derivatives(self, shift: Float[Array, "2"]) -> tuple[Float[Array, ""], Float[Array, "2"], Float[Array, "2 2"]]:
        """Value, gradient and Hessian at `shift` = (sx, sy)."""
        rows, columns = _phases(self.omega_y, shift[1]), _phases(self.omega_x, shift[0])
        both = jnp.matmul(self.coefficients, jnp.concatenate(columns).T, precision="highest")
        upper, lower = jnp.split(both, 2)
        real, imaginary = upper[:, :3] - lower[:, 3:], upper[:, 3:] + lower[:, :3]  # [j, order in sx]
        joined = jnp.concatenate([real, -imaginary])
        table = jnp.matmul(jnp.concatenate(rows, -1), joined, precision="highest")  # [order in sy, order in sx]
        gradient = jnp.stack([table[0, 1], table[1, 0]])
        return table[0, 0], gradient, jnp.array([[table[0, 2], table[1, 1]], [table[1, 1], table[2, 0]]])


def _phases(omega: Float[Array, " k"], shift: Float[Array, ""]) -> Float[Array, "2 3 k"]:
    """The phase factors of one axis and their first two derivatives in the shift, real and imaginary parts."""
    cosine, sine = jnp.cos(omega * shift), jnp.sin(omega * shift)
    real = jnp.stack([cosine, -omega * sine, -(omega**2) * cosine])
    return jnp.stack([real, jnp.stack([-sine, -omega * cosine, omega**2 * sine])])


def product_series(other: Complex[Array, "y k"], spectrum: Complex[Array, "y k"], shape: tuple[int, int]) -> Series:
    r"""$\sum_x A(x) S(I; s)(x)$ of two images given by their `rfft2`, `other` of A and `spectrum` of I."""
    ny, nx = shape
    coefficients = spectrum * jnp.conj(other) / (ny * nx)
    rows, weights = np.fft.fftfreq(ny), np.full((ny, nx // 2 + 1), 2.0)  # a half plane stands for its mirror image too
    weights[:, 0] = 1.0
    if nx % 2 == 0:
        weights[:, -1] = 1.0
    if ny % 2 == 0:  # the Nyquist row is both -N/2 and +N/2, except where the columns are at theirs: one sign
        coefficients = jnp.concatenate([coefficients, coefficients[ny // 2][None]])
        rows = np.append(rows, 0.5)
        weights = np.concatenate([weights, weights[ny // 2][None]])
        share = np.full((2, nx // 2 + 1), 0.5)
        if nx % 2 == 0:
            share[:, -1] = 0.0, 1.0
        weights[[ny // 2, ny]] *= share
    real = coefficients.real.dtype
    return _series(coefficients * weights.astype(real), rows, np.fft.rfftfreq(nx))


class SquareSpectrum(eqx.Module):
    """The spectrum of the square of an image, on a grid fine enough to hold it: twice the bandwidth of the image."""

    coefficients: Complex[Array, "j k"]
    shape: tuple[int, int] = eqx.field(static=True)  # of the image


def square_spectrum(image: Float[Array, "y x"]) -> SquareSpectrum:
    """All that `power_series` needs of the image, whatever the weight."""
    (ny, nx), (my, mx) = image.shape, (_fine_size(n) for n in image.shape)
    spectrum = jnp.fft.fftshift(jnp.fft.fft2(image))
    before, after = (my // 2 - ny // 2, mx // 2 - nx // 2), (my // 2 - (ny + 1) // 2, mx // 2 - (nx + 1) // 2)
    padded = jnp.pad(spectrum, tuple(zip(before, after, strict=True)))
    fine = jnp.fft.ifft2(jnp.fft.ifftshift(padded)).real * (my * mx / (ny * nx))
    mirror = np.where(np.arange(mx // 2 + 1) == 0, 1.0, 2.0).astype(image.dtype)
    return SquareSpectrum(jnp.fft.rfft2(fine**2) * (mirror / (my * mx)), (ny, nx))


def power_series(square: SquareSpectrum, weight: Float[Array, "y x"]) -> Series:
    r"""$\sum_x V(x) S(I; s)(x)^2$ for `weight` V and the image I whose square is given."""
    (ny, nx), (my, mx) = square.shape, (_fine_size(n) for n in square.shape)
    rows, columns = np.round(np.fft.fftfreq(my) * my).astype(int), np.arange(mx // 2 + 1)
    window = jnp.conj(jnp.fft.fft2(weight))[np.ix_(rows % ny, columns % nx)]
    return _series(square.coefficients * window, rows / ny, columns / nx)


def _fine_size(n: int) -> int:
    """The smallest even length with small prime factors that holds twice the frequencies of `n` points."""
    return next(size for size in itertools.count(2 * n + 2, 2) if 30**20 % size == 0)


def integer_products(
    other: Complex[Array, "y k"], spectrum: Complex[Array, "y k"], shape: tuple[int, int]
) -> Float[Array, "y x"]:
    r"""$\sum_x A(x) I(x - s)$ at every integer shift, in the order of `fftfreq`, from `rfft2` of A and I."""
    return jnp.fft.irfft2(other * jnp.conj(spectrum), s=shape)


def _series(coefficients: Complex[Array, "j k"], rows: np.ndarray, columns: np.ndarray) -> Series:
    """From coefficients at frequencies in cycles per pixel."""
    parts = jnp.concatenate([coefficients.real, coefficients.imag])
    return Series(parts, *(jnp.asarray(2 * np.pi * cycles, parts.dtype) for cycles in (rows, columns)))
