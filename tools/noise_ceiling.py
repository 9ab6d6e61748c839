"""How far a prediction would be from one listener's answer if it knew what listeners share.

    python tools/noise_ceiling.py data/cadenza_data_train/metadata/train_metadata.json

Each excerpt is heard at three severities, each by another listener. With the two-way model
``correctness = excerpt + severity + rest`` (analysis of variance without replication), the standard deviation of the
rest is what remains when the part that the excerpt's listeners share, and the severity, are known perfectly. The rest
also holds what a severity does to one excerpt more than to another, so that it is an upper bound of the noise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow lies beside tools/ and need not be installed

import numpy as np

from scow.cli import EXIT_OK, run_script
from scow.data.metadata import read_metadata
from scow.data.tables import HEARING_LOSSES


def main() -> int:
    """Parse the options, print the figure."""
    parser = argparse.ArgumentParser(description="Noise ceiling of labelled metadata.")
    parser.add_argument("metadata", type=Path)
    records = read_metadata(parser.parse_args().metadata)
    excerpts: dict[tuple[str, str], dict[str, float]] = {}
    for record in records:
        excerpts.setdefault((record.track, record.prompt), {})[record.hearing_loss] = 100 * record.correctness
    whole = [excerpt for excerpt in excerpts.values() if len(excerpt) == len(HEARING_LOSSES)]
    scores = np.array([[excerpt[name] for name in HEARING_LOSSES] for excerpt in whole])
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    freedom = (scores.shape[0] - 1) * (scores.shape[1] - 1)
    deviation = np.sqrt((rest**2).sum() / freedom)
    print(f"{len(whole)} excerpts at {scores.shape[1]} severities: rest {deviation:.1f} points")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_script(main))
