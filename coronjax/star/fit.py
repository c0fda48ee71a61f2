"""Fit the model of a star behind a fixed mask to the images of all exposures together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .model import Slopes, StarModel, wavefront_modes
from .start import Start, coarse_places

if TYPE_CHECKING:
    from ..simulate.modes import Filter, Mode
    from .images import StarImage

# What is known beforehand, as standard deviations.
MASK = 0.7  # pixels, of the mask from where the model's image fits best
SOURCE = 0.030  # arcsec, of a star from the mask: target acquisition leaves 6 to 20 mas
WAVEFRONT = 50e-9  # metres rms, over all modes
MISMATCH = 0.1  # of the light in a pixel's surroundings: what no wavefront of the model explains
FLUX = 0.5  # share, of the star from the first estimate
COMPANION = 10.0  # scatters by which a companion is brighter than the model
HIDDEN = 2.5  # wavelengths over diameter: how far around a companion nothing counts
STEPS, ENOUGH = 14, 2e-3  # of Gauss and Newton at most; until the misfit falls by less than this share
GOOD = 1.4  # misfit over what noise and MISMATCH explain, with which no other place is tried
# Misfit over what noise and MISMATCH explain, beyond which the model is of no use: where the image shows its own noise,
# a good fit has about 1; else up to 2.
WORST_SMOOTH, WORST = 1.6, 2.4
# What the covariance leaves out: mismatch is alike in neighbouring pixels, and an unknown wavefront looks a little like
# a move. Measured on simulated wavefronts of 20 to 70 nm.
SCALE, ABSOLUTE = 2.0, 0.003  # of the errors; arcsec, of stars and mask together


@dataclass(frozen=True, eq=False)
class Fit:
    """Where the stars are."""

    stars: np.ndarray  # [exp 2] (x, y), 0-based pixels
    errors: np.ndarray  # [exp 2] standard errors, pixels, mismatch included
    relative: np.ndarray  # [exp 2] of the stars against their mean over the exposures
    mask: np.ndarray  # [2] centre of the mask, pixels
    misfit: np.ndarray  # [exp] scatter of the residual over what noise and mismatch explain
    doubt: str  # why the fit is not to be relied on; empty: it is

    @property
    def reliable(self) -> bool:
        """Whether model and images agree well enough."""
        return not self.doubt


@dataclass(frozen=True, eq=False)
class _Data:
    image: np.ndarray  # [y x]
    noise: np.ndarray  # [y x] its standard deviation
    weight: np.ndarray  # [y x] inverse variance, mismatch included; 0 where a pixel is bad


@dataclass(frozen=True, eq=False)
class _State:
    """The normal equations at a point."""

    cost: float
    matrix: np.ndarray
    gradient: np.ndarray  # downhill
    misfit: np.ndarray  # [exp]


def fit_star(of: tuple[Mode, Filter], images: Sequence[StarImage], near: Sequence[tuple[float, float]]) -> Fit | str:
    r"""Fit the place of the star in every image, and what they share: mask and wavefront.

    $$ \min \sum_{e, p} w_{ep} \left( d_{ep} - f I_p(c, W, s_e) - b_e \right)^2
       + \frac{c^2}{\sigma_c^2} + \sum_j \frac{W_j^2}{\sigma_j^2} + \sum_e \frac{s_e^2}{\sigma_s^2} $$

    by Gauss and Newton with Marquardt's damping: mask c, wavefront W, flux f, stars s, pedestals b. Weights hold noise
    and a share of the light about a pixel, fall where a residual is large (a companion, a cosmic ray), and are scaled
    so that the scatter of the residual is what they say.

    Args:
        of: the coronagraph.
        images: one for each exposure.
        near: 0-based pixel (x, y) in each from which the star is less than 10 pixels away.

    Returns:
        `Fit`; or why there is none, in a phrase.

    Source: Marquardt 1963, SIAM J. Appl. Math. 11, 431.
    """
    from ..simulate.optics import make_coronagraph

    mode, filter = of
    coronagraph = make_coronagraph(mode.name, filter.name)
    best: Fit | None = None
    for start in coarse_places(coronagraph, images, near, prior_wavefront()):
        problem = _Problem(StarModel(coronagraph, start.size), images, start)
        found = problem.result(*problem.solve())
        if best is None or found.misfit.sum() < best.misfit.sum():
            best = found
        if best.misfit.max() < GOOD:
            break
    return best or "the star is too close to the edge, or too few pixels about it are good"


def _cut(image: StarImage, corner: tuple[int, int], size: int, *, smooth: bool) -> _Data:
    """The square of an image, its weights with mismatch; a disc of it counts.

    Where the optics leave no structure as fine as a pixel (`smooth`), the image itself shows its noise.
    """
    rows, columns = slice(corner[1], corner[1] + size), slice(corner[0], corner[0] + size)
    data, noise = image.image[rows, columns], image.noise[rows, columns]
    y, x = np.indices(data.shape) - (size - 1) / 2
    good = np.isfinite(noise) & (np.hypot(x, y) < size / 2)
    data = np.where(good, data, 0.0)
    noise = np.where(good, noise, 1.0)
    if smooth:
        noise = noise * _excess(data, noise, good)
    return _Data(data, noise, _weight(data, noise, good))


def _excess(data: np.ndarray, noise: np.ndarray, good: np.ndarray) -> float:
    """Scatter from pixel to pixel where there is little light, over what the noise explains; at least 1."""
    from scipy.ndimage import uniform_filter

    share = uniform_filter(good * 1.0, 3)
    about = uniform_filter(data, 3) / np.maximum(share, 0.1)
    faint = good & (share > 0.99) & (np.abs(about) <= np.median(np.abs(about[good])))
    if not faint.any():
        return 1.0
    deviation = np.abs(data - about)[faint] / noise[faint]
    return max(1.0, float(np.median(deviation)) / 0.674 / np.sqrt(8 / 9))


def _weight(light: np.ndarray, noise: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Inverse variance by noise and by mismatch, a share of the light within two pixels."""
    from scipy.ndimage import uniform_filter

    about = uniform_filter(np.abs(light) * good, 5) / np.maximum(uniform_filter(good * 1.0, 5), 0.04)
    return np.where(good, 1 / (noise**2 + (MISMATCH * about) ** 2), 0.0)


