"""Which input pixels the drizzle package visits: where the output frame cuts an image, it leaves the last ones out."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from jaxtyping import Bool

_SLACK = 0.03  # px; how well positions are inverted, and by how much the limits of a row are widened
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

Point = tuple[float, float]
Edges = list[tuple[Point, float, float]]  # upper end, slope dx/dy, x at y = 0 of the line that centres keep to


def visited_pixels(pixel_map: np.ndarray, output_shape: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """Find the input pixels that the drizzle package drops onto the output.

    It maps the outline of the input image to the output, clips it to the frame, maps the corners of what is left back
    by a coarse two-dimensional golden-section search, and leaves out pixels that stick out by more than about half a
    pixel. So output pixels next to an edge of the frame that cuts an image get less than is theirs. Numbers that agree
    with products of jwst 3.0.0 need this; better ones do not.

    Args:
        pixel_map: position (x, y) on the output of every input pixel, [y x 2]. Concrete.
        output_shape: rows and columns of the output.

    Returns:
        True where a pixel is visited. With a NaN in the map all are: the package's own answer is then not defined.

    Example:
        >>> y, x = np.mgrid[:6, :6]
        >>> visited_pixels(np.stack([x, y], -1) + 0.6, (6, 6)).sum(axis=1).tolist()
        [5, 5, 5, 5, 5, 0]

    Source: drizzle 2.2, the image scanner, which jwst 3.0.0 uses.
    """
    pixel_map = np.asarray(pixel_map, float)
    height, width = pixel_map.shape[:2]
    if not np.isfinite(pixel_map).all():
        return np.ones((height, width), bool)
    outline = [(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)]
    right, top = output_shape[1] - 0.5, output_shape[0] - 0.5
    frame = [(-0.5, -0.5), (right, -0.5), (right, top), (-0.5, top)]
    seen = _clip(_anticlockwise([_forward(pixel_map, *corner) for corner in outline]), frame)
    visited = np.zeros((height, width), bool)
    if len(seen) < 3:
        return visited
    polygon = _anticlockwise([_invert(pixel_map, corner) for corner in seen])
    for row, first, last in _rows(polygon, height, width):
        visited[row, max(first, 0) : last + 1] = True
    return visited


def _forward(pixel_map: np.ndarray, x: float, y: float) -> Point:
    """Interpolate the map at a point, bilinearly, beyond its border too."""
    i = min(max(int(x), 0), pixel_map.shape[1] - 2)
    j = min(max(int(y), 0), pixel_map.shape[0] - 2)
    u, v = x - i, y - j
    cell = pixel_map[j : j + 2, i : i + 2]
    value = cell[0, 0] * (1 - u) * (1 - v) + cell[0, 1] * u * (1 - v) + cell[1, 0] * (1 - u) * v + cell[1, 1] * u * v
    return float(value[0]), float(value[1])


def _invert(pixel_map: np.ndarray, target: Point) -> Point:
    """Find the input point that maps to a target: of four golden-section points the nearest decides what to cut off.

    Under rotation this can cut off the answer; the result is then off by more than the slack, as the package's is.
    """
    low = [-0.5, -0.5]
    high = [pixel_map.shape[1] - 0.5, pixel_map.shape[0] - 0.5]
    size = [high[0] - low[0], high[1] - low[1]]
    for _ in range(50):
        if max(size) <= _SLACK:
            break
        lower = [high[k] - _GOLDEN * size[k] for k in (0, 1)]
        upper = [low[k] + _GOLDEN * size[k] for k in (0, 1)]
        distances = {}
        for sides in ((0, 0), (0, 1), (1, 0), (1, 1)):
            x, y = _forward(pixel_map, *((upper if side else lower)[k] for k, side in enumerate(sides)))
            distances[sides] = (x - target[0]) ** 2 + (y - target[1]) ** 2
        ordered = sorted(distances, key=distances.__getitem__)
        nearest = ordered[0] if distances[ordered[0]] < distances[ordered[1]] else (1, 1)
        for k, side in enumerate(nearest):
            if side:
                low[k] = lower[k]
            else:
                high[k] = upper[k]
        size = [high[0] - low[0], high[1] - low[1]]
    return 0.5 * (low[0] + high[0]), 0.5 * (low[1] + high[1])


def _cross(o: Point, a: Point, b: Point) -> float:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])


def _anticlockwise(polygon: list[Point]) -> list[Point]:
    """Reverse a polygon that runs clockwise about the mean of its corners."""
    middle = (sum(p[0] for p in polygon) / len(polygon), sum(p[1] for p in polygon) / len(polygon))
    return polygon if _cross(middle, polygon[0], polygon[1]) >= 0 else polygon[::-1]


def _clip(polygon: list[Point], frame: list[Point]) -> list[Point]:
    """Clip a polygon to a convex anticlockwise frame, edge by edge (Sutherland & Hodgman 1974)."""
    for start, end in zip([frame[-1], *frame[:-1]], frame, strict=True):
        kept: list[Point] = []
        for before, after in zip([*polygon[-1:], *polygon[:-1]], polygon, strict=True):
            side_before, side_after = _cross(start, end, before), _cross(start, end, after)
            if (side_before > 0) != (side_after > 0):
                t = side_before / (side_before - side_after)
                _append(kept, (before[0] + t * (after[0] - before[0]), before[1] + t * (after[1] - before[1])))
            if side_after > 0:
                _append(kept, after)
        polygon = kept
    return _anticlockwise(polygon) if len(polygon) > 2 else []


def _append(polygon: list[Point], point: Point) -> None:
    """Add a corner unless it repeats the first or the last one."""
    for other in polygon[-1:] + polygon[:1]:
        if abs(point[0] - other[0]) < 1e-12 and abs(point[1] - other[1]) < 1e-12:
            return
    polygon.append(point)


def _chains(polygon: list[Point]) -> tuple[Edges, Edges]:
    """Split an anticlockwise polygon into its left and its right edges, both from the bottom up."""
    n = len(polygon)

    def extreme(sign: int) -> tuple[int, int]:
        """Left and right end of the lowest (sign 1) or highest (sign -1) corner or level edge."""
        one = min(range(n), key=lambda k: sign * polygon[k][1])
        other = min(((one + 1) % n, (one - 1) % n), key=lambda k: sign * polygon[k][1])
        level = abs(polygon[other][1] - polygon[one][1]) <= 1e-12 * abs(polygon[one][1])
        left, right = sorted((one, other), key=lambda k: polygon[k][0]) if level else (one, one)
        return left, right

    def edge(a: Point, b: Point, side: int) -> tuple[Point, float, float]:
        """Shift the line inwards by the half width of a pixel."""
        slope = (b[0] - a[0]) / (b[1] - a[1])
        return b, slope, a[0] - slope * a[1] - side * (0.5 + 0.5 * abs(slope))

    (low_left, low_right), (high_left, high_right) = extreme(1), extreme(-1)
    down = [(low_left - k) % n for k in range((low_left - high_left) % n + 1)]
    up = [(low_right + k) % n for k in range((high_right - low_right) % n + 1)]
    # A level edge bounds no row; more than the lowest and the highest arise where two corners are found at one place.
    left = [edge(polygon[a], polygon[b], -1) for a, b in pairwise(down) if polygon[a][1] != polygon[b][1]]
    right = [edge(polygon[a], polygon[b], 1) for a, b in pairwise(up) if polygon[a][1] != polygon[b][1]]
    return left, right


def _rows(polygon: list[Point], height: int, width: int) -> list[tuple[int, int, int]]:
    """Return (row, first column, last column) of the pixels inside a polygon, their limits rounded."""
    bottom, top = min(p[1] for p in polygon), max(p[1] for p in polygon)
    found: list[tuple[int, int, int]] = []
    chains = _chains(polygon)
    if not all(chains):
        return found
    at = [0, 0]
    for row in range(max(0, int(bottom + 0.5 + 2 * _SLACK)), min(height - 1, int(top + 2 * _SLACK)) + 1):
        if row + 0.5 <= bottom or row - 0.5 >= top + 1:
            continue
        limits = []
        for level in (row - 0.5, row - _SLACK):  # the edges met at the bottom and at the top of the row
            for side, chain in enumerate(chains):
                while level > chain[at[side]][0][1]:
                    at[side] += 1
                    if at[side] == len(chain):
                        return found
            (_, slope_left, left), (_, slope_right, right) = (chain[at[side]] for side, chain in enumerate(chains))
            last_inside = min(slope_right * row + right + _SLACK, width - 1)
            limits.append((max(slope_left * row + left - _SLACK, 0), last_inside))
        (left_0, right_0), (left_1, right_1) = limits
        if left_1 >= right_1 and left_0 >= right_0:
            continue
        if left_1 >= right_1:
            first, last = left_0, right_0
        elif left_0 >= right_0:
            first, last = left_1, right_1
        else:
            first, last = max(left_0, left_1), min(right_0, right_1)
        found.append((row, math.floor(first + 0.5), math.floor(last + 0.5)))
    return found
