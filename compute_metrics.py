"""Stage 3: signals and unprocessed files to STOI, eSTOI, PESQ and DNSMOS columns.

python compute_metrics.py --config feature_config.yaml --splits=valid
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path


def main() -> int:
    """Parse the options, fill the columns, print what was written."""
    from scow.cli import add_engine_options, engine_options, listed, say_unread

    parser = argparse.ArgumentParser(description="Stage 3: STOI, eSTOI, PESQ and DNSMOS.")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("feature_config.yaml"))
    parser.add_argument("--quality", action="store_true", help="only STOI, eSTOI and PESQ")
    parser.add_argument("--dns", action="store_true", help="only DNSMOS")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="for instance valid_left valid_right")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="for instance train,valid,eval")
    add_engine_options(parser)
    given = parser.parse_args()

    # Not before --help, which they would keep waiting.
    from scow.data.feature_config import present_datasets, read_feature_config
    from scow.features import runner

    config = read_feature_config(given.config)
    say_unread(given.config, config.unknown)
    options = config.metric_options()
    if given.quality or given.dns:
        options = dataclasses.replace(options, quality=given.quality, dns=given.dns)
    datasets = present_datasets(
        config, names=listed(given.datasets), splits=listed(given.splits), default_names=options.default_datasets
    )
    if given.status:
        return runner.print_status(datasets, runner.metric_columns(options))
    engine = engine_options(given, options.jobs)
    return runner.print_result(runner.fill_metrics(datasets, options, engine=engine, overwrite=given.overwrite))


if __name__ == "__main__":
    # Imports happen inside, where Ctrl-C ends with one line from the first second on.
    from scow.cli import run_script

    sys.exit(run_script(main))
