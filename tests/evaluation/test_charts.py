"""Charts: marks stand where the numbers say, texts say the numbers, and the drawing is well-formed XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from scow.reports.charts import (
    Axis,
    Canvas,
    Row,
    bars,
    boxes,
    calibration,
    heat_strip,
    histogram,
    intervals,
    lines,
    nice_ticks,
    scatter,
    standalone,
)
from scow.reports.markup import Html
from scow.reports.plots import heat_colour

POINTS = Axis(0.0, 100.0, "points")
NAMES = {"title": "A <title> & more", "description": 'Says "42"'}


def parsed(chart: Html) -> ET.Element:
    return ET.fromstring(chart)


def of_class(root: ET.Element, tag: str, class_: str) -> list[ET.Element]:
    return [node for node in root.iter(tag) if class_ in (node.get("class") or "").split()]


def numbers(node: ET.Element, *names: str) -> list[float]:
    return [float(node.get(name, "nan")) for name in names]


CHARTS: dict[str, Callable[[], Html]] = {
    "scatter": lambda: scatter([1, 50, 50], [2, 50, 50], x_axis=POINTS, y_axis=POINTS, **NAMES),
    "calibration": lambda: calibration([10, 90], [20, 80], [5, 5], [3, 3], x_axis=POINTS, y_axis=POINTS, **NAMES),
    "histogram": lambda: histogram([1, 2, 3], x_axis=Axis(-10, 10, "x"), y_label="n", **NAMES),
    "boxes": lambda: boxes({"<a>": [1, 2, 3], "b": [4]}, x_axis=Axis(-10, 10, "x"), **NAMES),
    "bars": lambda: bars([Row("one & two", 50.0, 40.0, 60.0), Row("b", 20.0, series=1)], x_axis=POINTS, **NAMES),
    "intervals": lambda: intervals([Row("a", 26.0, 25.0, 27.0), Row("b", 29.0)], x_axis=Axis(24, 30, "x"), **NAMES),
    "lines": lambda: lines({"a": ([0, 1], [0, 100]), "b": ([0, 1], [50, 50])}, x_axis=Axis(0, 1, "s"), y_axis=POINTS,
                           **NAMES),
    "heat_strip": lambda: heat_strip([0.1, None], ["x", "y"], [(0, 1), (1, 2)], x_axis=Axis(0, 2, "s"), **NAMES),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_says_what_it_shows(name: str) -> None:
    root = parsed(CHARTS[name]())
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"{NAMES['title']}. {NAMES['description']}"
    assert [root[0].tag, root[0].text, root[1].tag, root[1].text] == ["title", NAMES["title"], "desc", 'Says "42"']


@pytest.mark.parametrize("name", CHARTS)
def test_no_number_is_left_undefined(name: str) -> None:
    assert "nan" not in CHARTS[name]().lower().replace("nanosecond", "")
    assert "inf" not in CHARTS[name]()


def test_places_run_from_corner_to_corner() -> None:
    canvas = Canvas("t", "d", POINTS, POINTS)
    assert canvas.px(0) < canvas.px(50) < canvas.px(100) < canvas.width
    assert canvas.px(50) == pytest.approx((canvas.px(0) + canvas.px(100)) / 2)
    assert canvas.height > canvas.py(0) > canvas.py(100) > 0  # up is more


def test_scatter_counts_its_squares_and_puts_its_dots() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(300) * 100, rng.integers(0, 9, 300) * 12.5
    root = parsed(scatter(x, y, x_axis=POINTS, y_axis=POINTS, **NAMES))
    squares = of_class(root, "rect", "cell")
    counts = [int(square[0].text.rpartition(": ")[2]) for square in squares]
    assert sum(counts) == 300
    shades = [float(square.get("fill-opacity")) for square in squares]
    assert np.argmax(shades) == np.argmax(counts)
    canvas = Canvas("", "", POINTS, POINTS, height=420.0)
    dots = [numbers(dot, "cx", "cy") for dot in of_class(root, "circle", "dot")]
    # Places are written to two decimals.
    assert np.allclose(dots, [(canvas.px(a), canvas.py(b)) for a, b in zip(x, y, strict=True)], atol=0.006)


def test_histogram_bars_are_as_high_as_their_counts() -> None:
    values = [-9.5, -9.4, 0.5, 0.6, 0.7, 9.9]
    root = parsed(histogram(values, x_axis=Axis(-10, 10, "x"), y_label="n", bins=20, **NAMES))
    found = of_class(root, "rect", "mark0")
    assert [node[0].text for node in found] == ["-10 to -9: 2", "0 to 1: 3", "9 to 10: 1"]
    heights = [numbers(node, "height")[0] for node in found]
    assert np.allclose(np.array(heights) / heights[2], [2, 3, 1], rtol=1e-3)


def test_box_shows_the_quartiles() -> None:
    values = np.arange(101.0) - 50
    root = parsed(boxes({"a": values}, x_axis=Axis(-100, 100, "x"), **NAMES))
    (box,) = of_class(root, "rect", "box")
    canvas = Canvas("", "", Axis(-100, 100, "x"), POINTS, left=14 + 7.2 * len("a (101)"))
    left, width = numbers(box, "x", "width")
    assert [left, left + width] == pytest.approx([canvas.px(-25), canvas.px(25)], abs=0.02)
    assert box[0].text == "a (101): median 0, middle half -25 to 25"


def test_bars_begin_at_zero_and_whiskers_span_the_interval() -> None:
    root = parsed(CHARTS["bars"]())
    first, second = of_class(root, "rect", "mark0") + of_class(root, "rect", "mark1")
    assert numbers(first, "width")[0] / numbers(second, "width")[0] == pytest.approx(2.5, rel=1e-3)
    assert first[0].text == "one & two: 50 (40 to 60)"
    (whisker,) = of_class(root, "polyline", "whisker")
    ends = [float(point.split(",")[0]) for point in whisker.get("points", "").split()]
    x, width = numbers(first, "x", "width")
    assert ends == pytest.approx([x + 0.8 * width, x + 1.2 * width], abs=0.1)


def test_first_row_stands_on_top() -> None:
    root = parsed(CHARTS["intervals"]())
    dots = [numbers(dot, "cy")[0] for dot in of_class(root, "circle", "mark0")]
    names = {node.text: float(node.get("y", "nan")) for node in root.iter("text")}
    assert dots[0] < dots[1]
    assert names["a"] < names["b"]


def test_lines_that_differ_also_differ_in_dash_and_have_a_legend() -> None:
    root = parsed(CHARTS["lines"]())
    assert [line.get("class") for line in root.iter("polyline")] == ["line1", "line0"]  # the first is drawn on top
    assert {"a", "b"} <= {node.text for node in root.iter("text")}


def test_strip_colours_its_pieces_and_leaves_what_is_unknown_empty() -> None:
    first, second = parsed(CHARTS["heat_strip"]()).iter("rect")
    assert first.get("style") == f"fill: {heat_colour(0.1)[0]}"
    assert second.get("style", "").startswith("fill: none")
    assert [first[0].text, second[0].text] == ["x", "y"]


def test_long_names_are_cut() -> None:
    root = parsed(intervals([Row("n" * 60, 1.0)], x_axis=Axis(0, 2, "x"), **NAMES))
    assert "n" * 28 + "…" in {node.text for node in root.iter("text")}
    assert root.find(".//circle/title").text == "n" * 60 + ": 1"


def test_a_file_of_its_own_brings_namespace_and_colours() -> None:
    root = ET.fromstring(standalone(CHARTS["calibration"]()))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root[0].tag.endswith("style")
    assert "--one: #0072b2" in (root[0].text or "")
    assert len([node for node in root.iter() if node.tag.endswith("circle")]) == 2


# --- colours


def luminance(colour: str) -> float:
    """WCAG 2.2, written out once more as the referee."""
    total = 0.0
    for weight, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5)):
        c = int(colour[i : i + 2], 16) / 255
        total += weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
    return total


def test_heat_rises_in_lightness_and_its_ink_can_be_read() -> None:
    shares = np.linspace(0, 1, 101)
    backgrounds, inks = zip(*(heat_colour(share) for share in shares), strict=True)
    light = [luminance(colour) for colour in backgrounds]
    assert all(one < other for one, other in pairwise(light))
    for background, ink in zip(backgrounds, inks, strict=True):
        bright, dark = sorted((luminance(background), luminance(ink)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5
    assert heat_colour(-1) == heat_colour(0)
    assert heat_colour(2) == heat_colour(1)


# --- ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, (0, 20, 40, 60, 80, 100)),
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (-100, 100, (-100, -50, 0, 50, 100)),
        (24, 38, (25, 30, 35)),
        (0, 3, (0, 1, 2, 3)),
        (0.3, 0.3, (0.3,)),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_numbers_on_ticks_have_no_tail() -> None:
    assert [name for _, name in Axis(0, 1, "").marks()] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [name for _, name in Axis(-0.02, 0.02, "").marks()] == ["-0.02", "-0.01", "0", "0.01", "0.02"]
    assert [name for _, name in Axis(0, 20000, "").marks()] == ["0", "5,000", "10,000", "15,000", "20,000"]
