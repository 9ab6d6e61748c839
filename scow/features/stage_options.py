"""What the command lines of stages 2 and 3 have in common: where to compute, and how far the work is."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from scow.cli import EXIT_OK, listed
from scow.errors import UserError
from scow.features.pool import Engine
from scow.features.runner import ColumnStatus


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options of a feature stage that say where to compute, and whether at all."""
    parser.add_argument("--jobs", type=int, metavar="N", help="processes of this machine (default: config, else 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, for instance tcp://host:8786")
    parser.add_argument("--resources", nargs="+", metavar="NAME=N", help="what a worker must offer, for instance GPU=1")
    parser.add_argument("--overwrite", action="store_true", help="compute again what is there")
    parser.add_argument("--status", action="store_true", help="say how far each column is, and compute nothing")


def engine_of(given: argparse.Namespace, jobs: int) -> Engine:
    """Where to compute: what the options of `add_engine_options` say, else `jobs` processes.

    Raises
    ------
    UserError
    """
    resources: dict[str, float] = {}
    for text in listed(given.resources):
        name, _, number = text.partition("=")
        try:
            resources[name] = float(number)
            if not (name and 0 < resources[name] < math.inf):
                raise ValueError
        except ValueError:
            raise UserError(f"--resources: expected NAME=NUMBER, as GPU=1, found {text!r}; mend the option") from None
    of_config = jobs if given.scheduler is None else 1
    engine = Engine(of_config if given.jobs is None else given.jobs, given.scheduler, resources)
    engine.validate()
    return engine


def say_status(rows: Sequence[ColumnStatus]) -> int:
    """Print how far each column of each table is, in signals."""
    print("table,column,done,kept,failed,missing")
    for row in rows:
        print(f"{row.path},{row.column},{row.done},{row.kept},{row.failed},{row.missing}")
    return EXIT_OK
