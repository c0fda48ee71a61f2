"""Fit the model of a star behind a fixed mask to the images of all exposures together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .model import Slopes, StarModel, wavefront_modes
from .start import coarse_place

if TYPE_CHECKING:
    from ..simulate.modes import Filter, Mode
    from .images import StarImage

# What is known beforehand, as standard deviations.
MASK = 0.3  # pixels, of the mask from where the model's image fits best
SOURCE = 0.030  # arcsec, of a star from the mask: target acquisition leaves 6 to 20 mas
WAVEFRONT = 50e-9  # metres rms, over all modes
MISMATCH = 0.1  # of the light in a pixel's surroundings: what no wavefront of the model explains
COMPANION, HIDDEN = 10.0, 2.5  # brighter than this many scatters is a companion, hidden so far (wavelength over diameter)
STEPS, ENOUGH = 14, 2e-3  # of Gauss and Newton at most; until the misfit falls by less than this share
WORST = 6.0  # misfit over what noise and MISMATCH explain, beyond which the model is of no use


@dataclass(frozen=True, eq=False)
class Fit:
    """Where the stars are."""

    stars: np.ndarray  # [exp 2] (x, y), 0-based pixels
    errors: np.ndarray  # [exp 2] of the stars against each other, pixels, mismatch included
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
    weight: np.ndarray  # [y x] inverse variance, mismatch included; 0 where a pixel is bad


@dataclass(frozen=True, eq=False)
class _State:
    """The normal equations at a point."""

    cost: float
    matrix: np.ndarray
    gradient: np.ndarray  # downhill
    misfit: np.ndarray  # [exp]


def fit_star(
    of: tuple[Mode, Filter], images: Sequence[StarImage], near: Sequence[tuple[float, float]]
) -> Fit | str:
    r"""Fit the place of the star in every image, and what they share: mask and wavefront.

    $$ \min \sum_{e, p} w_{ep} \left( d_{ep} - f_e I_p(c, W, s_e) - b_e \right)^2 + \text{what is known of } c, W, s_e $$

    by Gauss and Newton with Marquardt's damping, flux f and pedestal b solved for inside. Weights hold noise and a
    share of the light about a pixel, fall where a residual is large (a companion, a cosmic ray), and are scaled so that
    the scatter of the residual is what they say.

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
    start = coarse_place(coronagraph, images, near, prior_wavefront())
    if start is None:
        return "the star is too close to the edge, or too few pixels about it are good"
    problem = _Problem(StarModel(coronagraph, start.size), [_cut(i, start.corner, start.size) for i in images], start.place)
    point, state = problem.solve()
    return problem.result(point, state, np.array(start.corner))


def _cut(image: StarImage, corner: tuple[int, int], size: int) -> _Data:
    """The square of an image, its weights with mismatch; a disc of it counts."""
    from scipy.ndimage import uniform_filter

    rows, columns = slice(corner[1], corner[1] + size), slice(corner[0], corner[0] + size)
    data, noise = image.image[rows, columns], image.noise[rows, columns]
    y, x = np.indices(data.shape) - (size - 1) / 2
    good = np.isfinite(noise) & (np.hypot(x, y) < size / 2)
    about = uniform_filter(np.abs(np.where(good, data, 0)), 5) / np.maximum(uniform_filter(good * 1.0, 5), 1e-3)
    variance = np.where(good, noise, 1.0) ** 2 + (MISMATCH * about) ** 2
    return _Data(np.where(good, data, 0.0), np.where(good, 1 / variance, 0.0))


def prior_wavefront() -> np.ndarray:
    """Standard deviation of each wavefront mode as known beforehand, metres.

    Example:
        >>> round(float(np.hypot.reduce(prior_wavefront())) * 1e9, 6)
        50.0
    """
    spectrum = 1 / np.hypot(1, wavefront_modes()[1] / 2)
    return np.asarray(WAVEFRONT * spectrum / np.hypot.reduce(spectrum))


