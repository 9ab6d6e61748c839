"""The outer edge of all scripts: exit codes, one-line errors, progress.

Exit codes: 0 done; 1 some signals or runs failed, the others are written and the failures listed; 2 wrong input (one
line on standard error, no traceback); 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import functools
import io
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from scow.errors import UserError

EXIT_OK = 0
EXIT_PARTIAL = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
SECONDS_BETWEEN_LINES = 30.0
LONGEST_LINE = 1_000  # of an error; it may quote a file


class Printable:
    """A text stream that shows control and format characters as escapes, so that no name or lyrics steer the terminal.

    Colours pass on a terminal; so do line ends, and the carriage return with which a progress bar begins.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._special = re.compile(r"(?!\x1b\[[\d;]*m)" * stream.isatty() + r"(?!\A\r)[^ -~\n\t]")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, what is not printable and what the encoding lacks as escapes."""
        shown = self._special.sub(lambda found: found[0] if found[0].isprintable() else ascii(found[0])[1:-1], text)
        encoding = self._stream.encoding or "utf-8"
        return self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))


def run_script(body: Callable[[], int]) -> int:
    """Run a script's body; an error that the user can fix becomes one line and exit code 2."""
    out, err = (cast("TextIO", Printable(stream or io.StringIO())) for stream in (sys.stdout, sys.stderr))  # or closed
    with redirect_stdout(out), redirect_stderr(err):
        try:
            return body()
        except (UserError, OSError) as error:  # an OSError: a name that is too long, a device that fails
            line = " ".join(str(error).splitlines())
            short = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 200]} … {line[-200:]}"
            print(f"error: {short}", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            print("interrupted; run the same command again to go on", file=sys.stderr)
            return EXIT_INTERRUPTED


def report_failures(
    failures: Sequence[tuple[str, str]], what: str = "could not be computed; their cells are empty"
) -> int:
    """List failures, pairs of name and reason, on standard error, and return the exit code."""
    if not failures:
        return EXIT_OK
    print(f"{len(failures)} {what}:", file=sys.stderr)
    for name, reason in failures:
        print(f"  {name}: {reason}", file=sys.stderr)
    return EXIT_PARTIAL


class Progress:
    """Shows on standard error how far work is: a bar on a terminal; in a log a line every 30 s, with the time left.

    With a unit, a log also gets a line at the end.
    """

    def __init__(self, unit: str = "", seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> None:
        self._unit = f" {unit}" if unit else ""
        self._between_s = seconds_between_lines
        self._label = ""
        self._bar: Any = None
        self._began = self._spoke = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done of the work named `label`."""
        from tqdm import tqdm

        if label != self._label:
            if self._label:
                self._began = self._spoke = time.monotonic()
            self._label = label
            self._bar = tqdm(total=total, desc=label, unit=self._unit, disable=not sys.stderr.isatty())
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        if self._bar.disable and (now - self._spoke > self._between_s or (self._unit and done == total)):
            spent_s = now - self._began
            left = f", {spent_s / done * (total - done):.0f} s left" if done < total else ""
            print(f"{label}: {done}/{total}{self._unit}, {spent_s:.0f} s{left}", file=sys.stderr, flush=True)
            self._spoke = now
        if done == total:
            self._bar.close()


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options of a feature stage that choose where to compute, and whether at all."""
    parser.add_argument("--jobs", type=int, metavar="N", help="processes of this machine (default: config, else 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, for instance tcp://host:8786")
    parser.add_argument("--resources", nargs="+", metavar="NAME=N", help="what a worker must offer, for instance GPU=1")
    parser.add_argument("--overwrite", action="store_true", help="compute again what is there")
    parser.add_argument("--status", action="store_true", help="print how far each column is, and compute nothing")


def engine_options(given: argparse.Namespace, jobs: int) -> dict[str, Any]:
    """Arguments of `scow.features.engine.open_engine` from `add_engine_options`; `jobs` are those of the config."""
    resources: dict[str, float] = {}
    for text in listed(given.resources):
        match = re.fullmatch(r"(.+)=(\d+(?:\.\d+)?)", text)
        if not match:
            raise UserError(f"--resources: expected NAME=NUMBER, such as GPU=1, found {text!r}")
        resources[match[1]] = float(match[2])
    of_config = 1 if given.scheduler else jobs
    return {
        "jobs": of_config if given.jobs is None else given.jobs,
        "scheduler": given.scheduler,
        "resources": resources,
    }


def say_unread(path: Path, settings: Sequence[str]) -> None:
    """Note settings of a config that nothing reads, so that a typo is seen."""
    if settings:
        note(f"{path}: nothing reads {', '.join(settings)}")


@functools.cache  # variants of a config have the same to say
def note(text: str) -> None:
    """Tell on standard error, once, what the user should know but need not mend."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def listed(values: Sequence[str] | None) -> tuple[str, ...]:
    """Names of an option that takes them separated by commas, spaces or both."""
    return tuple(name for value in values or () for name in value.replace(",", " ").split())


def aligned(rows: Sequence[Sequence[str]], longest: int = 34) -> str:
    """Rows as text columns, the first of them the header; a cell that is too long is cut."""
    cut = [[cell if len(cell) <= longest else f"{cell[: longest - 1]}…" for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cut) for i in range(len(cut[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cut]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
