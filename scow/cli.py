"""The outer edge of all scripts: exit codes, one-line errors, hydra.

Exit codes: 0 done; 1 some signals or runs failed, the others are written and the failures listed; 2 wrong input (one
line on standard error, no traceback); 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from scow.errors import UserError

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

EXIT_OK = 0
EXIT_PARTIAL = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
SECONDS_BETWEEN_LINES = 30.0

Result = TypeVar("Result")


def run_script(body: Callable[[], int]) -> int:
    """Run a script's body; a user error becomes one line and exit code 2."""
    try:
        return body()
    except UserError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
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
    """Shows on standard error how far work is: a bar on a terminal; in a log a line every 30 s.

    With a unit, a log also gets a line at the end.
    """

    def __init__(self, unit: str = "") -> None:
        self._unit = f" {unit}" if unit else ""
        self._label = ""
        self._bar: Any = None

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done of the work named `label`."""
        from tqdm import tqdm

        if label != self._label or self._bar is None:
            self._label, self._began = label, time.monotonic()
            self._spoke = self._began
            self._bar = tqdm(total=total, desc=label, unit=self._unit, disable=not sys.stderr.isatty())
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        if self._bar.disable and (now - self._spoke > SECONDS_BETWEEN_LINES or (self._unit and done == total)):
            print(f"{label}: {done}/{total}{self._unit}, {now - self._began:.0f} s", file=sys.stderr, flush=True)
            self._spoke = now
        if done == total:
            self._bar.close()


def say_unread(path: Path, settings: Sequence[str]) -> None:
    """Note settings of a config that nothing reads, so that a typo is seen."""
    if settings:
        print(f"note: {path}: nothing reads {', '.join(settings)}", file=sys.stderr)


def listed(values: Sequence[str] | None) -> tuple[str, ...]:
    """Names of an option that takes them separated by commas, spaces or both."""
    return tuple(name for value in values or () for name in value.replace(",", " ").split())


def aligned(rows: Sequence[Sequence[str]], longest: int = 34) -> str:
    """Rows as text columns, the first of them the header; a cell that is too long is cut."""
    cut = [[cell if len(cell) <= longest else f"{cell[: longest - 1]}…" for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cut) for i in range(len(cut[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cut]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def run_hydra(main: Callable[[], None], outcomes: Sequence[object]) -> int:
    """Run a hydra main, raise the first error among the `outcomes` of its tasks, and return the exit code.

    A mistake in config or override is one line. A config without a ``hydra:`` section, as published ones are, leaves no
    log files or output folders either.
    """
    from hydra.conf import HydraConf, RunDir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra raises its errors instead of printing them
    quiet = HydraConf(run=RunDir("."), output_subdir=None)
    for group in quiet.defaults:
        group.update(dict.fromkeys(group.keys() & {"hydra_logging", "job_logging"}, "none"))
    ConfigStore.instance().store(group="hydra", name="config", node=quiet, provider="scow")
    resolver = lambda *of: ",".join(sorted(swept_overrides(*of))).replace("/", "_")  # noqa: E731
    OmegaConf.register_new_resolver("swept", resolver, replace=True)

    def body() -> int:
        try:
            main()
        except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
            raise UserError(f"config or override: {' '.join(str(error).split())}") from error
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return EXIT_OK

    return run_script(body)


def outcome_of(task: Callable[[], Result]) -> Result | Exception:
    """Result of a hydra task, or the error that ended it: hydra prints errors that a task raises in its own way."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        return task()
    except OmegaConfBaseException as error:
        return UserError(f"config: {' '.join(str(error).split())}")
    except Exception as error:  # noqa: BLE001  reported by run_hydra, or in the table of a sweep
        return error


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain values, interpolations resolved."""
    from omegaconf import OmegaConf

    return cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))


def swept_overrides(sweep_dir: str, overrides: Sequence[str]) -> list[str]:
    """Overrides of one run of a sweep that take several values in the sweep; all of them where none does."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    texts = OmegaConf.load(Path(sweep_dir) / "multirun.yaml").hydra.overrides.task
    given = OverridesParser.create().parse_overrides(texts)
    swept = {override.get_key_element() for override in given if override.is_sweep_override()}
    return [text for text in overrides if text.partition("=")[0] in swept] or list(overrides)


def config_folder(chosen: HydraConf) -> Path:
    """Folder of the config.yaml that hydra read."""
    return next(Path(source.path) for source in chosen.runtime.config_sources if source.provider == "main")
