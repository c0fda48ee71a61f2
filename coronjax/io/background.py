"""The background of an observation, from exposures of empty sky: its image, its noise, and which belongs to whom."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cube import DQ, Cube

if TYPE_CHECKING:
    from .exposure import Exposure, ExposureHeaders


@dataclass(frozen=True, eq=False)
class BackgroundImage:
    """The median of background exposures."""

    level: np.ndarray  # [y x] float32, MJy/sr; NaN where no plane is good
    variance: np.ndarray  # [y x] float32, of the level, (MJy/sr)^2; NaN where no plane is good
    n: int  # exposures

    def __repr__(self) -> str:
        """Size and typical level."""
        ny, nx = self.level.shape
        good = np.isfinite(self.level)
        typical = float(np.median(self.level[good])) if good.any() else math.nan
        return f"BackgroundImage of {self.n} exposures: {ny} x {nx} pixels, median {typical:.3g} MJy/sr"


@dataclass(frozen=True, eq=False)
class Subtracted:
    """Exposures without their background."""

    exposures: tuple[Exposure, ...]  # as given, their cubes less the background
    images: tuple[BackgroundImage | None, ...]  # for each exposure; None: nothing was subtracted
    notes: tuple[str, ...]  # what a user should know, a sentence each


def background_image(exposures: Sequence[Exposure]) -> BackgroundImage:
    r"""The median over dithers of the median over integrations, pixel by pixel.

    Cosmic rays are in one integration only, stars in one dither. Where there are but two values, which a median would
    average, and they differ by more than 5 standard deviations (each less the median of its plane, since the sky's
    level drifts), the lower one counts: what is in one alone adds light.
    A median of $n$ values of variance $\sigma_i^2$ has the variance

    $$ f(n) \, \frac{1}{n^2} \sum_i \sigma_i^2, \qquad f(n) = \frac{\pi n}{2n + \pi - 2}
       \; (n \text{ odd}), \quad f(n) = \frac{\pi n}{2n + 2\pi - 4} \; (n \text{ even}) $$

    where $\sigma$ is without the error of the flat field, which the data share.

    Args:
        exposures: of empty sky, at least one.

    Returns:
        `BackgroundImage`. A pixel is bad in an integration where it is NaN or flagged DO_NOT_USE.

    Raises:
        ValueError: there is no exposure.

    Example:
        >>> from types import SimpleNamespace
        >>> sci = np.array([1.0, 2.0, 50.0, np.nan], np.float32)[:, None, None]
        >>> cube = Cube(sci, np.ones_like(sci), np.zeros(sci.shape, np.uint32), np.ones(4, bool))
        >>> background_image([SimpleNamespace(cube=cube)]).level.tolist()
        [[2.0]]

    Source: f(n) is within 3 % of the exact variance of the median of n normal deviates for every n, exact for 1 and 2.
    """
    if not exposures:
        raise ValueError("a background needs at least one exposure")
    dithers = [_median(*_values(exposure.cube)) for exposure in exposures]
    level, variance = _median(*(np.stack(part) for part in zip(*dithers, strict=True)))
    return BackgroundImage(level.astype(np.float32), variance.astype(np.float32), len(exposures))


def subtract_background(exposure: Exposure, background: BackgroundImage) -> Cube:
    """The integrations of an exposure less the background.

    The noise of the background is the same in all of them: it stays in `background.variance` and is not added to
    theirs.

    Args:
        exposure: as read.
        background: of the same image size.

    Returns:
        Its cube [integration y x]. Where the background is not known the value stays and is flagged DO_NOT_USE.

    Example:
        >>> from types import SimpleNamespace
        >>> one = np.ones((1, 1, 1), np.float32)
        >>> exposure = SimpleNamespace(cube=Cube(3 * one, one, np.zeros((1, 1, 1), np.uint32), np.ones(1, bool)))
        >>> subtract_background(exposure, BackgroundImage(one[0], one[0], 1)).sci.item()
        2.0
    """
    cube = exposure.cube
    known = np.isfinite(background.level)
    sci: Any = cube.sci - np.where(known, background.level, np.float32(0))
    dq: Any = np.where(known, cube.dq, cube.dq | np.uint32(DQ.DO_NOT_USE.value))
    return dataclasses.replace(cube, sci=sci, dq=dq)


def subtract_backgrounds(exposures: Sequence[Exposure], backgrounds: Sequence[Exposure]) -> Subtracted:
    """Subtract from every exposure the background that belongs to it.

    Args:
        exposures: of targets and references.
        backgrounds: of empty sky; with none, nothing is done.

    Returns:
        `Subtracted`. An exposure whose header says that its background is subtracted already stays as it is, with a
        note.

    Example:
        >>> subtract_backgrounds((), ()).notes
        ()
    """
    chosen = match_backgrounds(exposures, backgrounds)
    made = {indices: background_image([backgrounds[i] for i in indices]) for indices in set(chosen) if indices}
    images = tuple(made.get(indices) for indices in chosen)
    done = tuple(
        exposure if image is None else dataclasses.replace(exposure, cube=subtract_background(exposure, image))
        for exposure, image in zip(exposures, images, strict=True)
    )
    return Subtracted(done, images, background_notes(exposures, backgrounds))


def match_backgrounds(
    exposures: Sequence[Exposure | ExposureHeaders], backgrounds: Sequence[Exposure | ExposureHeaders]
) -> tuple[tuple[int, ...], ...]:
    """Which backgrounds belong to which exposure.

    The backgrounds of one name (TARGPROP) belong together. They belong to the target whose name theirs contains, else
    to the one that lies nearest on the sky. An exposure takes those of its own target; where there are none, all.

    Args:
        exposures: of targets and references.
        backgrounds: of empty sky.

    Returns:
        For every exposure the indices of its backgrounds; none where the header says S_BKDSUB='COMPLETE'.

    Example:
        >>> match_backgrounds((), ())
        ()
    """
    owners = {name: _owner(name, backgrounds, exposures) for name in {_name(b) for b in backgrounds}}
    found = []
    for exposure in exposures:
        own = tuple(i for i, background in enumerate(backgrounds) if owners[_name(background)] == _name(exposure))
        own = own or tuple(range(len(backgrounds)))
        found.append(() if exposure.keyword("S_BKDSUB") == "COMPLETE" else own)
    return tuple(found)


def background_notes(
    exposures: Sequence[Exposure | ExposureHeaders], backgrounds: Sequence[Exposure | ExposureHeaders]
) -> tuple[str, ...]:
    """What a user should know of the backgrounds of an observation.

    Args:
        exposures: of targets and references.
        backgrounds: of empty sky.

    Returns:
        A sentence each; none where there are no backgrounds.

    Example:
        >>> background_notes((), ())
        ()
    """
    if not backgrounds:
        return ()
    notes: list[str] = []
    done = [exposure.path.name for exposure in exposures if exposure.keyword("S_BKDSUB") == "COMPLETE"]
    if done:
        who = done[0] if len(done) == 1 else f"{len(done)} exposures"
        notes.append(f"{who}: S_BKDSUB='COMPLETE', the background is subtracted already")
    if len(backgrounds) == 1 and len(exposures) > len(done):
        notes.append("one background exposure: what stars it has are subtracted with it")
    for keyword in ("READPATT", "NGROUPS"):
        ours, theirs = ({str(e.keyword(keyword)) for e in group} for group in (exposures, backgrounds))
        if not theirs & ours:
            texts = ", ".join(sorted(theirs)), ", ".join(sorted(ours))
            notes.append(f"backgrounds have {keyword}={texts[0]}, the exposures {texts[1]}")
    return tuple(notes)


def background_cards(image: BackgroundImage | None) -> dict[str, tuple[Any, str]]:
    """Header cards that say what was subtracted.

    Args:
        image: the background; None: nothing was.

    Returns:
        Value and comment by keyword.

    Example:
        >>> background_cards(None)
        {}
    """
    if image is None:
        return {}
    known = np.isfinite(image.level)
    level = float(np.median(image.level[known])) if known.any() else 0.0
    return {
        "S_BKDSUB": ("COMPLETE", "Background subtraction"),
        "BKGDEXP": (image.n, "Background exposures subtracted, their median"),
        "BKGDMED": (level, "[MJy/sr] Median of the background subtracted"),
    }


def _values(cube: Cube) -> tuple[np.ndarray, np.ndarray]:
    """Values and variances of detector and photons [integration y x], NaN where a pixel is bad."""
    if cube.var_poisson is None or cube.var_rnoise is None:
        noise = np.asarray(cube.err, float) ** 2
    else:
        noise = np.asarray(cube.var_poisson, float) + np.asarray(cube.var_rnoise, float)
    bad = (np.asarray(cube.dq) & DQ.DO_NOT_USE.value != 0) | np.isnan(noise)
    return np.where(bad, np.nan, np.asarray(cube.sci, float)), noise


def _median(values: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median over the first axis and its variance, NaN where there is no value."""
    good = np.isfinite(values)
    levels = np.array([np.median(plane[ok]) if ok.any() else 0.0 for plane, ok in zip(values, good, strict=True)])
    bumps = np.where(good, values - levels[:, None, None], np.inf)
    sigma = np.sqrt(np.where(good, noise, 0.0).sum(axis=0))
    good &= ~((good.sum(axis=0) == 2) & (bumps > bumps.min(axis=0) + 5 * sigma))
    n = good.sum(axis=0)
    # Sorted, the good values come first; with none, both indices point at a NaN.
    ordered = np.sort(np.where(good, values, np.nan), axis=0)
    middle = [np.take_along_axis(ordered, np.maximum(k, 0)[None], 0)[0] for k in ((n - 1) // 2, n // 2)]
    factor = math.pi * n / (2 * n + np.where(n % 2 == 1, math.pi - 2, 2 * math.pi - 4))
    variance = factor * np.where(good, noise, 0.0).sum(axis=0) / np.where(n > 0, n, np.nan) ** 2
    return (middle[0] + middle[1]) / 2, variance


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} exposures"


def _name(exposure: Exposure | ExposureHeaders) -> str:
    """The target's name in capital letters and digits alone."""
    return re.sub(r"[^A-Z0-9]", "", str(exposure.keyword("TARGPROP") or exposure.keyword("TARGNAME") or "").upper())


def _owner(
    name: str, backgrounds: Sequence[Exposure | ExposureHeaders], exposures: Sequence[Exposure | ExposureHeaders]
) -> str | None:
    """Name of the target that the backgrounds of a name belong to."""
    named = {target for exposure in exposures if (target := _name(exposure)) and target in name}
    if named:
        return max(named, key=len)
    place = _place(next(background for background in backgrounds if _name(background) == name))
    placed = [(_distance(place, other), _name(exposure)) for exposure in exposures if (other := _place(exposure))]
    return min(placed)[1] if place is not None and placed else None


def _place(exposure: Exposure | ExposureHeaders) -> Mapping[str, float] | None:
    """Where the exposure points, radians."""
    for keys in (("RA_REF", "DEC_REF"), ("TARG_RA", "TARG_DEC")):
        values = [exposure.keyword(key) for key in keys]
        if all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            return {"ra": math.radians(values[0]), "dec": math.radians(values[1])}
    return None


def _distance(a: Mapping[str, float] | None, b: Mapping[str, float]) -> float:
    """Square of the chord between two places."""
    if a is None:
        return math.inf
    across = math.cos(a["dec"]) * math.cos(b["dec"]) * math.sin((a["ra"] - b["ra"]) / 2) ** 2
    return math.sin((a["dec"] - b["dec"]) / 2) ** 2 + across
