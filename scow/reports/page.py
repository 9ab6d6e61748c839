"""Reports: one HTML file that holds all it needs.

It opens from disk, asks no network for anything (a policy in its head forbids it), fits a phone and prints on
paper, follows the reader's choice of a light or dark screen, and reads well without styles. Texts are escaped: see
`scow.reports.markup`. Charts are those of `scow.reports.charts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scow import __version__
from scow.io import atomic_write
from scow.reports.charts import CHART_CSS
from scow.reports.markup import Html, element, escape, join
from scow.reports.plots import heat_colour

PAGE_CSS = """
* { box-sizing: border-box; }
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 0.4rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; padding-top: 0.8rem; border-top: 1px solid var(--rule); }
p, ul { margin: 0.5rem 0; max-width: 46rem; }
.lead, figcaption, footer, .note { color: var(--soft); }
figcaption, footer, .note { font-size: 0.9rem; }
figure { margin: 0; break-inside: avoid; }
figure h3 { font-size: 1rem; margin: 0 0 0.3rem; }
.grid { display: grid; gap: 1.6rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.grid figure { max-width: 34rem; }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.9rem 0.3rem 0; border-bottom: 1px solid var(--rule); }
td.number, th.number { text-align: right; white-space: nowrap; }
th, td { overflow-wrap: normal; }
td.words { min-width: 13rem; overflow-wrap: anywhere; }
tr { break-inside: avoid; }
tr.ours { background: var(--raised); font-weight: 600; }
.heat { display: inline-block; padding: 0 0.28em; margin: 0.06em 0.02em; border-radius: 0.25em; }
footer { margin-top: 2.5rem; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } h2 { break-after: avoid; }
  .grid { grid-template-columns: 1fr 1fr; } .scroll { overflow: visible; } .screen { display: none; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes
    ----------
    title : str
    content : tuple
        `Html`, or text that becomes a paragraph.
    """

    title: str
    content: tuple[object, ...]


def page(title: str, sections: Sequence[Section], *, lead: object = "", css: str = "", script: str = "") -> Html:
    """A whole page.

    Parameters
    ----------
    title : str
    sections : sequence of Section
    lead : Html or str
        What the reader should know first, below the title.
    css, script : str
        A report's own, beyond what all share. They are taken as they stand: no user's text belongs into them.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Html(CHART_CSS + PAGE_CSS + css)),
    ]
    body = [
        element("header", element("h1", title), element("div", *_flow((lead,)), class_="lead") if lead else ""),
        element("main", *(element("section", element("h2", s.title), *_flow(s.content)) for s in sections)),
        element("footer", f"Stereo Chorus of Whispers {__version__}"),
    ]
    if script:
        body.append(element("script", Html(script)))
    content = element("html", element("head", *head), element("body", *body), lang="en")
    return Html(f"<!DOCTYPE html>\n{content}\n")


def write_page(path: Path, content: Html) -> None:
    """Write a page so that the file is at all times whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def figure(chart: Html, title: str, caption: object = "") -> Html:
    """A chart with its title and a sentence on how to read it."""
    return element("figure", element("h3", title), chart, element("figcaption", caption) if caption else "")


def grid(*figures: Html) -> Html:
    """Figures side by side where there is room, else one below another."""
    return element("div", *figures, class_="grid")


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    caption: str = "",
    numeric: Sequence[int] = (),
    wordy: Sequence[int] = (),
    ours: Sequence[int] = (),
) -> Html:
    """A table that scrolls by itself where the screen is narrow.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence
        Cells: `Html`, or text that is escaped; None is an empty cell.
    caption : str
    numeric, wordy : sequence of int
        Columns that are set to the right, and columns of running text.
    ours : sequence of int
        Rows to set off.
    """
    kinds = {**dict.fromkeys(numeric, "number"), **dict.fromkeys(wordy, "words")}
    top = element("tr", *(element("th", name, scope="col", class_=kinds.get(i)) for i, name in enumerate(header)))
    body = [
        element(
            "tr",
            *(element("td", "" if cell is None else cell, class_=kinds.get(i)) for i, cell in enumerate(row)),
            class_="ours" if number in ours else None,
        )
        for number, row in enumerate(rows)
    ]
    inside = element("table", element("thead", top), element("tbody", *body), aria_label=caption or None)
    # The caption stands outside, or it would scroll away; the region takes the focus, so that keys can scroll it.
    scroll = element("div", inside, class_="scroll", tabindex="0", role="region", aria_label=caption or "table")
    return element("div", note(caption) if caption else "", scroll)


def heat_words(words: Sequence[str], shares: Sequence[float], tips: Sequence[str] = ()) -> Html:
    """Words on the colour of their probability of 0-1, which is also said when a word is pointed at."""
    texts = tips or [f"{100 * share:.0f} %" for share in shares]
    return join(
        *(
            element(
                "span", word, class_="heat", style="background: {}; color: {}".format(*heat_colour(share)), title=tip
            )
            for word, share, tip in zip(words, shares, texts, strict=True)
        ),
        between=" ",
    )


def note(text: object) -> Html:
    """A remark in small print."""
    return element("p", text, class_="note")


def _flow(content: Sequence[object]) -> list[Html]:
    """Markup as it stands, text as paragraphs."""
    return [part if isinstance(part, Html) else element("p", escape(part)) for part in content]
