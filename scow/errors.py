"""The errors that a user can mend.

Every module raises `UserError` (or a subclass) for a mistake in the input: a missing file, an unknown
name, a table without the columns that are needed. Its message is one line that says what was expected, what
was found and what to do. Scripts print that line and exit with 2 (see `scow.cli`); a traceback is
therefore always a defect of this project.

This file stands below the ground floor: every other module may import it, and it imports nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input that the user can mend; the message is one line."""


class SignalError(UserError):
    """One signal cannot be computed; the others go on, its cells stay empty, the reason is listed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Tail of an error message about an unknown name: the nearest known names, or all of them.

    Parameters
    ----------
    name : str
        What was found.
    known : iterable of str
        What would have been right.

    Returns
    -------
    str
        ``"did you mean a, b?"`` where something is near, else ``"known: a, b, c"``.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"known: {', '.join(names)}"
