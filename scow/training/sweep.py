"""A sweep: many trainings by one command, each in a folder of its own, and one table of them all.

``python train.py -m seed=1,2,3`` is hydra's multirun; hydra makes one run of each combination of values, one after
another. What this file adds:

- Folder. ``checkpoints/<exp_name>_sweep/<key=value,...>``, named after the keys that have several values (all keys
  where none has). Signs that are awkward in a folder's name become ``_``, and such a name, or a long one, ends with a
  hash of the whole. ``hydra.sweep.dir`` and ``hydra.sweep.subdir`` choose others. A folder that holds a checkpoint
  which is not of this sweep, for instance a shipped one, is never written to.
- Table. ``sweep.csv`` in the sweep's folder, one row per run: the swept keys, what the figures are (`Figures`), RMSE
  and r, exit code (0 done, 1 a defect, 2 a mistake in the input, empty while it runs or where it was killed), reason,
  folder, and a hash of all that the run depends on. It is replaced whole before and after each run. Runs of another
  sweep into the same folder join it; a run into a folder that has a row replaces that row (cross-validated figures have
  a row of their own).
- Going on. A run that is done and whose hash is the same (config, content of tables and metadata, versions) is not run
  again, because it would give the same bits. To have it run again, remove its folder.
- Failures. A run that fails is listed and the others go on; what an earlier run left in its folder stays. An error in
  the command itself, or a table that cannot be written, ends the sweep. A mistake that makes all runs fail alike is
  one user error.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from scow import __version__
from scow.cli import EXIT_OK, EXIT_PARTIAL, EXIT_USER_ERROR, TaskDone, plain_config, report_failures, run_script
from scow.errors import UserError
from scow.io import atomic_write, sha256_of
from scow.training.cross_validation import CrossValidation
from scow.training.train import Trained, train_config

if TYPE_CHECKING:
    from omegaconf import DictConfig

TABLE_NAME = "sweep.csv"
COLUMNS = ("figures", "rmse", "r", "exit_code", "reason", "folder", "inputs")
OUTPUTS = ("model.pt", "cross_validation.json")
CROSS_VALIDATED = "cross-validated"
LONGEST_NAME = 100  # file systems take 255 bytes

Row = dict[str, str]


@dataclass(frozen=True)
class Figures:
    """How well a run did.

    Attributes
    ----------
    kind : str
        ``"out of fold"`` (word model), ``"validation"`` (network, the kept epoch; of an ensemble the mean over its
        members), or ``"cross-validated"`` (mean over repeats).
    rmse : float
        In points of 0-100.
    r : float or None
        None where it is undefined.
    """

    kind: str
    rmse: float
    r: float | None


def figures_of(result: Trained | CrossValidation) -> Figures:
    """Figures of a training or a cross-validation."""
    if isinstance(result, CrossValidation):
        return Figures(CROSS_VALIDATED, result.rmse, result.r)
    if result.out_of_fold is not None:
        return Figures("out of fold", result.out_of_fold.rmse, result.out_of_fold.r)
    kept = [fitted.kept for fitted in result.fits]
    rs = [epoch.val_r for epoch in kept if epoch.val_r is not None]
    r = float(np.mean(rs)) if len(rs) == len(kept) else None
    return Figures("validation", float(np.mean([epoch.val_rmse for epoch in kept])), r)


def folder_name(overrides: Iterable[str]) -> str:
    """Name of a run's folder: its swept overrides (``key=value``), sorted, or as much of them as a name can hold."""
    whole = ",".join(sorted(overrides))
    name = re.sub(r"[^\w.=,+-]+", "_", whole, flags=re.ASCII)
    if name == whole and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def inputs_of(config: Mapping[str, Any]) -> str:
    """Hash of all that a run's result depends on: config, content of tables and metadata, versions.

    Raises
    ------
    UserError
        Whatever is wrong with the config.
    """
    data = train_config(config).data
    files = [*(path for pair in data.train_tables for path in pair), *data.metadata, *data.prior_metadata]
    content = {
        "config": config,
        "files": {str(path): sha256_of(path) if path.is_file() else None for path in files},
        "versions": [__version__, *(version(name) for name in ("torch", "numpy", "pandas"))],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_rows(path: Path) -> list[Row]:
    """Rows of a sweep's table; none where there is no table yet.

    Raises
    ------
    UserError
        Another kind of file.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, restval="")
            columns, rows = reader.fieldnames or (), list(reader)
    except (OSError, ValueError, csv.Error):
        columns, rows = (), []
    if not set(COLUMNS) <= set(columns) or any(None in row for row in rows):
        raise UserError(
            f"{path}: expected the table of a sweep, with the columns {', '.join(COLUMNS)}, found another file; "
            "move it away, or choose another hydra.sweep.dir"
        )
    return rows


def write_row(path: Path, row: Row) -> None:
    """Put a row into a sweep's table, in the place of the row of the same run, and replace the table.

    Raises
    ------
    UserError
        The table cannot be read or written.
    """
    rows = read_rows(path)
    place = next((i for i, other in enumerate(rows) if _run_of(other) == _run_of(row)), len(rows))
    rows[place : place + 1] = [row]
    swept = dict.fromkeys(key for one in rows for key in one if key not in COLUMNS)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [*swept, *COLUMNS], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class Sweep:
    """The runs of one command; what `scow.cli.run_hydra` needs for a multirun, and what a run's task calls."""

    def __init__(self) -> None:
        self._fixed: frozenset[str] = frozenset()
        self._rows: dict[str, Row] = {}  # by folder
        self._folder: Path | None = None

    def defaults(self, overrides: Sequence[str]) -> dict[str, str]:
        """What a sweep wants of hydra, where the user says nothing else.

        Parameters
        ----------
        overrides : sequence of str
            All that the command line overrides.

        Raises
        ------
        UserError
            An override that a sweep cannot have.
        HydraException
            One that hydra cannot read.
        """
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from omegaconf import OmegaConf

        swept: dict[str, bool] = {}
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            if override.key_or_group in ("hydra/launcher", "hydra/sweeper"):
                raise UserError(f"{override.key_or_group}: the runs of a sweep go one after another; leave it out")
            if override.key_or_group == "hydra.sweep.dir":
                self._folder = Path(str(override.value()))
            swept[override.get_key_element().lstrip("+~")] = override.is_sweep_override()  # the last one counts
        if "train.save_dir" in swept:
            raise UserError("train.save_dir: each run of a sweep has its own folder; use hydra.sweep.dir instead")
        if swept.get("exp_name"):
            raise UserError("exp_name: expected one value, which names the folder of the sweep; sweep other keys")
        self._fixed = frozenset(key for key in swept if not swept[key]) if any(swept.values()) else frozenset()
        OmegaConf.register_new_resolver("sweep_dir", self._default_folder, replace=True)
        OmegaConf.register_new_resolver("sweep_subdir", lambda task: folder_name(self._swept(task)), replace=True)
        return {
            "hydra.sweep.dir": "'${sweep_dir:${exp_name}}'",
            "hydra.sweep.subdir": "'${sweep_subdir:${hydra.overrides.task}}'",
        }

    def run(self, cfg: DictConfig, train_one: Callable[[DictConfig], Figures]) -> None:
        """Do one run of the sweep, or find that it is done; write its row.

        Parameters
        ----------
        cfg : DictConfig
            As hydra composed it.
        train_one : callable
            Takes the config, `train.save_dir` set to the run's folder.

        Raises
        ------
        TaskDone
            The whole sweep is to end: interrupted, or no table to be had. The reason has been printed.
        """
        exit_code = run_script(lambda: self._run(cfg, train_one))
        if exit_code != EXIT_OK:
            raise TaskDone(exit_code)

    def finish(self) -> int:
        """Print this command's part of the table, list what failed, and return the exit code.

        Raises
        ------
        UserError
            All runs failed for the same reason, a mistake in the input.
        """
        rows = list(self._rows.values())
        if self._folder is None or not rows:  # hydra was asked for nothing but the config
            return EXIT_OK
        shown = pd.DataFrame(rows).fillna("").drop(columns=["reason", "inputs"])
        for column, decimals in (("rmse", 2), ("r", 3)):
            shown[column] = [f"{float(value):.{decimals}f}" if value else "" for value in shown[column]]
        print(shown.to_string(index=False))
        print(f"wrote {self._folder / TABLE_NAME}")
        if {(row["exit_code"], row["reason"]) for row in rows} == {(str(EXIT_USER_ERROR), rows[0]["reason"])}:
            raise UserError(rows[0]["reason"])
        return report_failures([(row["folder"], row["reason"]) for row in rows if row["exit_code"] != str(EXIT_OK)])

    def close(self) -> None:
        """Remove what hydra leaves in the sweep's folder, and the folder where no run began."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / "multirun.yaml").unlink(missing_ok=True)
                self._folder.rmdir()

    def _default_folder(self, exp_name: object) -> str:
        self._folder = Path("checkpoints") / f"{exp_name}_sweep"
        return self._folder.as_posix()

    def _run(self, cfg: DictConfig, train_one: Callable[[DictConfig], Figures]) -> int:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf, open_dict

        chosen = HydraConfig.get()
        self._folder = Path(chosen.sweep.dir)
        table, folder = self._folder / TABLE_NAME, self._folder / chosen.sweep.subdir
        swept = self._swept(chosen.overrides.task)
        print(f"run {chosen.job.num + 1}: {' '.join(swept)} -> {folder}", flush=True)
        row = {
            **{key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in swept)},
            **dict.fromkeys(COLUMNS, ""),
            "figures": CROSS_VALIDATED if cfg.get("cv") is True else "",
            "folder": folder.as_posix(),
        }
        before = self._row_before(table, folder, row)
        if OmegaConf.is_dict(cfg.get("train")):  # else the run fails and says so
            with open_dict(cfg):
                cfg = cast("DictConfig", OmegaConf.merge(cfg, {"train": {"save_dir": folder.as_posix()}}))
        try:
            config = plain_config(cfg)
            row["inputs"] = inputs_of(config)
            if _is_done(before, row, folder):
                assert before is not None
                self._rows[row["folder"]] = {key: before.get(key, "") for key in row}
                print("done before, not run again")
                return EXIT_OK
            write_row(table, row | {"reason": "not finished"})
            found = train_one(cfg)
        except UserError as error:
            row |= {"exit_code": str(EXIT_USER_ERROR), "reason": str(error)}
        except Exception as error:  # noqa: BLE001  a defect in one run is no reason to give up the others
            traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            row |= {"exit_code": str(EXIT_PARTIAL), "reason": reason}
        else:
            r = "" if found.r is None else f"{found.r:.6f}"
            row |= {"figures": found.kind, "rmse": f"{found.rmse:.6f}", "r": r, "exit_code": str(EXIT_OK)}
        if row["reason"]:
            print(f"failed: {row['reason']}", flush=True)
            with suppress(OSError):  # hydra makes the folder; where nothing came of it, it goes
                folder.rmdir()
        write_row(table, row)
        self._rows[row["folder"]] = row
        return EXIT_OK

    def _swept(self, overrides: Iterable[str]) -> list[str]:
        """Those of a run's overrides that tell it from the others."""
        return [text for text in overrides if text.partition("=")[0].lstrip("+~") not in self._fixed]

    def _row_before(self, table: Path, folder: Path, row: Row) -> Row | None:
        """Row that this run has in the table already; refuses a folder that belongs to anybody else."""
        rows = read_rows(table)
        earlier = self._rows.get(row["folder"])
        if earlier is not None and any(earlier.get(key) != row[key] for key in row if key not in COLUMNS):
            raise UserError(
                f"hydra.sweep.subdir: {folder} is the folder of two runs; put all swept keys into it, or leave it out"
            )
        if any((folder / name).exists() for name in OUTPUTS) and not any(o["folder"] == row["folder"] for o in rows):
            raise UserError(
                f"{folder}: holds a checkpoint that is not in {table}; choose another hydra.sweep.dir, or move it away"
            )
        return next((other for other in rows if _run_of(other) == _run_of(row)), None)


def _run_of(row: Mapping[str, str]) -> tuple[str, bool]:
    return row["folder"], row["figures"] == CROSS_VALIDATED


def _is_done(before: Row | None, row: Row, folder: Path) -> bool:
    output = folder / OUTPUTS[row["figures"] == CROSS_VALIDATED]
    return (
        before is not None
        and before["exit_code"] == str(EXIT_OK)
        and before["inputs"] == row["inputs"]
        and output.is_file()
    )
