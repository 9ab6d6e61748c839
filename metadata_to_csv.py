"""Stage 1: metadata JSON to one feature table per ear, one row per lyric word.

python metadata_to_csv.py --json data/cadenza_data_valid/metadata/valid_metadata.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scow.cli import EXIT_OK, run_script
from scow.corpus import convert_metadata


def main() -> int:
    """Parse the options, convert each file, say what was written."""
    parser = argparse.ArgumentParser(description="Stage 1: metadata JSON to one feature table per ear.")
    parser.add_argument("--json", type=Path, nargs="+", action="extend", required=True, metavar="PATH", help="metadata")
    parser.add_argument("--force", action="store_true", help="replace tables that already hold feature columns")
    options = parser.parse_args()
    for path in options.json:
        done = convert_metadata(path, force=options.force)
        print(f"{path}: {done.n_signals} signals, {done.n_rows} rows per ear")
        print(f"  wrote {done.tables[0]} and {done.tables[1]}")
        print(f"  signals whose word count differs from n_words: {len(done.miscounted)}")
        for signal in done.miscounted:
            print(f"    {signal}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_script(main))
