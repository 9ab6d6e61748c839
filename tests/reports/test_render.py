"""Figures and pages: text alternatives, escaping, colours, and a file that loads nothing."""

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import browse

from scow.reports.plots import Interval, Plot, boxes, calibration, heat_colour, histogram, intervals, lines, scatter
from scow.reports.render import figure_svg, inline_svg, render, write_figures, write_text

FIGURES = {
    "scatter": lambda: scatter([1, 50, 50], [2, 50, 50], "x", "y"),
    "calibration": lambda: calibration([0.1, 0.9], [0.2, 0.8], "x", "y", 1.0, [0.03, 0.03]),
    "histogram": lambda: histogram([1, 2, 3], (-10, 10), "x", "n"),
    "boxes": lambda: boxes({"<a>": [1, 2, 3], "b": [4]}, (-10, 10), "x"),
    "intervals": lambda: intervals([Interval("one & $two$", 26, 25, 27), Interval("n" * 60, 29, series=1)], "x"),
    "lines": lambda: lines({"a": ([0, 1], [0, 100]), "b": ([0, 1], [50, 50])}, "s", "y", 100.0),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_text_alternatives_and_are_reproducible(name: str, tmp_path: Path) -> None:
    plots = {of: Plot(FIGURES[name](), 'A "title" & more', "<42>") for of in ("first", "again")}
    first, again = map(inline_svg, plots.values())
    assert first == again
    pdf, pdf_again = (path.read_bytes() for path in write_figures(tmp_path, plots))
    assert pdf == pdf_again
    assert pdf.startswith(b"%PDF")
    root = ET.fromstring(first)
    assert (root.get("role"), root.get("aria-label")) == ("img", 'A "title" & more. <42>')
    assert "#000000" not in first  # drawn in the ink of the page
    texts = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"intervals": {"one & $two$", "n" * 25 + "…"}, "boxes": {"<a> (3)"}}.get(name, {"x"} & texts) <= texts
    ET.fromstring(figure_svg(FIGURES[name]()).encode())


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2, as second implementation."""
    total = 0.0
    for weight, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5)):
        c = int(colour[i : i + 2], 16) / 255
        total += weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
    return total


def test_heat_colour_rises_in_lightness_with_readable_ink() -> None:
    backgrounds, inks = zip(*(heat_colour(share) for share in np.linspace(0, 1, 101)), strict=True)
    assert all(luminance(one) < luminance(other) for one, other in pairwise(backgrounds))
    for background, ink in zip(backgrounds, inks, strict=True):
        bright, dark = sorted((luminance(background), luminance(ink)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5
    assert (heat_colour(-1), heat_colour(2)) == (heat_colour(0), heat_colour(1))


@pytest.mark.slow
def test_page_follows_dark_mode_and_its_policy_blocks_the_network(tmp_path: Path) -> None:
    """The console would report what a page tries to load, so that other tests would notice."""
    path = tmp_path / "page.html"
    write_text(path, render("page.html.j2").replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'))
    light, dark = (
        browse(path, tmp_path / name, 1200, f"--blink-settings=preferredColorScheme={scheme}")
        for name, scheme in (("light", 1), ("dark", 0))
    )
    assert (light["paper"], dark["paper"]) == ("rgb(255, 255, 255)", "rgb(16, 21, 27)")
    assert any("Content Security Policy" in line for line in light["console"])
