"""Stage 2: signals to word and sentence scores, one column per Whisper model.

python whisper_inference.py --config feature_config.yaml --splits=valid
python whisper_inference.py --splits=valid --pseudo-prompt large-v3    # tables for prediction without lyrics
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path


def main() -> int:
    """Parse the options, fill the columns, print what was written."""
    from scow.cli import EXIT_OK, add_engine_options, engine_options, listed, say_unread

    parser = argparse.ArgumentParser(description="Stage 2: word and sentence scores of Whisper models.")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("feature_config.yaml"))
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="for instance train,valid,eval (default: config)")
    parser.add_argument("--channel", choices=("left", "right"), help="only this channel (default: both)")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="for instance valid_left valid_right")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="for instance tiny.en (default: config)")
    parser.add_argument("--model-dir", type=Path, help="folder of weights (default: config)")
    parser.add_argument("--device", help="auto, cpu or cuda (default: config)")
    parser.add_argument("--pseudo-prompt", metavar="NAME", help="without lyrics: of this model's transcripts instead")
    parser.add_argument("--batch-size", type=int, metavar="SIGNALS", help="signals per chunk (default: config)")
    parser.add_argument("--embeddings", action="store_true", default=None, help="also means of the encoder, as NPZ")
    add_engine_options(parser)
    parser.add_argument("--transcripts", type=Path, metavar="CSV", help="also write the transcripts of this run")
    given = parser.parse_args()

    # Not before --help, which they would keep waiting.
    from scow.data.feature_config import present_datasets, read_feature_config, without_prompt
    from scow.features import runner
    from scow.io import check_outputs

    config = read_feature_config(given.config)
    say_unread(given.config, config.unknown)
    models = runner.named_models(listed(given.models)) if given.models else runner.configured_models(config)
    overrides = {name: getattr(given, name) for name in ("model_dir", "device", "batch_size", "embeddings")}
    options = dataclasses.replace(
        config.whisper_options(), **{name: value for name, value in overrides.items() if value is not None}
    )
    names, splits = listed(given.datasets), listed(given.splits)
    datasets = present_datasets(
        config, names=names, splits=splits, channel=given.channel, default_splits=options.splits
    )
    name = given.pseudo_prompt or runner.reference_model(config)
    targets = [without_prompt(dataset) for dataset in datasets] if name else datasets
    if given.status:
        there = [dataset for dataset in targets if dataset.csv_path.exists()]
        return runner.print_status(there, [model.column for model in models])
    if given.transcripts:
        tables = [dataset.csv_path for dataset in (*datasets, *targets)]
        check_outputs([(given.transcripts, "transcripts", b"signal,table,model,transcript")], [given.config, *tables])
    engine = engine_options(given, options.jobs)
    exit_code = EXIT_OK
    if name:
        (reference,) = runner.named_models([name])
        models = tuple(model for model in models if model.column != reference.column)
        result = runner.write_pseudo_prompts(datasets, reference, options, engine=engine, overwrite=given.overwrite)
        exit_code = runner.print_result(result)
        targets = [dataset for dataset in targets if dataset.csv_path.exists()]
    if targets and models:
        result = runner.fill_whisper(
            targets, models, options, engine=engine, overwrite=given.overwrite, transcripts=given.transcripts
        )
        exit_code = max(exit_code, runner.print_result(result))
    if given.transcripts:
        print(f"wrote {given.transcripts}")
    return exit_code


if __name__ == "__main__":
    # Imports happen inside, where Ctrl-C ends with one line from the first second on.
    from scow.cli import run_script

    sys.exit(run_script(main))
