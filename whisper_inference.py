"""Stage 2: signals to word and sentence scores, one column per Whisper model.

python whisper_inference.py --config feature_config.yaml --splits=valid
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path


def main() -> int:
    """Parse the options, fill the columns, say what was written."""
    from scow.cli import listed, report_failures, say_unread
    from scow.data.audio import CHANNELS
    from scow.data.feature_config import present_datasets, read_feature_config
    from scow.features.runner import (
        configured_models,
        fill_whisper,
        named_models,
        status,
        unread_settings,
        whisper_options,
        write_transcripts,
    )
    from scow.features.stage_options import add_engine_options, engine_of, say_status

    parser = argparse.ArgumentParser(description="Stage 2: word and sentence scores of Whisper models.")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("feature_config.yaml"))
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="for instance train,valid,eval (default: config)")
    parser.add_argument("--channel", choices=CHANNELS, help="only this ear (default: both)")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="for instance valid_left valid_right")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="for instance tiny.en (default: config)")
    parser.add_argument("--model-dir", type=Path, help="folder of weights (default: config)")
    parser.add_argument("--device", help="auto, cpu or cuda (default: config)")
    parser.add_argument("--batch-size", type=int, metavar="SIGNALS", help="signals per batch (default: config)")
    add_engine_options(parser)
    parser.add_argument("--transcripts", type=Path, metavar="CSV", help="also write what was heard in this run")
    given = parser.parse_args()

    config = read_feature_config(given.config)
    say_unread(given.config, unread_settings(config))
    models = named_models(listed(given.models)) if given.models else configured_models(config)
    overrides = {name: getattr(given, name) for name in ("model_dir", "device", "batch_size")}
    options = dataclasses.replace(
        whisper_options(config), **{name: value for name, value in overrides.items() if value is not None}
    )
    names, splits = listed(given.datasets), listed(given.splits)
    datasets = present_datasets(
        config, names=names, splits=splits, channel=given.channel, default_splits=options.splits
    )
    if given.status:
        return say_status(status(datasets, [model.column for model in models]))
    engine = engine_of(given, options.jobs)
    result = fill_whisper(datasets, models, options, engine=engine, overwrite=given.overwrite)
    for done in result.filled:
        print(f"{done.path}: {', '.join(done.columns)}: {done.computed} signals computed, {done.present} were there")
    if given.transcripts:
        write_transcripts(given.transcripts, result)
        print(f"wrote {given.transcripts}")
    return report_failures([(failure.name, failure.reason) for failure in result.failures])


if __name__ == "__main__":
    # Imports happen inside, where Ctrl-C ends with one line from the first second on.
    from scow.cli import run_script

    sys.exit(run_script(main))
