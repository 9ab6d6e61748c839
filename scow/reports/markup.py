"""Text that is HTML already, and text that has yet to become it.

Lyrics and file names can hold ``<``, ``&`` and quotes. `Html` marks what is markup; `escape` lets it pass and escapes
everything else. Whoever puts pieces together with `escape` or `element` cannot forget.
"""

from __future__ import annotations

import html
import re


class Html(str):
    """Markup, ready to stand in a page."""

    __slots__ = ()


# Control characters are no HTML; half a surrogate pair, as Python reads from odd file names, is no UTF-8.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def escape(content: object) -> Html:
    """Content as markup: `Html` as it stands, anything else as escaped text."""
    if isinstance(content, Html):
        return content
    return Html(html.escape(_NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", str(content)), quote=True))


def join(*parts: object, between: str = "") -> Html:
    """Parts one after another, each escaped where it is no markup."""
    return Html(between.join(escape(part) for part in parts))


def element(name: str, /, *content: object, **attributes: object) -> Html:
    """An element with escaped content and attributes.

    Parameters
    ----------
    name : str
        Tag, for instance ``p``.
    *content : object
        `Html`, or text that is escaped.
    **attributes : object
        ``class_`` stands for ``class`` and ``stroke_width`` for ``stroke-width``; None leaves one out, floats are cut
        to two decimals.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(*content)}</{name}>")


def _value(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
