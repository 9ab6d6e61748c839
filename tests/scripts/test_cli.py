"""scow.cli: exit codes, one-line errors, progress."""

import io
import sys
import time

from scow.cli import Progress, run_script
from scow.errors import UserError


def raising(error: BaseException) -> int:
    raise error


def test_run_script_shows_control_characters_and_what_the_encoding_lacks(monkeypatch):
    for encoding, shown in (("utf-8", "é ♪"), ("latin-1", r"é \u266a"), ("ascii", r"\xe9 \u266a")):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding, newline="") for _ in range(2)]
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            monkeypatch.setattr(sys, name, stream)
        hostile = "é ♪ \x1b[2J\x1b]0;title\a \x9b31m \udcff\n"
        assert run_script(lambda text=hostile: print(text, end="") or raising(UserError(text))) == 2
        for stream, start in zip(streams, ("", "error: "), strict=True):
            stream.flush()
            line = start + shown + r" \x1b[2J\x1b]0;title\x07 " + r"\x9b31m \udcff"
            assert stream.buffer.getvalue().decode(encoding) == line + "\n"


def test_progress_is_a_bar_on_a_terminal_and_a_line_every_30_s_in_a_log(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    terminal, log = io.StringIO(), io.StringIO()
    terminal.isatty = lambda: True
    for stream in (terminal, log):
        now[0] = 0.0
        monkeypatch.setattr(sys, "stderr", stream)
        progress = Progress()
        for done in (1, 2, 3, 4):
            now[0] += 16.0
            progress("transcribing", done, 4)
    assert "\rtranscribing: 100%" in terminal.getvalue()
    assert log.getvalue() == "transcribing: 2/4, 32 s\ntranscribing: 4/4, 64 s\n"
