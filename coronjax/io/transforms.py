"""The coordinate transforms of JWST's images, evaluated as their ASDF nodes describe them.

asdf, gwcs and astropy.modeling do the same for every transform there is; to import them and build their objects takes
longer than the rest of reading an association. What is not in the table here is left to them, see `tagged_wcs`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Function = Callable[..., tuple[np.ndarray, ...]]
Reader = Callable[[Any], np.ndarray]  # makes an array of its node

_NAME = re.compile(r"(?:asdf/transform|gwcs)/(\w+)-[\d.]+$")
# Entries that any node may have and that change nothing about its values.
_COMMON = {"name", "inputs", "outputs", "inverse", "bounding_box", "fixed", "bounds"}


class UnknownTransformError(Exception):
    """A node that is not in the table, or says something about itself that is not understood here."""


class Transform(NamedTuple):
    """A function of coordinates, one array for each, and its inverse."""

    n_inputs: int
    n_outputs: int
    forward: Function
    inverse: Function | None = None  # None: it has none


def transform_of(node: Any, read: Reader) -> Transform:
    """Make the function that a tagged node describes.

    Args:
        node: of the tagged YAML tree, for example `!transform/shift-1.4.0 {offset: 1.5}`.
        read: makes an array of a node that is one.

    Returns:
        `Transform` of positions and angles in degrees, as in the ASDF transform schemas.

    Raises:
        UnknownTransformError: this transform, or a part of it, is not known here.

    Source: the ASDF transform schemas 1.x; Calabretta & Greisen (2002), A&A 395, 1077, for the projection and the
    rotation of the sphere.
    """
    match = _NAME.search(str(getattr(node, "_tag", "")))
    if match is None or match[1] not in _KNOWN:
        raise UnknownTransformError(str(getattr(node, "_tag", node)))
    build, entries = _KNOWN[match[1]]
    strange = set(node) - _COMMON - entries
    if strange:
        raise UnknownTransformError(f"{match[1]} with {', '.join(sorted(strange))}")
    try:
        made = build(node, read)
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownTransformError(f"{match[1]}: {error}") from error
    return made._replace(inverse=transform_of(node["inverse"], read).forward) if "inverse" in node else made


def _compose(node: Mapping, read: Reader) -> Transform:
    first, second = (transform_of(part, read) for part in node["forward"])
    if first.n_outputs != second.n_inputs:
        raise ValueError("parts that do not fit")
    inverse = None
    if first.inverse is not None and second.inverse is not None:
        inverse = chain(second.inverse, first.inverse)
    return Transform(first.n_inputs, second.n_outputs, chain(first.forward, second.forward), inverse)


def chain(*functions: Function) -> Function:
    """Functions one after another.

    Args:
        functions: of coordinates, the first one first.

    Returns:
        The function of what the first one takes.
    """

    def one_after_another(*xs: np.ndarray) -> tuple[np.ndarray, ...]:
        for function in functions:
            xs = function(*xs)
        return xs

    return one_after_another


def _concatenate(node: Mapping, read: Reader) -> Transform:
    first, second = (transform_of(part, read) for part in node["forward"])

    def beside(left: Function, right: Function, n: int) -> Function:
        return lambda *xs: (*left(*xs[:n]), *right(*xs[n:]))

    inverse = None
    if first.inverse is not None and second.inverse is not None:
        inverse = beside(first.inverse, second.inverse, first.n_outputs)
    forward = beside(first.forward, second.forward, first.n_inputs)
    return Transform(first.n_inputs + second.n_inputs, first.n_outputs + second.n_outputs, forward, inverse)


def _shift(node: Mapping, _: Reader) -> Transform:
    offset = float(node["offset"])
    return Transform(1, 1, lambda x: (x + offset,), lambda x: (x - offset,))


def _scale(node: Mapping, _: Reader) -> Transform:
    factor = float(node["factor"])
    return Transform(1, 1, lambda x: (x * factor,), lambda x: (x / factor,))


def _identity(node: Mapping, _: Reader) -> Transform:
    n = int(node.get("n_dims", 1))
    return Transform(n, n, lambda *xs: xs, lambda *xs: xs)


def _remap_axes(node: Mapping, _: Reader) -> Transform:
    mapping = [int(i) for i in node["mapping"]]
    n_inputs = int(node.get("n_inputs", max(mapping) + 1))
    inverse = None
    if sorted(set(mapping)) == list(range(n_inputs)):
        inverse = _chosen([mapping.index(i) for i in range(n_inputs)])
    return Transform(n_inputs, len(mapping), _chosen(mapping), inverse)


def _chosen(indices: list[int]) -> Function:
    return lambda *xs: tuple(xs[i] for i in indices)


def _affine(node: Mapping, read: Reader) -> Transform:
    matrix, offset = read(node["matrix"]), read(node["translation"])
    back = np.linalg.inv(matrix)
    return Transform(2, 2, *(_linear(np.column_stack(both)) for both in ((matrix, offset), (back, -back @ offset))))


def _polynomial(node: Mapping, read: Reader) -> Transform:
    coefficients = read(node["coefficients"])
    n = coefficients.ndim
    if n not in (1, 2):
        raise ValueError(f"{n} variables")
    domain, window = (np.array(node.get(key, [[-1, 1]] * n), float).reshape(n, 2) for key in ("domain", "window"))
    slope = (window[:, 1] - window[:, 0]) / (domain[:, 1] - domain[:, 0])

    def forward(*xs: np.ndarray) -> tuple[np.ndarray, ...]:
        inside = list(xs)
        if (domain != window).any():
            inside = [w[0] + s * (x - d[0]) for x, d, w, s in zip(xs, domain, window, slope, strict=True)]
        if n == 1:
            return (_horner(inside[0], coefficients),)
        return (_horner(inside[1], [_horner(inside[0], column) for column in coefficients.T]),)

    return Transform(n, 1, forward)


def _horner(x: np.ndarray, coefficients: Any) -> np.ndarray:
    """A polynomial; its coefficients by rising power."""
    value = np.zeros_like(x, float)
    for coefficient in coefficients[:0:-1]:
        value = x * (coefficient + value)
    return coefficients[0] + value


def _gnomonic(node: Mapping, _: Reader) -> Transform:
    # Degrees are rounded as wcslib does it: over a pixel the last digit counts.
    def from_plane(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        theta = np.arctan2(180.0 / np.pi, np.hypot(x, y))
        return np.arctan2(x, -y) * 180.0 / np.pi, theta * 180.0 / np.pi

    def to_plane(phi: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        theta = np.where(np.asarray(theta) > 0, theta, np.nan)  # the other half of the sky has no place on it
        phi, theta = phi * np.pi / 180.0, theta * np.pi / 180.0
        radius = 180.0 / np.pi * np.cos(theta) / np.sin(theta)
        return radius * np.sin(phi), -radius * np.cos(phi)

    both = {"pix2sky": (from_plane, to_plane), "sky2pix": (to_plane, from_plane)}
    return Transform(2, 2, *both[node["direction"]])


def _spherical_cartesian(node: Mapping, _: Reader) -> Transform:
    wrap = node["wrap_lon_at"] != 180

    def to_angles(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
        lon, lat = _angles(x, y, z)
        return lon % 360.0 if wrap else lon, lat

    if node["transform_type"] == "spherical_to_cartesian":
        return Transform(2, 3, _vector, to_angles)
    if node["transform_type"] == "cartesian_to_spherical":
        return Transform(3, 2, to_angles, _vector)
    raise ValueError(node["transform_type"])


def _rotate_sequence(node: Mapping, _: Reader) -> Transform:
    matrix = _turn(np.deg2rad(np.array(node["angles"], float)), node["axes_order"])
    if node["rotation_type"] == "cartesian":
        return Transform(3, 3, _linear(matrix), _linear(matrix.T))
    if node["rotation_type"] == "spherical":
        return Transform(2, 2, *(_on_sphere(m) for m in (matrix, matrix.T)))
    raise ValueError(node["rotation_type"])


def _rotate3d(node: Mapping, _: Reader) -> Transform:
    lon, lat, pole = np.deg2rad([float(node[name]) for name in ("phi", "theta", "psi")])
    quarter = np.pi / 2
    celestial = _on_sphere(_turn([pole - quarter, lat - quarter, -(quarter + lon)], "zxz"), positive=True)
    native = _on_sphere(_turn([quarter + lon, quarter - lat, quarter - pole], "zxz"), positive=True)
    both = {"native2celestial": (celestial, native), "celestial2native": (native, celestial)}
    return Transform(2, 2, *both[node["direction"]])


def _turn(angles: Any, axes: str) -> np.ndarray:
    """The matrix of rotations of the coordinate axes, in radians, one after another."""
    matrices = []
    for angle, axis in zip(angles, axes, strict=True):
        i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        one = np.eye(3)
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = np.sin(angle), -np.sin(angle)
        matrices.append(one)
    return functools.reduce(np.matmul, matrices[::-1])


def _linear(matrix: np.ndarray) -> Function:
    """Products with the columns of a matrix; one more than there are coordinates is an offset."""

    def product(*xs: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = [np.ravel(x) for x in xs]
        rows += [np.ones_like(rows[0])] * (matrix.shape[1] - len(xs))
        return tuple((matrix @ np.stack(rows)).reshape(len(matrix), *np.shape(xs[0])))

    return product


def _on_sphere(matrix: np.ndarray, *, positive: bool = False) -> Function:
    def rotated(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, ...]:
        lon, lat = _angles(*_linear(matrix)(*_vector(lon, lat)))
        return (np.where(lon < 0, lon + 360.0, lon) if positive else lon), lat

    return rotated


def _vector(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, ...]:
    lon, lat = np.deg2rad(lon), np.deg2rad(lat)
    return np.cos(lon) * np.cos(lat), np.cos(lat) * np.sin(lon), np.sin(lat)


def _angles(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
    return np.rad2deg(np.arctan2(y, x)), np.rad2deg(np.arctan2(z, np.hypot(x, y)))


_KNOWN: dict[str, tuple[Callable[[Any, Reader], Transform], set[str]]] = {
    "compose": (_compose, {"forward"}),
    "concatenate": (_concatenate, {"forward"}),
    "shift": (_shift, {"offset"}),
    "scale": (_scale, {"factor"}),
    "identity": (_identity, {"n_dims"}),
    "remap_axes": (_remap_axes, {"mapping", "n_inputs"}),
    "affine": (_affine, {"matrix", "translation"}),
    "polynomial": (_polynomial, {"coefficients", "domain", "window"}),
    "gnomonic": (_gnomonic, {"direction"}),
    "spherical_cartesian": (_spherical_cartesian, {"transform_type", "wrap_lon_at"}),
    "rotate_sequence_3d": (_rotate_sequence, {"angles", "axes_order", "rotation_type"}),
    "rotate3d": (_rotate3d, {"phi", "theta", "psi", "direction"}),
}
