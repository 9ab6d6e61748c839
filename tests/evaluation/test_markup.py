"""Markup: what is text is escaped, once."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from scow.reports.markup import Html, element, escape, join


class Reader(HTMLParser):
    """Python's own parser as the referee: what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "a & b", "&amp;", "\"quoted\" 'single'", "ünïcode ’ ♪", "", "]]>", "x\ny\tz"]
)
def test_text_comes_back_as_it_was(text: str) -> None:
    seen = read(element("p", text, title=text))
    assert seen.tags == [("p", {"title": text})]
    assert seen.text == text


def test_markup_stands_as_it_is_and_text_beside_it_is_escaped() -> None:
    inner = element("b", "<1>")
    assert join(inner, "<2>", 3, between=" ") == "<b>&lt;1&gt;</b> &lt;2&gt; 3"
    assert escape(escape("<")) == "&lt;"
    assert isinstance(join("a"), Html)


def test_what_no_page_can_hold_is_replaced() -> None:
    assert escape("a\x00b\x1bc\ud800d").encode() == "a�b�c�d".encode()


def test_attributes() -> None:
    assert element("rect", x=1.0, y=2.346, class_="a", stroke_width=3, id=None) == (
        '<rect x="1" y="2.35" class="a" stroke-width="3"></rect>'
    )
