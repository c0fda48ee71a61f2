"""Footprints on the sky: S_REGION polygons and the outline of several of them together."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

# Outlines are traced on a lattice of this many pixels, far below what nine decimals of a degree can say.
_LATTICE = 1e-6
# A vertex this close to the line between its neighbours, in pixels, is left out.
_FLAT = 1e-4

_Segment = tuple[tuple[int, int], tuple[int, int]]  # from (x, y) to (x, y), in lattice steps


def parse_s_region(text: str) -> list[np.ndarray]:
    """Read the polygons of an S_REGION keyword.

    Args:
        text: one or more `POLYGON ICRS ra dec ra dec ...`, degrees.

    Returns:
        One array [vertex 2] of (right ascension, declination) per polygon, degrees.

    Raises:
        ValueError: the text is something else.

    Example:
        >>> parse_s_region("POLYGON ICRS  10.0 0.0 10.1 0.0 10.1 0.1")[0].shape
        (3, 2)

    Source: IVOA STC-S 1.33, section 5; calwebb_coron3 of jwst 3.0.0 allows several polygons in one keyword.
    """
    head, *bodies = re.split(r"POLYGON\s+ICRS", text)
    polygons = [np.array(body.split(), float) for body in bodies]
    if head.strip() or not polygons or any(p.size < 6 or p.size % 2 or not np.isfinite(p).all() for p in polygons):
        raise ValueError("not POLYGON ICRS with three or more pairs of numbers")
    return [p.reshape(-1, 2) for p in polygons]


def format_s_region(polygons: list[np.ndarray]) -> str:
    """Write polygons as an S_REGION keyword.

    Args:
        polygons: arrays [vertex 2] of (right ascension, declination), degrees.

    Returns:
        The keyword's text, nine decimals.

    Example:
        >>> format_s_region([np.array([[10.0, 0.0], [10.1, 0.0], [10.1, 0.1]])])
        'POLYGON ICRS  10.000000000 0.000000000 10.100000000 0.000000000 10.100000000 0.100000000'
    """
    return "  ".join("POLYGON ICRS  " + " ".join(f"{x:.9f} {y:.9f}" for x, y in p) for p in polygons)


def union(polygons: list[np.ndarray], *, width: float, height: float) -> list[np.ndarray]:
    """Outline of everything that at least one polygon covers, within an image.

    The plane is cut into horizontal slabs at every vertex and crossing. Within a slab no edges cross, so the union is a
    row of trapezoids; the sides of these, and the stretches of the cuts that have the inside on one side only, are the
    outline. This stays exact where polygons coincide or nearly do.

    Args:
        polygons: arrays [vertex 2] of pixel (x, y), any order, not crossing themselves.
        width: of the image, pixels, from x=-0.5 on.
        height: of the image, pixels, from y=-0.5 on.

    Returns:
        One array [vertex 2] per connected region, counter-clockwise. Holes are filled. Empty where nothing is covered.

    Example:
        >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
        >>> [len(outline) for outline in union([square, square + 1], width=10, height=10)]
        [8]

    Source: the plane sweep of computational geometry (de Berg et al. 2008, chapter 2).
    """
    clipped = [_clip(np.asarray(p, float), width, height) for p in polygons]
    clipped = [np.round(p / _LATTICE) * _LATTICE for p in clipped if len(p) >= 3]
    if not clipped:
        return []
    segments = _outline_segments(clipped)
    loops = (_drop_flat(loop) for loop in _trace(segments))
    return [loop for loop in loops if len(loop) >= 3 and _area(loop) > _FLAT]


def _clip(polygon: np.ndarray, width: float, height: float) -> np.ndarray:
    """Cut a polygon off at the four edges of the image, one after the other."""
    for axis, sign, limit in ((0, 1, -0.5), (0, -1, width - 0.5), (1, 1, -0.5), (1, -1, height - 0.5)):
        if len(polygon) < 3:
            break
        inside = sign * (polygon[:, axis] - limit)
        kept: list[np.ndarray] = []
        for i, point in enumerate(polygon):
            before, here = inside[i - 1], inside[i]
            if (before < 0) != (here < 0):
                kept.append(polygon[i - 1] + (point - polygon[i - 1]) * (before / (before - here)))
            if here >= 0:
                kept.append(point)
        polygon = np.array(kept)
    return polygon


def _edges(polygons: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All edges that are not horizontal, lower end first, [edge 2 2], and which polygon each belongs to."""
    ends = np.concatenate([np.stack([p, np.roll(p, -1, axis=0)], axis=1) for p in polygons])
    owner = np.repeat(np.arange(len(polygons)), [len(p) for p in polygons])
    ends = np.where((ends[:, :1, 1:] > ends[:, 1:, 1:]), ends[:, ::-1], ends)
    slanted = ends[:, 0, 1] < ends[:, 1, 1]
    return ends[slanted], owner[slanted]


