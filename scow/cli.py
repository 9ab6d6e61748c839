"""What all scripts do alike at their outer edge: exit codes and the one-line error.

Exit codes: 0 all went well; 1 some signals failed, the rest is written and the failures are listed; 2 the input
was wrong (one line on standard error, no traceback); 130 the user pressed Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scow.errors import UserError, nearest

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

EXIT_OK = 0
EXIT_PARTIAL = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
SECONDS_BETWEEN_LINES = 10.0


def run_script(body: Callable[[], int]) -> int:
    """Run a script's body and turn user errors into one line and an exit code.

    Parameters
    ----------
    body : callable
        Takes nothing, returns the exit code.

    Returns
    -------
    int
        The exit code.
    """
    try:
        return body()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED


def report_failures(
    failures: Sequence[tuple[str, str]], what: str = "could not be computed; their cells are empty"
) -> int:
    """List what could not be computed, and say so with the exit code.

    Parameters
    ----------
    failures : sequence of (str, str)
        Name and reason.
    what : str
        What to say of them, after their number.

    Returns
    -------
    int
        `EXIT_PARTIAL` where there are failures, else `EXIT_OK`.
    """
    if not failures:
        return EXIT_OK
    print(f"{len(failures)} {what}:", file=sys.stderr)
    for name, reason in failures:
        print(f"  {name}: {reason}", file=sys.stderr)
    return EXIT_PARTIAL


class ShowProgress:
    """Shows on standard error how far work is: in one line on a terminal, in a line now and then in a log.

    Called with a label, how much is done, and of how much.
    """

    def __init__(self) -> None:
        self._spoke = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show it."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{label}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif time.monotonic() - self._spoke > SECONDS_BETWEEN_LINES:
            self._spoke = time.monotonic()
            print(f"{label}: {done}/{total}", file=sys.stderr, flush=True)


def say_unread(path: Path, settings: Sequence[str]) -> None:
    """Note settings of a config that nothing reads; they do no harm, but a typing error should not pass unseen."""
    if settings:
        print(f"note: {path}: nothing reads {', '.join(settings)}", file=sys.stderr)


def listed(values: Sequence[str] | None) -> tuple[str, ...]:
    """Values of an option that takes names with commas, spaces or both between them."""
    return tuple(name for value in values or () for name in value.replace(",", " ").split())


def aligned(rows: Sequence[Sequence[str]], longest: int = 34) -> str:
    """Rows as text columns, the first of them the header; a cell that is too long is cut."""
    cut = [[cell if len(cell) <= longest else f"{cell[: longest - 1]}…" for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cut) for i in range(len(cut[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cut]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


class Multirun(Protocol):
    """What a script that does multiruns tells `run_hydra`."""

    def defaults(self, overrides: Sequence[str]) -> Mapping[str, str]:
        """Settings of hydra for the multirun, where `overrides`, all that the command line says, has none."""

    def finish(self) -> int:
        """Sum up after the last run; returns the exit code."""

    def close(self) -> None:
        """Tidy up, however it ended."""


def run_hydra(main: Callable[[], None], script: Path, multirun: Multirun | None = None) -> int:
    """Run a hydra main without hydra's own log files, folders and tracebacks.

    A published config.yaml holds no ``hydra:`` section, so what this project wants of hydra is said here: no
    change of folder, no output folder, no logging. What the user says of these on the command line wins. An error in
    the config or in an override, which hydra ends with 1, ends with 2 as every user error does.

    Parameters
    ----------
    main : callable
        The function that ``hydra.main`` made; its task ends by raising `TaskDone`, which in a multirun ends the
        whole of it.
    script : Path
        The script's own path: hydra reads ``-cp`` relative to its folder.
    multirun : Multirun, optional
        Without it ``--multirun`` is refused.

    Returns
    -------
    int
        The exit code.
    """
    given = sys.argv[1:]
    quiet = {
        "hydra.run.dir": ".",
        "hydra.output_subdir": "null",
        "hydra/job_logging": "none",
        "hydra/hydra_logging": "none",
    }

    def body() -> int:
        from hydra._internal.utils import get_args_parser
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        _check_config_folder(given, script.resolve().parent)
        options, overrides = _options_and_overrides(given)
        asked = get_args_parser().parse_args([*options, *overrides])
        modes = [f"--{m}" for m in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(asked, m)]
        if len(modes) > 1:
            raise UserError(f"expected only one of {', '.join(modes)}; leave the others out")
        is_multirun = asked.multirun or "hydra.mode=MULTIRUN" in asked.overrides
        if is_multirun and multirun is None:
            raise UserError(f"--multirun: only train.py sweeps; run {script.name} once per checkpoint or value")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra raises its errors to here instead of printing them at length
        try:
            defaults = quiet | dict(multirun.defaults(asked.overrides) if multirun and is_multirun else {})
            wanted = [f"{key}={value}" for key, value in defaults.items() if not _sets(overrides, key)]
            sys.argv = [sys.argv[0], *options, *wanted, *overrides]
            main()
        except TaskDone as done:
            return done.exit_code
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"config or override: {_one_line(error)}") from error
        except OSError as error:
            if not is_multirun:
                raise
            raise UserError(  # hydra makes the folders of a multirun
                f"cannot write {error.filename}: {error.strerror}; choose another hydra.sweep.dir"
            ) from error
        finally:
            if multirun and is_multirun:
                multirun.close()
        return multirun.finish() if multirun and is_multirun else EXIT_OK

    return run_script(body)


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain values, interpolations resolved.

    Raises
    ------
    UserError
        The config is no mapping, or refers to a value that it lacks.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"config: {_one_line(error)}; mend the config") from error
    if not isinstance(plain, dict):
        raise UserError(f"expected a config with named sections, found {type(plain).__name__}; see the shipped config")
    return {str(key): value for key, value in plain.items()}


def flag(config: Mapping[str, Any], name: str) -> bool:
    """A true-or-false value at the top of a config; false where it is absent.

    Raises
    ------
    UserError
        Another value.
    """
    value = config.get(name, False)
    if not isinstance(value, bool):
        raise UserError(f"{name}: expected true or false, found {value!r}; mend the config or override")
    return value


def config_folder(chosen: HydraConf) -> Path:
    """Folder of the config.yaml that hydra read."""
    return next(Path(source.path) for source in chosen.runtime.config_sources if source.provider == "main")


class TaskDone(BaseException):
    """Carries a hydra task's exit code past hydra, which catches every `Exception` and prints it in its own way."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def _options_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take overrides out from between the options, because argparse takes only one run of them."""
    takes_value = ("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-p", "--package")
    options: list[str] = []
    overrides: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_override = ("=" in argument or argument[:1] == "~") and argument[0] != "-" and before not in takes_value
        (overrides if is_override else options).append(argument)
    return options, overrides


def _sets(overrides: Sequence[str], key: str) -> bool:
    return any(override.lstrip("+").startswith(f"{key}=") for override in overrides)


def _check_config_folder(arguments: Sequence[str], base: Path) -> None:
    """Say in one line what hydra says in many: there is no such checkpoint folder."""
    for i, argument in enumerate(arguments):
        option, has_value, value = argument.partition("=")
        if option not in ("-cp", "--config-path"):
            continue
        folder = base / (value if has_value else (arguments[i + 1] if i + 1 < len(arguments) else ""))
        if not (folder / "config.yaml").is_file():
            known = sorted(path.parent.name for path in (base / "checkpoints").glob("*/config.yaml"))
            raise UserError(
                f"{option}: expected a folder with config.yaml, found none at {folder}; {nearest(folder.name, known)}"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
