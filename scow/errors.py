"""Errors that a user can fix. Every other module may import this one; it imports none.

A `UserError` is a mistake in the input: a missing file, an unknown name, a table without the columns needed. Its
message is one line: what was expected, what was found, and a hint where the remedy is not obvious. Scripts print it and
exit with 2 (`scow.cli`). A traceback is therefore always a defect of this project.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input; the message is one line."""


class SignalError(UserError):
    """One signal cannot be computed: its cells stay empty, the reason is reported, the other signals are computed."""


def expect(holds: object, where: object, expected: str, found: object) -> None:
    """Raise a `UserError` of one line, ``where: expected this, found that``, unless the condition holds."""
    if not holds:
        raise UserError(f"{where}: expected {expected}, found {found}")


def nearest(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: ``did you mean a, b?``, or ``known: a, b, c`` where none is near."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(names)}"
