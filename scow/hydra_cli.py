"""What train.py and infer.py share around hydra.

hydra calls the script's main once, or once for each run of a sweep. main passes its work to `outcome_of` and collects
the outcomes, because hydra prints an error that main raises at length; `run_hydra` then turns it into one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra.conf import HydraConf, RunDir, SweepDir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scow.cli import EXIT_OK, run_script
from scow.errors import UserError

Result = TypeVar("Result")


def run_hydra(main: Callable[[], None], outcomes: Sequence[object]) -> int:
    """Run a hydra main, raise the first error among the `outcomes` of its tasks, and return the exit code.

    A mistake in config or override is one line. hydra leaves no log files or output folders, and names the folder of a
    sweep's run after the swept values. The folder of the sweep is here for configs without a ``hydra:`` section.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra raises its errors instead of printing them
    sweep = SweepDir("checkpoints/${exp_name}_sweep", "${swept:${hydra.sweep.dir},${hydra.overrides.task}}")
    quiet = HydraConf(run=RunDir("."), sweep=sweep, output_subdir=None)
    for group in quiet.defaults:
        group.update(dict.fromkeys(group.keys() & {"hydra_logging", "job_logging"}, "none"))
    ConfigStore.instance().store(group="hydra", name="config", node=quiet, provider="scow")
    OmegaConf.register_new_resolver("swept", _folder_name, replace=True)  # for hydra.sweep.subdir

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
    """Result of a task, or the error that ended it."""
    try:
        return task()
    except OmegaConfBaseException as error:
        return UserError(f"config: {' '.join(str(error).split())}")
    except Exception as error:  # noqa: BLE001  reported by run_hydra, or in the table of a sweep
        return error


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain values, interpolations resolved."""
    return cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))


def config_folder(chosen: HydraConf) -> Path:
    """Folder of the config.yaml that hydra read."""
    return next(Path(source.path) for source in chosen.runtime.config_sources if source.provider == "main")


def swept_overrides(sweep_dir: str, overrides: Sequence[str]) -> list[str]:
    """Overrides of one run of a sweep that take several values in the sweep; all of them where none does."""
    texts = OmegaConf.load(Path(sweep_dir) / "multirun.yaml").hydra.overrides.task
    given = OverridesParser.create().parse_overrides(texts)
    swept = {override.get_key_element() for override in given if override.is_sweep_override()}
    return [text for text in overrides if text.partition("=")[0] in swept] or list(overrides)


def _folder_name(sweep_dir: str, overrides: Sequence[str]) -> str:
    return ",".join(sorted(swept_overrides(sweep_dir, overrides))).replace("/", "_")
