"""A sweep: hydra's multirun of train.py, one folder per run, and one table.

hydra makes one run of each combination of values, one after another. A run that fails does not stop the others. The
table ``sweep.csv`` in the sweep's folder has a row per run: the swept values; figures (`Figures`), empty where the run
failed; exit code (0 done, 1 a defect, 2 a mistake in the input) and reason; folder. It is rewritten after each run.

A run is skipped where its folder has a model.pt of the same config that is newer than the tables and metadata.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from scow.cli import EXIT_OK, EXIT_PARTIAL, EXIT_USER_ERROR, aligned, report_failures
from scow.data.scores import write_rows
from scow.errors import UserError
from scow.hydra_cli import outcome_of, plain_config, swept_overrides
from scow.io import read_yaml
from scow.models.facts import read_facts
from scow.training.train import Figures, figures_of, train_config

TABLE = "sweep.csv"


def run_of_sweep(cfg: DictConfig, run: Callable[[DictConfig], Figures], rows: list[dict[str, str]]) -> None:
    """Do the run that hydra composed `cfg` for, in its own folder, add its row, and write the table."""
    chosen = HydraConfig.get()
    folder = Path(chosen.sweep.dir) / chosen.sweep.subdir
    swept = swept_overrides(chosen.sweep.dir, chosen.overrides.task)
    print(f"run {chosen.job.num + 1}: {' '.join(swept)} -> {folder}", flush=True)

    def body() -> Figures:
        OmegaConf.update(cfg, "train.save_dir", folder.as_posix())
        return _done_before(cfg, folder) or run(cfg)

    outcome = outcome_of(body)
    row = {"figures": "", "rmse": "", "r": "", "exit_code": str(EXIT_OK), "reason": "", "folder": folder.as_posix()}
    if isinstance(outcome, UserError):
        row |= {"exit_code": str(EXIT_USER_ERROR), "reason": " ".join(str(outcome).split())}
    elif isinstance(outcome, Exception):
        traceback.print_exception(outcome)
        reason = " ".join(f"{type(outcome).__name__}: {outcome}".split())
        row |= {"exit_code": str(EXIT_PARTIAL), "reason": reason}
    else:
        r = "" if outcome.r is None else f"{outcome.r:.6f}"
        row |= {"figures": outcome.kind, "rmse": f"{outcome.rmse:.6f}", "r": r}
    if row["reason"]:
        print(f"failed: {row['reason']}", flush=True)
    rows.append(dict(text.lstrip("+~").split("=", 1) for text in swept) | row)
    write_rows(folder.parent / TABLE, [list(rows[0]), *(list(row.values()) for row in rows)])


def report_sweep(rows: Sequence[dict[str, str]]) -> int:
    """Print the table, list the failed runs, and return the exit code."""
    columns = [column for column in rows[0] if column != "reason"]
    digits = {"rmse": 2, "r": 3}
    rounded = [row | {name: f"{float(row[name]):.{n}f}" for name, n in digits.items() if row[name]} for row in rows]
    print(aligned([columns, *([row[column] for column in columns] for row in rounded)], longest=100))
    print(f"wrote {Path(rows[0]['folder']).parent / TABLE}")
    return report_failures([(row["folder"], row["reason"]) for row in rows if row["reason"]], "runs failed")


def _done_before(cfg: DictConfig, folder: Path) -> Figures | None:
    """Figures of the checkpoint in `folder` if this run would make the same."""
    model, config = folder / "model.pt", folder / "config.yaml"
    if cfg.get("cv") or not (model.is_file() and config.is_file()):
        return None
    inputs = [*train_config(plain_config(cfg)).data.training_files, model]  # the config is saved after the model
    if any(not path.is_file() or path.stat().st_mtime_ns > config.stat().st_mtime_ns for path in inputs):
        return None
    with suppress(UserError, LookupError, TypeError):  # of damaged files, which are made again
        if read_yaml(config) == OmegaConf.to_container(cfg):
            done = figures_of(read_facts(model))
            print("done before, not run again")
            return done
    return None
