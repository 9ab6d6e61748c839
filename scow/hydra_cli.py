"""What train.py and infer.py share around hydra.

hydra calls the script's main once, or once for each run of a sweep. main passes its work to `outcome_of` and collects
the outcomes, because hydra prints an error that main raises at length; `run_hydra` then turns it into one line.

hydra itself reads no file: a config file can name Python code for it to call, and checkpoints come from other people.
`run_hydra` reads the file that ``-cp`` and ``-cn`` choose as data, and gives hydra the values.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra.conf import HydraConf, RunDir, SweepDir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scow.cli import EXIT_OK, run_script
from scow.config import plain_name, read_config
from scow.errors import UserError, expect

Result = TypeVar("Result")
MAX_RUNS = 10_000
chosen_config: list[Path] = []  # the file that hydra's values come from


def check_overrides(arguments: Sequence[str]) -> int:
    """Refuse a sweep whose command line moves the folder of a run, or of the sweep from run to run."""
    given = dict(text.partition("=")[::2] for text in arguments)
    if {"-m", "--multirun"} & given.keys() or given.get("hydra.mode") == "MULTIRUN":
        own = "hydra.sweep.dir, because each run of a sweep has its own folder"
        expect("train.save_dir" not in given, "command line", own, "train.save_dir")
        name = given.get("exp_name", "")
        expect("," not in name, "exp_name", "one name, for the folder of the sweep", name)
    return EXIT_OK


def run_hydra(main: Callable[[], None], outcomes: Sequence[object]) -> int:
    """Run a hydra main, raise the first error among the `outcomes` of its tasks, and return the exit code.

    A mistake in config or override is one line. hydra leaves no log files or output folders, and names the folder of a
    sweep's run after the swept values. The folder of the sweep is here for configs without a ``hydra:`` section.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra raises its errors instead of printing them
    sweep = SweepDir("checkpoints/${plain:${exp_name}}_sweep", "${swept:${hydra.sweep.dir},${hydra.overrides.task}}")
    quiet = HydraConf(run=RunDir("."), sweep=sweep, output_subdir=None)
    for group in quiet.defaults:
        group.update(dict.fromkeys(group.keys() & {"hydra_logging", "job_logging"}, "none"))
    ConfigStore.instance().store(group="hydra", name="config", node=quiet, provider="scow")
    OmegaConf.register_new_resolver(  # for hydra.sweep.subdir
        "swept", lambda *given: ",".join(sorted(swept_overrides(*given))).replace("/", "_"), replace=True
    )
    OmegaConf.register_new_resolver("plain", lambda name: plain_name(name, "exp_name"), replace=True)

    def body() -> int:
        try:
            ConfigStore.instance().store("config", read_config(_take_config_file(main)))
            _check_size_of_sweep()
            main()
        except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
            raise UserError(f"config or override: {' '.join(str(error).split())}") from error
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return EXIT_OK

    return run_script(body)


def _check_size_of_sweep() -> None:
    """Refuse a sweep of more runs than anyone wants: hydra lists them all before the first one."""
    texts = [text for text in sys.argv[1:] if "=" in text and not text.startswith("-")]
    n_runs = 1
    for override in OverridesParser.create().parse_overrides(texts):
        if override.is_sweep_override():
            value = override.value()
            values = value.range() if isinstance(value, RangeSweep) else override.sweep_iterator()
            n_runs *= sum(1 for _ in islice(values, MAX_RUNS + 1))
    expect(n_runs <= MAX_RUNS, "command line", f"a sweep of at most {MAX_RUNS} runs", "more")


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
    values = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))
    plain_name(values.get("exp_name", "none"), "exp_name")
    return values


def config_folder() -> Path:
    """Folder of the config.yaml that was read."""
    return chosen_config[-1].parent


def overridden_keys() -> list[str]:
    """Keys that the command line gives."""
    return [override.partition("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task]


def _take_config_file(main: Callable[[], None]) -> Path:
    """Take the options that choose a config file from the command line; a folder is relative to the script's."""
    parser = argparse.ArgumentParser(add_help=False, usage="see --help")
    parser.add_argument("--config-path", "-cp", type=Path, default=Path("checkpoints/final"))
    parser.add_argument("--config-name", "-cn", default="config")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--cfg", "-c")  # hydra's, so that it is not taken for one of the others
    given, rest = parser.parse_known_args()
    expect(given.config_dir is None, "--config-dir", "-cp, a checkpoint's folder", given.config_dir)
    sys.argv[1:] = [*rest, *(["--cfg", given.cfg] if given.cfg else [])]
    folder = Path(inspect.getfile(inspect.unwrap(main))).resolve().parent / given.config_path
    chosen_config.append(folder / f"{given.config_name.removesuffix('.yaml')}.yaml")
    return chosen_config[-1]


def swept_overrides(sweep_dir: str, overrides: Sequence[str]) -> list[str]:
    """Overrides of one run of a sweep that take several values in the sweep; all of them where none does."""
    texts = OmegaConf.load(Path(sweep_dir) / "multirun.yaml").hydra.overrides.task
    given = OverridesParser.create().parse_overrides(texts)
    swept = {override.get_key_element() for override in given if override.is_sweep_override()}
    return [text for text in overrides if text.partition("=")[0] in swept] or list(overrides)
