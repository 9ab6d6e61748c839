"""Stage 1: metadata JSON to one feature table per channel, one row per lyric word.

python metadata_to_csv.py --json data/cadenza_data_valid/metadata/valid_metadata.json
python metadata_to_csv.py --json train_metadata.json --responses answers.json   # CLIP2: labels in a second file

``<split>_responses.json`` beside ``<split>_metadata.json`` is joined without being named.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scow.cli import EXIT_OK, EXIT_PARTIAL, run_script
from scow.data.metadata import convert_metadata


def main() -> int:
    """Convert each file and report what was written."""
    parser = argparse.ArgumentParser(description="Stage 1: metadata JSON to one feature table per channel.")
    parser.add_argument("--json", type=Path, nargs="+", action="extend", required=True, metavar="PATH", help="metadata")
    parser.add_argument(
        "--responses", type=Path, metavar="PATH",
        help="CLIP2's responses, joined to the metadata (default: <split>_responses.json beside it)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace tables that already hold feature columns")
    options = parser.parse_args()
    several = len(options.json) > 1
    n_answered = 0
    for path in options.json:
        done = convert_metadata(path, responses=options.responses, optional=several, force=options.force)
        print(f"{path}: {done.n_signals} signals, {done.n_rows} rows per channel")
        print(f"  wrote {done.tables[0]} and {done.tables[1]}")
        print(f"  signals whose word count differs from n_words: {len(done.miscounted)}")
        for signal in done.miscounted:
            print(f"    {signal}")
        if done.responses and done.n_answered:
            print(f"  responses of {done.responses} joined: {done.n_answered} of {done.n_signals} signals")
        elif done.responses:
            print(f"note: {path}: no responses in {done.responses}; converted without", file=sys.stderr)
        n_answered += done.n_answered
    return EXIT_OK if n_answered or not options.responses else EXIT_PARTIAL


if __name__ == "__main__":
    sys.exit(run_script(main))