def _cuts(edges: np.ndarray) -> np.ndarray:
    """Heights of all vertices and of all crossings of two edges."""
    start, step = edges[:, 0], edges[:, 1] - edges[:, 0]
    between = start[None, :] - start[:, None]
    cross = step[:, None, 0] * step[None, :, 1] - step[:, None, 1] * step[None, :, 0]
    parallel = cross == 0
    cross = np.where(parallel, 1.0, cross)
    t = (between[..., 0] * step[None, :, 1] - between[..., 1] * step[None, :, 0]) / cross
    u = (between[..., 0] * step[:, None, 1] - between[..., 1] * step[:, None, 0]) / cross
    i, j = np.nonzero(~parallel & (t > 0) & (t < 1) & (u > 0) & (u < 1))
    crossings = start[i, 1] + t[i, j] * step[i, 1]
    return np.unique(np.round(np.concatenate([edges[..., 1].ravel(), crossings]) / _LATTICE))


def _covered(edges: np.ndarray, owner: np.ndarray, low: float, high: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Left and right side of each stretch of the slab that is covered: x at its bottom and top."""
    middle = (low + high) / 2
    active = np.nonzero((edges[:, 0, 1] < middle) & (edges[:, 1, 1] > middle))[0]
    bottom, top = edges[active, 0], edges[active, 1]
    slope = (top[:, 0] - bottom[:, 0]) / (top[:, 1] - bottom[:, 1])
    x = bottom[:, :1] + slope[:, None] * (np.array([low, middle, high]) - bottom[:, 1:])
    order = np.argsort(x[:, 1], kind="stable")
    # Cuts are on the lattice, crossings are not: keep edges that meet at a cut from changing places there.
    x[order] = np.maximum.accumulate(x[order], axis=0)
    stretches: list[tuple[np.ndarray, np.ndarray]] = []
    inside: set[int] = set()
    left = x[:0]
    for k in order:
        before = len(inside)
        inside ^= {int(owner[active[k]])}
        if before == 0:
            left = x[k]
        elif not inside:
            stretches.append((left[::2], x[k][::2]))
    return stretches


def _outline_segments(polygons: list[np.ndarray]) -> list[_Segment]:
    """Directed pieces of the outline, the inside on their left, on the lattice."""
    edges, owner = _edges(polygons)
    cuts = _cuts(edges)
    segments: list[_Segment] = []
    below: list[int] = []  # where the sides of the slab under the cut reach it
    for cut, following in zip(cuts, [*cuts[1:], None], strict=True):
        above: list[int] = []
        reached: list[int] = []
        if following is not None:
            for left, right in _covered(edges, owner, cut * _LATTICE, following * _LATTICE):
                (l0, l1), (r0, r1) = (np.round(side / _LATTICE).astype(int).tolist() for side in (left, right))
                segments.append(((r0, int(cut)), (r1, int(following))))
                segments.append(((l1, int(following)), (l0, int(cut))))
                above += [l0, r0]
                reached += [l1, r1]
        segments += _along_cut(below, above, int(cut))
        below = reached
    return segments


def _along_cut(below: list[int], above: list[int], y: int) -> list[_Segment]:
    """Pieces of a cut with the inside on one side only."""
    marks = sorted(set(below) | set(above))
    pieces = []
    for x0, x1 in pairwise(marks):
        under = sum(end <= x0 for end in below) % 2 == 1
        over = sum(end <= x0 for end in above) % 2 == 1
        if over and not under:
            pieces.append(((x0, y), (x1, y)))
        elif under and not over:
            pieces.append(((x1, y), (x0, y)))
    return pieces


def _trace(segments: list[_Segment]) -> list[np.ndarray]:
    """Join directed pieces end to start into closed loops."""
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for start, end in segments:
        following.setdefault(start, []).append(end)
    loops = []
    while following:
        first = point = next(iter(following))
        loop = [first]
        while following.get(point):
            ends = following[point]
            point = ends.pop()
            if not ends:
                del following[loop[-1]]
            if point == first:
                break
            loop.append(point)
        loops.append(np.array(loop, float) * _LATTICE)
    return loops


def _drop_flat(loop: np.ndarray) -> np.ndarray:
    """Leave out vertices on the line between their neighbours."""
    points = list(loop)
    i = 0
    while len(points) > 3 and i < len(points):
        a, b, c = points[i - 1], points[i], points[(i + 1) % len(points)]
        base = np.hypot(*(c - a))
        off = abs((c[0] - a[0]) * (b[1] - a[1]) - (c[1] - a[1]) * (b[0] - a[0])) / base if base > 0 else 0.0
        if off < _FLAT:
            points.pop(i)
            i = max(i - 1, 0)
        else:
            i += 1
    return np.array(points)


def _area(loop: np.ndarray) -> float:
    """Signed area: positive counter-clockwise."""
    x, y = loop.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
