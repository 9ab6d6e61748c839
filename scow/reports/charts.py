"""Charts as SVG: plain functions from numbers to markup.

- A chart is drawn 420 units wide, so that its text is as large as the page's on a phone, where it fills the screen.
- Every chart has a title and a description in words (``<title>``, ``<desc>``, ``role="img"``) for those who do not
  see it; marks say their numbers when pointed at.
- Colours are classes; `CHART_CSS` gives them their values for light and dark screens and for paper. They are of
  Okabe and Ito's palette for colour-blind readers ("Color Universal Design", 2008), and no meaning hangs on colour
  alone: series also differ in dash, and `heat_colour` also rises in lightness.

`Canvas` is the frame with axes on which all of them draw, and on which others may.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scow.reports.markup import Html, element
from scow.reports.plots import heat_colour

WIDTH, HEIGHT = 420.0, 320.0
TOP, RIGHT, BOTTOM, LEFT = 28.0, 16.0, 48.0, 46.0
CHARACTER = 7.2  # at most the mean width of one at 12 units, for the room that names take

CHART_CSS = """
:root { --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --raised: #f3f5f7; --rule: #d5dae0;
  --one: #0072b2; --two: #c04f00; --three: #007a58; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #a3adb8; --paper: #10151b;
  --raised: #1a2129; --rule: #38424d; --one: #56b4e9; --two: #f0a04b; --three: #35c79b; } }
svg.chart { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg.chart text { fill: var(--ink); }
svg.chart text.soft { fill: var(--soft); }
svg.chart .grid { stroke: var(--rule); stroke-width: 1; }
svg.chart .axis { stroke: var(--soft); stroke-width: 1; }
svg.chart .ideal { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
svg.chart .mark0 { fill: var(--one); } svg.chart .mark1 { fill: var(--two); } svg.chart .mark2 { fill: var(--three); }
svg.chart .line0, svg.chart .line1, svg.chart .line2 { stroke-width: 2; fill: none; stroke-linejoin: round; }
svg.chart .line0 { stroke: var(--one); } svg.chart .line1 { stroke: var(--two); stroke-dasharray: 7 3; }
svg.chart .line2 { stroke: var(--three); stroke-dasharray: 2 3; }
svg.chart .solid { stroke-dasharray: none; }
svg.chart .box { fill: var(--one); fill-opacity: 0.22; stroke: var(--one); stroke-width: 1.5; }
svg.chart .median { stroke: var(--one); stroke-width: 3; }
svg.chart .whisker { stroke: var(--ink); stroke-width: 2; }
svg.chart .dot { fill: var(--one); fill-opacity: 0.55; }
svg.chart .cell { fill: var(--one); }
svg.chart rect, .heat { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
"""

LONGEST_NAME = 29  # characters; what is longer is cut


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes
    ----------
    low, high : float
        Ends.
    label : str
        What is measured, with its unit.
    ticks : tuple of float
        Where it has ticks; round numbers where none are given.
    names : tuple of str
        Text of the ticks, if not their numbers.
    """

    low: float
    high: float
    label: str
    ticks: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    def marks(self) -> list[tuple[float, str]]:
        """Ticks and their text."""
        at = self.ticks or nice_ticks(self.low, self.high)
        return list(zip(at, self.names or [_number(tick) for tick in at], strict=True))


@dataclass(frozen=True)
class Row:
    """A row of a chart of bars or intervals.

    Attributes
    ----------
    name : str
    value : float
    low, high : float or None
        Ends of its interval.
    series : int
        0, 1 or 2: which colour.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0


class Canvas:
    """A frame with axes, on which marks are put in units of the data.

    Parameters
    ----------
    title, description : str
        The chart in words; a description says what is to be seen, with numbers.
    x, y : Axis
    width, height : float
        Size in units of the SVG.
    left : float
        Room for the names of the y axis.
    """

    def __init__(
        self,
        title: str,
        description: str,
        x: Axis,
        y: Axis,
        *,
        width: float = WIDTH,
        height: float = HEIGHT,
        left: float = LEFT,
    ) -> None:
        self.title, self.description, self.x, self.y = title, description, x, y
        self.width, self.height, self.left = width, height, left
        self._marks: list[Html] = []

    def px(self, value: float) -> float:
        """Horizontal place of a value."""
        return _along(value, self.x, self.left, self.width - RIGHT)

    def py(self, value: float) -> float:
        """Vertical place of a value."""
        return _along(value, self.y, self.height - BOTTOM, TOP)

    def add(self, mark: Html) -> None:
        """Put a mark on top."""
        self._marks.append(mark)

    def line(self, x: Sequence[float], y: Sequence[float], class_: str) -> None:
        """A line through points."""
        points = " ".join(f"{self.px(one):.1f},{self.py(other):.1f}" for one, other in zip(x, y, strict=True))
        self.add(element("polyline", points=points, class_=class_, fill="none"))

    def dot(self, x: float, y: float, class_: str, radius: float = 4.0, tip: str = "") -> None:
        """A dot, with text for when it is pointed at."""
        self.add(element("circle", *_tip(tip), cx=self.px(x), cy=self.py(y), r=radius, class_=class_))

    def rectangle(
        self, x0: float, x1: float, y0: float, y1: float, class_: str | None, tip: str = "", **attributes: object
    ) -> None:
        """A rectangle between two corners."""
        left, right = sorted((self.px(x0), self.px(x1)))
        top, bottom = sorted((self.py(y0), self.py(y1)))
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        self.add(element("rect", *_tip(tip), **place, class_=class_, **attributes))

    def text(self, x: float, y: float, content: str, *, anchor: str = "middle", class_: str | None = None) -> None:
        """Text at a place in units of the SVG."""
        self.add(element("text", content, x=x, y=y, text_anchor=anchor, class_=class_))

    def svg(self) -> Html:
        """The chart."""
        return element(
            "svg",
            element("title", self.title),
            element("desc", self.description),
            *self._frame(),
            *self._marks,
            class_="chart",
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
            aria_label=f"{self.title}. {self.description}",
        )

    def _frame(self) -> list[Html]:
        """Grid, ticks and labels; the y axis has its label on top, where it need not be turned."""
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        pieces = []
        for value, name in self.x.marks():
            at = self.px(value)
            pieces.append(element("line", x1=at, x2=at, y1=TOP, y2=bottom, class_="grid"))
            pieces.append(element("text", name, x=at, y=bottom + 20, text_anchor="middle"))
        for value, name in self.y.marks():
            at = self.py(value)
            if not self.y.names:
                pieces.append(element("line", x1=self.left, x2=right, y1=at, y2=at, class_="grid"))
            pieces.append(element("text", name, x=self.left - 7, y=at + 4, text_anchor="end"))
        pieces.append(element("line", x1=self.left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        middle = (self.left + right) / 2
        pieces.append(element("text", self.x.label, x=middle, y=self.height - 8, text_anchor="middle", class_="soft"))
        pieces.append(element("text", self.y.label, x=2, y=14, class_="soft"))
        return pieces


def scatter(
    x: ArrayLike, y: ArrayLike, *, title: str, description: str, x_axis: Axis, y_axis: Axis, cells: int = 20
) -> Html:
    """Points over their density: squares that are the darker the more points lie in them; the diagonal is dashed.

    Parameters
    ----------
    x, y : array_like, shape (n,)
    x_axis, y_axis : Axis
    cells : int
        Squares along each side.
    """
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    canvas = Canvas(title, description, x_axis, y_axis, height=WIDTH)
    edges = [_centred_edges(axis, cells) for axis in (x_axis, y_axis)]
    counts, x_edges, y_edges = np.histogram2d(across, up, bins=edges)
    for i, j in np.argwhere(counts > 0):
        shade = 0.08 + 0.8 * math.sqrt(counts[i, j] / counts.max())
        corners = (float(x_edges[i]), float(x_edges[i + 1]), float(y_edges[j]), float(y_edges[j + 1]))
        what = f"{_number(corners[0])} to {_number(corners[1])}, {_number(corners[2])} to {_number(corners[3])}"
        canvas.rectangle(*corners, "cell", f"{what}: {int(counts[i, j])}", fill_opacity=shade)
    _diagonal(canvas)
    for one, other in zip(across.tolist(), up.tolist(), strict=True):
        canvas.dot(one, other, "dot", 1.3)
    return canvas.svg()


def calibration(
    predicted: Sequence[float],
    true: Sequence[float],
    counts: Sequence[int],
    errors: Sequence[float] | None = None,
    *,
    title: str,
    description: str,
    x_axis: Axis,
    y_axis: Axis,
) -> Html:
    """Mean truth against mean prediction in bins, with bars of one standard error; on the diagonal all is well.

    Parameters
    ----------
    predicted, true : sequence of float
        Means of each bin.
    counts : sequence of int
        How many it holds.
    errors : sequence of float, optional
        Standard error of the true mean.
    """
    canvas = Canvas(title, description, x_axis, y_axis, height=WIDTH)
    _diagonal(canvas)
    canvas.line(predicted, true, "line0")
    for i, (one, other, n) in enumerate(zip(predicted, true, counts, strict=True)):
        if errors is not None:
            ends = (max(other - errors[i], y_axis.low), min(other + errors[i], y_axis.high))
            canvas.line((one, one), ends, "line0")
        canvas.dot(one, other, "mark0", tip=f"predicted {_number(one)}, true {_number(other)}, {n} of them")
    return canvas.svg()


def histogram(values: ArrayLike, *, title: str, description: str, x_axis: Axis, y_label: str, bins: int = 24) -> Html:
    """How often values fall into bins of equal width; a dashed line stands at 0."""
    counts, edges = np.histogram(np.asarray(values, dtype=np.float64), bins=bins, range=(x_axis.low, x_axis.high))
    canvas = Canvas(title, description, x_axis, Axis(0.0, float(max(counts.max(), 1)) * 1.05, y_label))
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            gap = 0.06 * (right - left)
            tip = f"{_number(left)} to {_number(right)}: {count}"
            canvas.rectangle(left + gap, right - gap, 0.0, count, "mark0", tip)
    if x_axis.low < 0 < x_axis.high:
        canvas.line((0.0, 0.0), (0.0, canvas.y.high), "ideal")
    return canvas.svg()


def boxes(groups: Mapping[str, ArrayLike], *, title: str, description: str, x_axis: Axis) -> Html:
    """A box per group: quartiles and median, whiskers from the 5th to the 95th percentile, a dot at the mean."""
    names = [f"{name} ({np.size(values)})" for name, values in groups.items()]
    canvas = _rows_canvas(names, title, description, x_axis)
    if x_axis.low < 0 < x_axis.high:
        canvas.line((0.0, 0.0), (0.5, len(names) + 0.5), "ideal")
    for name, values, at in zip(names, groups.values(), canvas.y.ticks, strict=True):
        data = np.asarray(values, dtype=np.float64)
        low, first, middle, third, high = (float(q) for q in np.percentile(data, (5, 25, 50, 75, 95)))
        canvas.line((low, high), (at, at), "line0")
        tip = f"{name}: median {_number(middle)}, middle half {_number(first)} to {_number(third)}"
        canvas.rectangle(first, third, at - 0.28, at + 0.28, "box", tip)
        canvas.line((middle, middle), (at - 0.28, at + 0.28), "median")
        canvas.dot(float(data.mean()), at, "mark1", tip=f"{name}: mean {_number(float(data.mean()))}")
    return canvas.svg()


def bars(rows: Sequence[Row], *, title: str, description: str, x_axis: Axis) -> Html:
    """Horizontal bars from 0, a whisker where a row has an interval."""
    canvas = _rows_canvas([row.name for row in rows], title, description, x_axis)
    for row, at in zip(rows, canvas.y.ticks, strict=True):
        canvas.rectangle(max(0.0, x_axis.low), row.value, at - 0.32, at + 0.32, f"mark{row.series}", _row_tip(row))
        if row.low is not None and row.high is not None:
            canvas.line((row.low, row.high), (at, at), "whisker")
    return canvas.svg()


def intervals(rows: Sequence[Row], *, title: str, description: str, x_axis: Axis) -> Html:
    """A dot per row, and a line over its interval; the axis need not begin at 0."""
    canvas = _rows_canvas([row.name for row in rows], title, description, x_axis)
    for row, at in zip(rows, canvas.y.ticks, strict=True):
        if row.low is not None and row.high is not None:
            canvas.line((row.low, row.high), (at, at), f"line{row.series} solid")
        canvas.dot(row.value, at, f"mark{row.series}", 5.0, _row_tip(row))
    return canvas.svg()


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    description: str,
    x_axis: Axis,
    y_axis: Axis,
    width: float = WIDTH,
) -> Html:
    """Up to three lines, each with its points, and a legend where there is more than one.

    Parameters
    ----------
    series : mapping of str to (x, y)
    """
    canvas = Canvas(title, description, x_axis, y_axis, width=width)
    room = width - RIGHT
    for i, (name, (x, y)) in reversed(list(enumerate(series.items()))):
        canvas.line(x, y, f"line{i}")
        for one, other in zip(x, y, strict=True):
            canvas.dot(one, other, f"mark{i}", 3.0, f"{name}: {_number(one)}, {_number(other)}")
        if len(series) > 1:
            canvas.text(room, 14, name, anchor="end")
            room -= CHARACTER * len(name) + 34
            mark = element("line", x1=room + 6, x2=room + 28, y1=10, y2=10, class_=f"line{i}")
            canvas.add(mark)
    return canvas.svg()


def heat_strip(
    values: Sequence[float | None],
    names: Sequence[str],
    edges: Sequence[tuple[float, float]],
    *,
    title: str,
    description: str,
    x_axis: Axis,
    width: float = WIDTH,
) -> Html:
    """Coloured pieces along an axis, for instance the lines of a song over time.

    Parameters
    ----------
    values : sequence of float or None
        In 0-1, as `heat_colour` takes them; None is left empty.
    names : sequence of str
        Text for when a piece is pointed at.
    edges : sequence of (float, float)
        Where each piece begins and ends.
    """
    canvas = Canvas(title, description, x_axis, Axis(0.0, 1.0, "", (0.0,), ("",)), width=width, height=112, left=8)
    for value, name, (left, right) in zip(values, names, edges, strict=True):
        style = "fill: none; stroke: var(--soft)" if value is None else f"fill: {heat_colour(value)[0]}"
        canvas.rectangle(left, right, 0.0, 1.0, None, name, style=style)
    return canvas.svg()


def standalone(chart: Html) -> str:
    """A chart as an SVG file: with its namespace, its colours and paper of its own."""
    opening, rest = chart.split(">", 1)
    style = element("style", Html(CHART_CSS + "svg.chart { background: var(--paper); }"))
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def nice_ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Round numbers between two ends, some `about` of them."""
    if not high > low:
        return (low,)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(step * i, 10) for i in range(first, last + 1))


def _rows_canvas(names: Sequence[str], title: str, description: str, x_axis: Axis) -> Canvas:
    """A canvas with a row per name, the first on top."""
    n = len(names)
    shown = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    y_axis = Axis(0.5, n + 0.5, "", tuple(float(n - i) for i in range(n)), tuple(shown))
    left = 14 + CHARACTER * max((len(name) for name in shown), default=0)
    return Canvas(title, description, x_axis, y_axis, height=TOP + BOTTOM + max(n, 1) * 34, left=left)


def _centred_edges(axis: Axis, cells: int) -> np.ndarray:
    """Edges of cells around round numbers, since shares of few words pile up on these; the outer cells are halves."""
    middles = np.linspace(axis.low, axis.high, cells + 1)
    return np.concatenate(([axis.low], (middles[1:] + middles[:-1]) / 2, [axis.high]))


def _along(value: float, axis: Axis, start: float, end: float) -> float:
    return start + (value - axis.low) / (axis.high - axis.low) * (end - start)


def _diagonal(canvas: Canvas) -> None:
    low, high = max(canvas.x.low, canvas.y.low), min(canvas.x.high, canvas.y.high)
    canvas.line((low, high), (low, high), "ideal")


def _tip(text: str) -> tuple[Html, ...]:
    return (element("title", text),) if text else ()


def _row_tip(row: Row) -> str:
    ends = "" if row.low is None or row.high is None else f" ({_number(row.low)} to {_number(row.high)})"
    return f"{row.name}: {_number(row.value)}{ends}"


def _number(value: float) -> str:
    """Four significant digits, without an exponent or trailing zeros."""
    text = f"{float(f'{value:.4g}'):,.10f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
