"""Stage 5: feature tables and a checkpoint to one score per signal.

python infer.py                              # the shipped checkpoint, splits valid and eval
python infer.py infer.splits=[eval]          # one split
python infer.py -cp checkpoints/lite         # another checkpoint
python infer.py infer.tables=[mine_l.csv,mine_r.csv]   # your own tables; mine_inference.csv is written beside them
python infer.py infer.details=true           # also words, and intervals for one listener's score
python infer.py infer.submission.track=clip2 infer.submission.team=T001    # also the file for the challenge's form
"""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from scow.hydra_cli import config_folder, outcome_of, overridden_keys, plain_config, run_hydra

outcomes: list[Exception | None] = []


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(cfg: DictConfig) -> None:
    """Run the stage on the composed config."""
    outcomes.append(outcome_of(lambda: run(cfg)))


def run(cfg: DictConfig) -> None:
    """Predict each split and print how well."""
    from scow.inference import infer, infer_config  # here: --help need not wait for torch

    done, missing = infer(infer_config(plain_config(cfg), config_folder(), overridden_keys()))
    for split in done:
        score = f"{len(split.scores)} signals, no labels" if split.agreement is None else str(split.agreement)
        print(f"{split.split}: {score} -> {split.path}")
        for path in split.details:
            print(f"  words and intervals -> {path}")
        if split.form is not None:
            print(f"  submission: every signal of the metadata once, scores in 0-100; e-mail form -> {split.form}")
            print(f"  leaderboard -> {split.path}")
        for note in split.notes:
            print(f"note: {note}", file=sys.stderr)
        if split.trained_on:
            print("  note: this checkpoint was trained on these signals; its model card says how it does on new ones")
    for line in missing:
        print(f"skipped: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_hydra(main, outcomes))
