"""What the tests of drizzle share: maps, integrations, the drizzle package."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from drizzle.resample import Drizzle

from coronjax.cube import Cube
from coronjax.ops import resample
from coronjax.options import Resample

SHAPE = (17, 15)
FRAME = (40, 44)


def pixel_map(angle=0.0, scale=1.0, bend=0.0, flip=False, centre=(21.3, 19.6), shape=SHAPE):
    """Where a rotated, scaled, slightly bent image of the given shape falls on the frame."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    x, y = (x - shape[1] / 2) * (-1 if flip else 1), y - shape[0] / 2
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.stack([cos * x - sin * y + bend * x * (x - y), sin * x + cos * y + bend * y * (x + y)], -1) + centre


def drizzled(planes, maps, weights, pixfrac=1.0, shape=FRAME):
    """What the drizzle package makes of some planes: image, weight, context."""
    package = Drizzle(kernel="square", fillval="NaN", out_shape=shape)
    for plane, one_map, weight in zip(planes, maps, weights, strict=True):
        package.add_image(
            np.asarray(plane, np.float32),
            exptime=1.0,
            pixmap=np.array(one_map),
            weight_map=np.asarray(weight, np.float32),
            pixfrac=pixfrac,
            pixel_scale_ratio=1.0,
            in_units="cps",
        )
    return package.out_img, package.out_wht, package.out_ctx


def cubes(rng, exposures=2, integrations=2):
    shape = (exposures, integrations, *SHAPE)
    sci, (poisson, noise, flat) = rng.normal(3, 1, shape), rng.uniform(0.5, 2, (3, *shape))
    dq = np.where(rng.random(shape) < 0.1, rng.choice([1, 4, 17, 512, 2048], shape), 0).astype(np.uint32)
    sci[rng.random(shape) < 0.03] = np.nan
    valid = np.ones((exposures, integrations), bool)
    return Cube(*(jnp.asarray(a) for a in (sci, np.ones(shape), dq, valid, poisson, noise, flat)))


MAPS = np.stack([pixel_map(0.1), pixel_map(-0.2, 1.01, 1e-4, centre=(22.0, 20.0))])


@eqx.filter_jit
def resampled(
    cube,
    maps=MAPS,
    times=(1.0, 1.0),
    background=(0.0, 0.0),
    ratio=1.0,
    window=4,
    options=None,
    shared=None,
    frame=FRAME,
):
    return resample(
        cube,
        jnp.asarray(maps),
        output_shape=frame,
        exposure_times=jnp.asarray(times),
        background=jnp.asarray(background),
        pixel_scale_ratio=ratio,
        window=window,
        options=options or Resample(),
        shared=shared,
    )
