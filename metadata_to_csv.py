"""Stage 1: metadata JSON to one feature table per channel, one row per lyric word.

python metadata_to_csv.py --json data/cadenza_data_valid/metadata/valid_metadata.json
python metadata_to_csv.py --json train_metadata.json --responses train_responses.json   # CLIP2: labels in a second file
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scow.cli import EXIT_OK, run_script
from scow.data.metadata import convert_metadata


def main() -> int:
    """Convert each file and report what was written."""
    parser = argparse.ArgumentParser(description="Stage 1: metadata JSON to one feature table per channel.")
    parser.add_argument("--json", type=Path, nargs="+", action="extend", required=True, metavar="PATH", help="metadata")
    parser.add_argument("--responses", type=Path, metavar="PATH", help="CLIP2's responses, joined to the metadata")
    parser.add_argument("--force", action="store_true", help="replace tables that already hold feature columns")
    options = parser.parse_args()
    for path in options.json:
        done = convert_metadata(path, responses=options.responses, force=options.force)
        print(f"{path}: {done.n_signals} signals, {done.n_rows} rows per channel")
        print(f"  wrote {done.tables[0]} and {done.tables[1]}")
        print(f"  signals whose word count differs from n_words: {len(done.miscounted)}")
        for signal in done.miscounted:
            print(f"    {signal}")
        if options.responses:
            print(f"  responses joined: {done.n_answered} of {done.n_signals} signals")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_script(main))
