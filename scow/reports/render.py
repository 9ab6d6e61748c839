"""Pages from Jinja2 templates, and figures as SVG and PDF.

A page is one HTML file that loads nothing: styles, script and figures are inside, and a policy in its head forbids the
network. The templates escape every text. Output depends on the input alone: no dates, no random identifiers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from scow import __version__
from scow.io import atomic_write
from scow.reports.plots import COLOURS, Plot, heat_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAVING: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scow",
    "pdf.fonttype": 42,
    "font.sans-serif": ["DejaVu Sans"],
}
# Control characters are no HTML; surrogates, as Python reads from odd file names, are no UTF-8.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def render(template: str, **values: Any) -> str:
    """A template of scow/reports/templates with values; text is escaped in HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"version": __version__, "heat_colour": heat_colour, "svg": inline_svg}
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", environment.get_template(template).render(values))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_figures(folder: Path, plots: Mapping[str, Plot]) -> list[Path]:
    """Write figures as <name>.pdf and <name>.svg; returns the paths of the former."""
    import matplotlib as mpl

    paths = [folder / f"{name}.pdf" for name in plots]
    for path, plot in zip(paths, plots.values(), strict=True):
        with atomic_write(path) as temporary, mpl.rc_context(SAVING):
            plot.figure.savefig(temporary, format="pdf", metadata={"CreationDate": None, "Title": plot.title})
        write_text(path.with_suffix(".svg"), figure_svg(plot.figure))
    return paths


def figure_svg(figure: Figure, *, transparent: bool = False) -> str:
    """A figure as an SVG document."""
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context(SAVING):
        figure.savefig(buffer, format="svg", transparent=transparent, metadata=nothing)
    return re.sub(r' id="[\w.]+_\d+"', "", buffer.getvalue())  # names of groups, which repeat in every figure


def inline_svg(plot: Plot) -> Markup:
    """A plot as an SVG element with a text alternative, in the colours of the page."""
    svg = figure_svg(plot.figure, transparent=True)
    svg = svg[svg.index("<svg") :].replace("#000000", "currentColor")
    for i, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--series{i})")
    label = escape(f"{plot.title}. {plot.description}")
    return Markup(svg.replace("<svg", f'<svg class="plot" role="img" aria-label="{label}"', 1))