def prior_wavefront() -> np.ndarray:
    """Standard deviation of each wavefront mode as known beforehand, metres.

    Example:
        >>> round(float(np.hypot.reduce(prior_wavefront())) * 1e9, 6)
        50.0
    """
    spectrum = 1 / np.hypot(1, wavefront_modes()[1] / 2)
    return np.asarray(WAVEFRONT * spectrum / np.hypot.reduce(spectrum))


class _Problem:
    """What is minimised.

    Its parameters are those that the exposures share, the mask's centre (2, pixels), the wavefront's modes (metres) and
    the flux over its first estimate less 1; and the star behind the mask of each (2, pixels).
    """

    def __init__(self, model: StarModel, images: Sequence[StarImage], start: Start) -> None:
        self.model, self.place, self.corner = model, start.place, np.array(start.corner)
        self.smooth = model.resolution > 4
        data = self.data = [_cut(image, start.corner, start.size, smooth=self.smooth) for image in images]
        self.scale = model.coronagraph.mode.pixel_scale
        self.modes, wavefront = wavefront_modes()[0], prior_wavefront()
        self.count = 3 + len(wavefront)
        stars = np.full(2 * len(data), SOURCE / self.scale)
        self.known = np.concatenate([[MASK, MASK], wavefront, [FLUX], stars])
        self.fields = model.wavefront_fields(start.place)
        self.weights = [d.weight for d in data]

    def solve(self) -> tuple[np.ndarray, _State]:
        """From a flat wavefront downhill."""
        point, damping, accepted = np.zeros(len(self.known)), 1e-2, 0
        views = self.views(point)
        self.flux = self.first_flux(views)
        state = self.equations(point, views)
        for _ in range(STEPS):
            damped = state.matrix + damping * np.diag(np.diag(state.matrix))
            trial = point + np.linalg.solve(damped, state.gradient)
            seen = self.views(trial)
            cost = self.cost(trial, seen)
            if cost >= state.cost:
                damping *= 10
                continue
            settled = state.cost - cost < ENOUGH * state.cost
            point, views, damping, accepted = trial, seen, max(damping / 10, 1e-6), accepted + 1
            if accepted == 2:
                self.hide_companions(point, views)
            state = self.equations(point, views)
            if settled and accepted > 2:
                break
        return point, state

    def views(self, point: np.ndarray) -> list[Slopes]:
        """The model of every exposure."""
        wavefront = np.tensordot(point[2 : self.count - 1].astype(np.float32), self.modes, 1)
        stars = point[self.count :].reshape(-1, 2)
        return [self.model.slopes(wavefront, star, self.place + point[:2]) for star in stars]

    def first_flux(self, views: list[Slopes]) -> float:
        """The median over the exposures of what fits each."""
        found = []
        for view, data in zip(views, self.data, strict=True):
            shapes = np.stack([view.image.ravel(), np.ones(view.image.size)])
            weighted = shapes * data.weight.ravel()
            found.append(float(np.linalg.solve(weighted @ shapes.T, weighted @ data.image.ravel())[0]))
        return float(np.median(found))

    def rest(self, point: np.ndarray, view: Slopes, i: int) -> np.ndarray:
        """What star and pedestal leave of an image, [y x]."""
        rest = self.data[i].image - self.flux * (1 + point[self.count - 1]) * view.image
        return np.asarray(rest - np.average(rest, weights=self.weights[i]))

    def cost(self, point: np.ndarray, views: list[Slopes]) -> float:
        """What is minimised."""
        misfits = (float((self.weights[i] * self.rest(point, v, i) ** 2).sum()) for i, v in enumerate(views))
        return float(((point / self.known) ** 2).sum()) + sum(misfits)

    def hide_companions(self, point: np.ndarray, views: list[Slopes]) -> None:
        """Give no weight to the surroundings of what is far brighter than the model."""
        from scipy.ndimage import distance_transform_edt

        for i, (view, data) in enumerate(zip(views, self.data, strict=True)):
            good = data.weight > 0
            weight = _weight(self.flux * view.image, data.noise, good)
            deviation = self.rest(point, view, i) * np.sqrt(weight)
            bright = deviation > COMPANION * max(1.0, float(np.median(np.abs(deviation[good]))) / 0.674)
            near = distance_transform_edt(~bright) < HIDDEN * self.model.resolution if bright.any() else bright
            if (near & good).sum() < 0.5 * good.sum():
                weight = np.where(near, 0.0, weight)
            self.data[i] = _Data(data.image, data.noise, weight)

    def equations(self, point: np.ndarray, views: list[Slopes]) -> _State:
        """Slope and curvature of the cost, with weights that fit the residuals."""
        matrix, gradient, misfit = np.diag(self.known**-2), -point * self.known**-2, []
        for i, view in enumerate(views):
            self.weights[i], scale = _robust(self.rest(point, view, i), self.data[i].weight)
            misfit.append(scale)
            weight, rest = self.weights[i].ravel(), self.rest(point, view, i).ravel()
            root = np.sqrt(weight)
            jacobian = self._jacobian(view, self.flux * (1 + point[self.count - 1]))
            jacobian -= (jacobian @ weight / weight.sum())[:, None]  # the pedestal takes the mean
            own = np.r_[0 : self.count, self.count + 2 * i : self.count + 2 * i + 2]
            jacobian *= root  # a product with its own transpose takes half the time of another
            matrix[np.ix_(own, own)] += jacobian @ jacobian.T
            gradient[own] += jacobian @ (root * rest)
        return _State(self.cost(point, views), matrix, gradient, np.array(misfit))

    def _jacobian(self, slopes: Slopes, flux: float) -> np.ndarray:
        """Slopes of an exposure's image in mask, wavefront, flux and its star, [parameter pixel]."""
        by_wavefront = 2 * (slopes.field.conj().astype(np.complex64) * self.fields).real
        parts = [slopes.mask, by_wavefront, slopes.image[None], slopes.source]
        return flux * np.concatenate([part.reshape(len(part), -1) for part in parts])

    def result(self, point: np.ndarray, state: _State) -> Fit:
        """Places on the whole image, and whether to rely on them."""
        mask = self.place + point[:2] + self.corner
        stars = mask + point[self.count :].reshape(-1, 2)
        absolute, relative = self.errors(np.linalg.inv(state.matrix))
        doubt = ""
        if state.misfit.max() > (WORST_SMOOTH if self.smooth else WORST):
            doubt = (
                f"a model of the star behind the mask misses its image by {state.misfit.max():.1f} times the expected"
            )
        elif np.abs(point[self.count :]).max() > 4 * SOURCE / self.scale:
            doubt = "the star would be further from the mask than it is ever put"
        return Fit(stars, absolute, relative, mask, state.misfit, doubt)

    def errors(self, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors of the stars, and of their deviations from their mean, pixels, [exp 2]."""
        n = len(self.data)
        places = np.zeros((2 * n, len(covariance)))
        places[:, self.count :] = np.eye(2 * n)
        deviations = np.kron(np.eye(n) - 1 / n, np.eye(2)) @ places
        places[0::2, 0], places[1::2, 1] = 1, 1
        absolute, relative = (np.sqrt(np.diag(m @ covariance @ m.T)).reshape(-1, 2) for m in (places, deviations))
        return np.hypot(SCALE * absolute, ABSOLUTE / self.scale), relative * (1 if self.smooth else SCALE)


def _robust(rest: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights that fall with large residuals (Cauchy), scaled to the scatter of the residual; and that scatter."""
    square = rest**2 * weight
    scatter = float(np.median(square[weight > 0])) / 0.455
    scale = max(1.0, scatter)
    return np.asarray(weight / scale / (1 + square / (9 * scale))), float(np.sqrt(scatter))
