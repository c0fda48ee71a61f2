"""Footprints: the keyword S_REGION, and the outline of several polygons against counted points."""

import numpy as np
import pytest

from coronjax.io.footprint import format_s_region, parse_s_region, union


def area(outline):
    x, y = outline.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def inside(polygon, x, y):
    hit = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            hit ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return hit


def rectangle(centre, angle, width, height):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2 @ turn.T + centre


def test_keyword_there_and_back():
    text = "POLYGON ICRS  10.000000000 -0.500000000 10.100000000 0.000000000 10.050000000 0.100000000"
    assert format_s_region(parse_s_region(text)) == text
    assert len(parse_s_region(f"{text}  {text}")) == 2
    assert format_s_region(parse_s_region(f"{text}  {text}")) == f"{text}  {text}"


@pytest.mark.parametrize(
    "text",
    ["", "CIRCLE ICRS 1 2 3", "POLYGON ICRS 1 2 3 4", "POLYGON ICRS 1 2 3 4 5", "POLYGON ICRS 1 2 3 4 5 nan", "no"],
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"POLYGON ICRS|could not convert"):
        parse_s_region(text)


def test_two_squares_overlap():
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    (outline,) = union([square, square + 2], width=20, height=20)
    assert area(outline) == pytest.approx(28)
    assert sorted(map(tuple, outline.round(4))) == sorted(
        [(0, 0), (4, 0), (4, 2), (6, 2), (6, 6), (2, 6), (2, 4), (0, 4)]
    )


def test_direction_of_vertices_and_order_do_not_matter():
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    (one,), (other,) = (union(p, width=20, height=20) for p in ([square, square + 2], [square[::-1] + 2, square]))
    assert area(one) == pytest.approx(area(other)) == pytest.approx(28)


def test_apart_touching_and_nothing():
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    assert [area(p) for p in union([square, square + 10], width=20, height=20)] == pytest.approx([16, 16])
    (joined,) = union([square, square + np.array([4, 0])], width=20, height=20)
    assert area(joined) == pytest.approx(32)
    assert union([square - 100], width=20, height=20) == []
    assert union([], width=20, height=20) == []


def test_holes_are_filled():
    frame = [
        rectangle(c, 0.0, *s) for c, s in (((5, 1), (10, 2)), ((5, 9), (10, 2)), ((1, 5), (2, 10)), ((9, 5), (2, 10)))
    ]
    (outline,) = union(frame, width=20, height=20)
    assert area(outline) == pytest.approx(100)


@pytest.mark.parametrize("seed", range(40))
def test_as_many_points_as_the_polygons(seed):
    rng = np.random.default_rng(seed)
    nudge = 10.0 ** rng.integers(-9, 2)  # from exposures that nearly coincide to dithers
    angles = rng.choice([0.0, 0.17, 0.17 + 1e-9, 1.0], 6)
    polygons = [rectangle([50, 50] + nudge * rng.normal(size=2), angle, 70, 60) for angle in angles]
    width, height = rng.integers(70, 100, 2)
    outlines = union(polygons, width=width, height=height)
    y, x = (g.ravel() + rng.uniform(0, 1, 40000) for g in np.mgrid[-10:110:200j, -10:110:200j])
    image = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    want = np.any([inside(p, x, y) for p in polygons], axis=0) & image
    have = np.any([inside(p, x, y) for p in outlines], axis=0)
    assert np.sum(want ^ have) <= 1
    assert len(outlines) == 1
