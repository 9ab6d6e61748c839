"""Figures of the reports, drawn with matplotlib.

Each function takes numbers and returns a `matplotlib.figure.Figure`; `scow.reports.render` writes it as SVG into a page
or as PDF. Series differ in dash or marker as well as in colour (Okabe and Ito, "Color Universal Design", 2008).
matplotlib is imported when the first figure is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#c04f00", "#007a58")
DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "D")
GREY = "#808890"  # readable on white and on black
MAX_NAME = 26  # characters of a name beside an axis

# Lightness rises evenly from dark blue to yellow, so that the order survives a grey print and any colour vision.
_HEAT = np.array([(16, 36, 84), (56, 70, 110), (122, 121, 118), (188, 174, 106), (254, 231, 84)])


class Plot(NamedTuple):
    """A figure and its texts."""

    figure: Figure
    title: str
    description: str  # what it shows, with numbers, for readers who do not see it


class Interval(NamedTuple):
    """A row of `intervals`."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0  # colour and marker


def heat_colour(share: float) -> tuple[str, str]:
    """Background and ink as #rrggbb for a share in 0-1: dark blue is lost, yellow is caught.

    The ink has a contrast of at least 4.5 : 1 on the background (WCAG 2.2).
    """
    at = np.clip(share, 0.0, 1.0) * (len(_HEAT) - 1)
    rgb = np.array([np.interp(at, range(len(_HEAT)), channel) for channel in _HEAT.T])
    linear = np.where(rgb <= 10, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    ink = "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"
    return "#" + "".join(f"{round(value):02x}" for value in rgb), ink


def scatter(x: ArrayLike, y: ArrayLike, x_label: str, y_label: str, high: float = 100.0) -> Figure:
    """Points in a square from 0 to `high`, darker where many overlap, and the diagonal."""
    figure, axes = _square(x_label, y_label, high)
    axes.plot(x, y, ".", color=COLOURS[0], alpha=0.35, markersize=5, markeredgewidth=0)
    return figure


def calibration(
    predicted: ArrayLike, true: ArrayLike, x_label: str, y_label: str, high: float, errors: ArrayLike | None = None
) -> Figure:
    """Mean truth against mean prediction of bins, with bars of one standard error, and the diagonal."""
    figure, axes = _square(x_label, y_label, high)
    axes.errorbar(predicted, true, yerr=errors, fmt="-o", color=COLOURS[0], markersize=4)
    return figure


def histogram(values: ArrayLike, ends: tuple[float, float], x_label: str, y_label: str, bins: int = 24) -> Figure:
    """Counts in bins of equal width between two ends."""
    figure, axes = _axes(x_label, y_label)
    axes.hist(np.asarray(values), bins=bins, range=ends, color=COLOURS[0], rwidth=0.9)
    axes.set_xlim(*ends)
    _zero(axes)
    return figure


def boxes(groups: Mapping[str, ArrayLike], ends: tuple[float, float], x_label: str) -> Figure:
    """A box for each group: quartiles and median; whiskers at the 5th and 95th percentile; a dot at the mean."""
    figure, axes = _rows([f"{name} ({np.size(values)})" for name, values in groups.items()], x_label)
    line = {"color": COLOURS[0]}
    axes.boxplot(
        [np.asarray(values) for values in groups.values()],
        positions=range(len(groups)),
        orientation="horizontal",
        whis=(5, 95),
        widths=0.55,
        showfliers=False,
        showcaps=False,
        showmeans=True,
        manage_ticks=False,
        boxprops=line,
        whiskerprops=line,
        medianprops={"color": COLOURS[0], "linewidth": 3},
        meanprops={"marker": "o", "markersize": 5, "markerfacecolor": COLOURS[1], "markeredgewidth": 0},
    )
    axes.set_xlim(*ends)
    _zero(axes)
    return figure


def intervals(rows: Sequence[Interval], x_label: str, ends: tuple[float, float] | None = None) -> Figure:
    """A marker for each row, and a line over its interval."""
    figure, axes = _rows([row.name for row in rows], x_label)
    for at, row in enumerate(rows):
        if row.low is not None and row.high is not None:
            axes.plot((row.low, row.high), (at, at), color=COLOURS[row.series], linewidth=2)
        axes.plot(row.value, at, MARKERS[row.series], color=COLOURS[row.series], markersize=6)
    if ends:
        axes.set_xlim(*ends)
    return figure


def lines(series: Mapping[str, tuple[ArrayLike, ArrayLike]], x_label: str, y_label: str, high: float) -> Figure:
    """Up to three lines of values in 0 to `high`, with a legend where there are several."""
    figure, axes = _axes(x_label, y_label)
    for i, (name, (x, y)) in enumerate(series.items()):
        axes.plot(x, y, DASHES[i], marker=MARKERS[i], markersize=4, color=COLOURS[i], label=name)
    axes.set_ylim(-0.02 * high, 1.02 * high)
    if len(series) > 1:
        figure.legend(loc="outside upper right", ncols=len(series), frameon=False)
    return figure


def waveform(
    outline: Sequence[tuple[float, float]], duration_s: float, spans: Sequence[tuple[float, float, float]]
) -> Figure:
    """(min, max) of equal parts of a signal; spans of start, end and share have the colour of the share."""
    figure, axes = _axes("time (s)", height=1.6)
    at, (low, high) = np.linspace(0, duration_s, len(outline)), np.transpose(outline)
    axes.fill_between(at, low, high, color=GREY, linewidth=0)
    for start, end, share in spans:
        ground, ink = heat_colour(share)
        axes.axvspan(start, end, color=ground, linewidth=0)
        axes.fill_between(at, low, high, where=(at >= start) & (at < end), color=ink, linewidth=0)
    axes.set(xlim=(0, duration_s), yticks=[])
    return figure


def _axes(x_label: str, y_label: str = "", height: float = 3.4) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _square(x_label: str, y_label: str, high: float) -> tuple[Figure, Axes]:
    """Axes from 0 to `high` with a dashed diagonal."""
    figure, axes = _axes(x_label, y_label, height=4.6)
    axes.plot((0, high), (0, high), "--", color=GREY)
    axes.set(xlim=(-0.02 * high, 1.02 * high), ylim=(-0.02 * high, 1.02 * high), aspect="equal")
    return figure, axes


def _rows(names: Sequence[str], x_label: str) -> tuple[Figure, Axes]:
    """Axes with a row for each name, the first on top."""
    figure, axes = _axes(x_label, height=1.0 + 0.34 * len(names))
    shown = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…" for name in names]
    axes.set_yticks(range(len(names)), shown, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _zero(axes: Axes) -> None:
    """A dashed line at zero."""
    low, high = axes.get_xlim()
    if low < 0 < high:
        axes.axvline(0.0, linestyle="--", color=GREY)