class _Problem:
    """Parameters are the mask's centre (2, pixels), the wavefront's modes, and the star behind the mask (2, pixels) of
    every exposure."""

    def __init__(self, model: StarModel, data: list[_Data], place: np.ndarray) -> None:
        self.model, self.data, self.place = model, data, place
        self.scale = model.coronagraph.mode.pixel_scale
        self.modes, wavefront = wavefront_modes()[0], prior_wavefront()
        self.count = 2 + len(wavefront)
        stars = np.full(2 * len(data), SOURCE / self.scale)
        self.known = np.concatenate([[MASK, MASK], wavefront, stars])
        self.fields = model.wavefront_fields(place)
        self.weights = [d.weight for d in data]

    def solve(self) -> tuple[np.ndarray, _State]:
        """From a flat wavefront downhill."""
        point, damping, accepted = np.zeros(len(self.known)), 1e-2, 0
        views = self.views(point)
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
                self.hide_companions(views)
            state = self.equations(point, views)
            if settled and accepted > 2:
                break
        return point, state

    def views(self, point: np.ndarray) -> list[Slopes]:
        """The model of every exposure."""
        wavefront = np.tensordot(point[2 : self.count], self.modes, 1)
        stars = point[self.count :].reshape(-1, 2)
        return [self.model.slopes(wavefront, star, self.place + point[:2]) for star in stars]

    def cost(self, point: np.ndarray, views: list[Slopes]) -> float:
        """What is minimised."""
        fits = (_levels(_shapes(v), w, d.image)[1] for v, w, d in zip(views, self.weights, self.data, strict=True))
        return float(((point / self.known) ** 2).sum()) + sum(
            float(w.ravel() @ rest**2) for w, rest in zip(self.weights, fits, strict=True)
        )

    def hide_companions(self, views: list[Slopes]) -> None:
        """Give no weight to the surroundings of what is far brighter than the model."""
        from scipy.ndimage import distance_transform_edt

        for i, (view, data) in enumerate(zip(views, self.data, strict=True)):
            rest = _levels(_shapes(view), self.weights[i], data.image)[1].reshape(data.image.shape)
            typical = np.sqrt(np.median((rest**2 * data.weight)[data.weight > 0]) / 0.455)
            bright = rest * np.sqrt(data.weight) > COMPANION * max(typical, 1.0)
            if bright.any():
                near = distance_transform_edt(~bright) < HIDDEN * self.model.resolution
                if (near & (data.weight > 0)).sum() < 0.5 * (data.weight > 0).sum():
                    self.data[i] = _Data(data.image, np.where(near, 0.0, data.weight))

    def equations(self, point: np.ndarray, views: list[Slopes]) -> _State:
        """Slope and curvature of the cost, with weights that fit the residuals."""
        matrix, gradient, misfit = np.diag(self.known**-2), -point * self.known**-2, []
        for i, (slopes, data) in enumerate(zip(views, self.data, strict=True)):
            shapes = _shapes(slopes)
            rest = _levels(shapes, self.weights[i], data.image)[1]
            self.weights[i], scale = _robust(rest, data.weight)
            misfit.append(scale)
            levels, rest = _levels(shapes, self.weights[i], data.image)
            weight = self.weights[i].ravel()
            jacobian = np.concatenate([self._jacobian(slopes, levels[0]), shapes])
            curvature, downhill = (jacobian * weight) @ jacobian.T, (jacobian * weight) @ rest
            inner = np.linalg.solve(curvature[-2:, -2:], np.c_[curvature[-2:, :-2], downhill[-2:]])
            own = np.r_[0 : self.count, self.count + 2 * i : self.count + 2 * i + 2]
            matrix[np.ix_(own, own)] += curvature[:-2, :-2] - curvature[:-2, -2:] @ inner[:, :-1]
            gradient[own] += downhill[:-2] - curvature[:-2, -2:] @ inner[:, -1]
        return _State(self.cost(point, views), matrix, gradient, np.array(misfit))

    def _jacobian(self, slopes: Slopes, flux: float) -> np.ndarray:
        """Slopes of an exposure's image in mask, wavefront and its star, [parameter pixel]."""
        by_wavefront = 2 * (slopes.field.conj().astype(np.complex64) * self.fields).real
        parts = [slopes.mask, by_wavefront, slopes.source]
        return flux * np.concatenate([part.reshape(len(part), -1) for part in parts])

    def result(self, point: np.ndarray, state: _State, corner: np.ndarray) -> Fit:
        """Places on the whole image, and whether to rely on them."""
        mask = self.place + point[:2] + corner
        stars = mask + point[self.count :].reshape(-1, 2)
        covariance = np.linalg.inv(state.matrix)
        behind = covariance[self.count :, self.count :]
        errors = np.sqrt(np.diag(behind)).reshape(-1, 2)
        doubt = ""
        if state.misfit.max() > WORST:
            doubt = f"the model misses the image by {state.misfit.max():.1f} times what is expected"
        return Fit(stars, errors, mask, state.misfit, doubt)


def _levels(shapes: np.ndarray, weight: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flux and pedestal, and what they leave of the image."""
    weighted = shapes * weight.ravel()
    levels = np.linalg.solve(weighted @ shapes.T, weighted @ image.ravel())
    return levels, image.ravel() - levels @ shapes


def _robust(rest: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights that fall with large residuals (Cauchy), scaled to the scatter of the residual; and that scatter."""
    square = rest.reshape(weight.shape) ** 2 * weight
    scatter = float(np.median(square[weight > 0])) / 0.455
    scale = max(1.0, scatter)
    return np.asarray(weight / scale / (1 + square / (9 * scale))), float(np.sqrt(scatter))


def _shapes(view: Slopes) -> np.ndarray:
    """The star and the pedestal, [2 pixel]."""
    return np.stack([view.image, np.ones_like(view.image)]).reshape(2, -1)
