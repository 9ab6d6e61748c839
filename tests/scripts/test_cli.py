"""scow.cli: exit codes, one-line errors, progress."""

import io
import sys

from scow.cli import run_script
from scow.errors import UserError


def raising(error: BaseException) -> int:
    raise error


def test_run_script_shows_control_characters_and_what_the_encoding_lacks(monkeypatch):
    for encoding, shown in (("utf-8", "é ♪"), ("latin-1", r"é \u266a"), ("ascii", r"\xe9 \u266a")):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding, newline="") for _ in range(2)]
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            monkeypatch.setattr(sys, name, stream)
        hostile = "é ♪ \x1b[2J\x1b]0;title\a \x9b31m \udcff gpj.\u202e a\u200bb\rc\n"
        assert run_script(lambda text=hostile: print(text, end="") or raising(UserError(text))) == 2
        for stream, start in zip(streams, ("", "error: "), strict=True):
            stream.flush()
            end = " c" if start else r"\rc"  # an error is one line
            line = start + shown + r" \x1b[2J\x1b]0;title\x07 \x9b31m \udcff gpj.\u202e a\u200bb" + end
            assert stream.buffer.getvalue().decode(encoding) == line + "\n"
