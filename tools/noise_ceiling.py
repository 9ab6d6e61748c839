"""How noisy one listener's correctness is, from labelled metadata: an upper bound of what can be predicted.

    python tools/noise_ceiling.py data/cadenza_data_valid/metadata/valid_metadata.json

Each excerpt is presented at three hearing losses, each to another listener. With the two-way model
``correctness = excerpt + hearing loss + rest`` (analysis of variance without replication), the standard deviation of
the rest is what remains when the part that the excerpt's listeners share, and the hearing loss, are known perfectly.
The rest also contains the interaction of excerpt and hearing loss, so that it is an upper bound of the noise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd


def main() -> None:
    """Print the standard deviation of the rest."""
    parser = argparse.ArgumentParser(description="Noise ceiling of labelled metadata.")
    parser.add_argument("metadata", type=Path)
    records = pd.DataFrame(json.loads(parser.parse_args().metadata.read_text(encoding="utf-8")))
    excerpts = records.pivot_table("correctness", index=["fma", "prompt"], columns="hearing_loss").dropna()
    scores = 100 * excerpts.to_numpy()
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    degrees_of_freedom = (scores.shape[0] - 1) * (scores.shape[1] - 1)
    deviation = np.sqrt((rest**2).sum() / degrees_of_freedom)
    print(f"{len(scores)} excerpts at {scores.shape[1]} hearing losses: rest {deviation:.1f} points")


if __name__ == "__main__":
    main()
