"""What the telescope does: where it points, exposure by exposure, and how its wavefront drifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .modes import MODES, Mode
from .pupil import Pupil, phase_screen

ROLL = 112.0  # position angle of V3 midway between the rolls, degrees
MEMORY = 0.9  # correlation of the wavefront's drift from an exposure to the next
REFERENCE_BRIGHTNESS = 1.6  # of the reference star over the target
STREAMS = ("wavefront", "drift", "detector", "pointing", "noise", "wander", "astrometry")
BLANK = (0.021, -0.016)  # from the target to the blank sky, degrees
STEP = (4.1, -3.7)  # between the dithers on the blank sky, arcsec

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pointing:
    """One exposure as planned and flown."""

    kind: Literal["science", "psf", "background"]
    observation: int  # number of the visit, from 1
    position: int  # number in the dither pattern, from 1
    step: tuple[float, float]  # of the dither, arcsec
    source: tuple[float, float]  # where the star really is, from the mask's centre, arcsec
    roll: float  # degrees
    sky: tuple[float, float]  # of the star, or where one would be, degrees
    brightness: float  # over the target's; 0: there is no star


def stream(mode: Mode, seed: int, name: str, index: int = 0) -> np.random.Generator:
    """Random numbers of one kind for one exposure: more exposures do not change those before.

    Args:
        mode: of the simulation.
        seed: of the simulation.
        name: what the numbers are for.
        index: of the exposure or visit.

    Returns:
        A generator.

    Example:
        >>> bool(stream(MODES["nircam"], 1, "noise").random() == stream(MODES["nircam"], 1, "noise", 1).random())
        False
    """
    return np.random.default_rng([seed, list(MODES).index(mode.name), STREAMS.index(name), index])


def small_grid(step: float) -> tuple[tuple[float, float], ...]:
    """The nine positions of a small-grid dither, the centre first, arcsec.

    Example:
        >>> small_grid(0.02)[:3]
        ((0.0, 0.0), (-0.02, 0.02), (0.0, 0.02))
    """
    ring = ((0, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0))
    return tuple((x * step, y * step) for x, y in ring)


def plan(mode: Mode, seed: int, n_science: int, n_references: int, roll: float) -> tuple[Pointing, ...]:
    """Point the telescope: the target once for every roll, then the reference star on a small grid.

    Args:
        mode: gives the sizes of the errors.
        seed: of the simulation.
        n_science: number of exposures of the target.
        n_references: number of exposures of the reference star.
        roll: angle from one exposure of the target to the next, degrees.

    Returns:
        The exposures in order of time. A visit has one error of target acquisition; every dither adds its own.

    Example:
        >>> [p.kind for p in plan(MODES["nircam"], 1, 1, 2, 10.0)]
        ['science', 'psf', 'psf']
    """
    ra, dec = mode.coordinates
    grid = small_grid(mode.dither)
    pointings = []
    for k in range(n_science + n_references):
        science = k < n_science
        visit = k if science else n_science
        acquired = stream(mode, seed, "pointing", 1000 + visit).normal(0, mode.acquisition, 2)
        fine = stream(mode, seed, "pointing", k).normal(0, mode.pointing, 2)
        step = (0.0, 0.0) if science else grid[(k - n_science) % len(grid)]
        source = acquired + fine + step
        pointings.append(
            Pointing(
                kind="science" if science else "psf",
                observation=visit + 1,
                position=1 if science else k - n_science + 1,
                step=step,
                source=(float(source[0]), float(source[1])),
                roll=ROLL + (k - (n_science - 1) / 2) * roll if science else ROLL - 4.0,
                sky=(ra, dec) if science else ((ra + 2.3) % 360, dec + 1.1),
                brightness=1.0 if science else REFERENCE_BRIGHTNESS,
            )
        )
    return tuple(pointings)


def plan_backgrounds(mode: Mode, n_science: int, count: int) -> tuple[Pointing, ...]:
    """Point at blank sky beside the target, after target and reference star.

    Args:
        mode: gives the target.
        n_science: number of exposures of the target, each a visit.
        count: number of exposures.

    Returns:
        The exposures in order of time, dithered.

    Example:
        >>> [p.position for p in plan_backgrounds(MODES["miri_4qpm"], 2, 2)]
        [1, 2]
    """
    ra, dec = mode.coordinates
    return tuple(
        Pointing(
            kind="background",
            observation=n_science + 2,
            position=k + 1,
            step=(k * STEP[0], k * STEP[1]),
            source=(0.0, 0.0),
            roll=ROLL,
            sky=((ra + BLANK[0] + k * STEP[0] / 3600) % 360, dec + BLANK[1] + k * STEP[1] / 3600),
            brightness=0.0,
        )
        for k in range(count)
    )


def wander(
    mode: Mode, pupil: Pupil, seed: int, index: int, nints: int, jitter: float, drift: float
) -> tuple[Array, Array]:
    """How the integrations of an exposure differ from its mean.

    Args:
        mode: of the simulation.
        pupil: gives the basis of wavefronts.
        seed: of the simulation.
        index: of the exposure.
        nints: number of integrations.
        jitter: rms of the star's position along each axis, arcsec.
        drift: rms of the difference between the wavefronts of two integrations, metres.

    Returns:
        Position of the star, arcsec, [int 2], and wavefront, metres, [int y x], both from the exposure's. One
        integration stands for all where they do not differ.

    Example:
        >>> from coronjax.simulate.pupil import make_pupil
        >>> wander(MODES["nircam"], make_pupil(), 1, 0, 3, 0.002, 0.0)[0].shape
        (3, 2)
    """
    if jitter == 0 and drift == 0:
        return np.zeros((1, 2)), np.zeros((1, *pupil.aperture.shape))
    rng, modes = stream(mode, seed, "wander", index), len(pupil.basis)
    draws = np.stack([rng.normal(size=2 + modes) for _ in range(nints)])  # more integrations do not change those before
    fronts = np.tensordot(draws[:, 2:] * drift / np.sqrt(2 * modes), pupil.basis, 1)
    return draws[:, :2] * jitter, fronts


def wavefronts(mode: Mode, pupil: Pupil, seed: int, count: int) -> Array:
    r"""Wavefront error of every exposure.

    $$ W_k = W_\mathrm{static} + \sum_j c_{kj} B_j, \qquad c_{k+1} = \rho c_k + \sqrt{1 - \rho^2} \, \sigma \, n_k $$

    Args:
        mode: gives the rms of the static error and of the change from an exposure to the next.
        pupil: gives the basis B.
        seed: of the simulation.
        count: number of exposures.

    Returns:
        Metres, [exp y x].

    Example:
        >>> from coronjax.simulate.pupil import make_pupil
        >>> wavefronts(MODES["nircam"], make_pupil(), 1, 2).shape
        (2, 192, 192)
    """
    rng, modes = stream(mode, seed, "wavefront"), len(pupil.basis)
    smooth = rng.normal(0, np.sqrt(0.6 / modes), modes)
    screen = np.sqrt(0.4) * phase_screen(rng, pupil.aperture)
    sigma = mode.drift / np.sqrt(2 * (1 - MEMORY) * modes)
    state, coefficients = np.zeros(modes), []
    for k in range(count):
        kick = stream(mode, seed, "drift", k).normal(0, sigma, modes)
        state = kick if k == 0 else MEMORY * state + np.sqrt(1 - MEMORY**2) * kick
        coefficients.append(mode.wavefront * smooth + state)
    return mode.wavefront * screen + np.tensordot(np.array(coefficients), pupil.basis, 1)


def rms(wavefront: Any, pupil: Pupil) -> float:
    """Root mean square of a wavefront over the aperture, metres.

    Example:
        >>> from coronjax.simulate.pupil import make_pupil
        >>> round(rms(make_pupil().basis[3], make_pupil()), 6)
        1.0
    """
    return float(np.sqrt((wavefront**2 * pupil.aperture).sum() / pupil.aperture.sum()))
