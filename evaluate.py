"""Stage 6: scores and labelled metadata to RMSE, NCC, Kendall's tau and bias, with intervals, and a report.

python evaluate.py checkpoints/final/valid_inference.csv --metadata data/cadenza_data_valid/metadata/valid_metadata.json
python evaluate.py mine.csv --metadata valid_metadata.json --against theirs.csv --html report.html
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scow.cli import EXIT_OK, aligned, run_script
from scow.data.scores import SCALES
from scow.evaluation.evaluate import EvaluationOptions, evaluate, write_evaluation
from scow.evaluation.report import write_report
from scow.evaluation.text import (
    AGREEMENT_HEADER,
    COMPARISON_HEADER,
    OWN_HEADER,
    agreement_rows,
    difference_line,
    method_line,
    own_rows,
    published_rows,
)


def main() -> int:
    """Parse the options, evaluate, print and write what was found."""
    parser = argparse.ArgumentParser(description="Stage 6: scores against what listeners wrote down.")
    parser.add_argument("scores", type=Path, help="CSV of signal ids and scores, with or without a header")
    parser.add_argument("--metadata", type=Path, required=True, metavar="PATH", help="labelled metadata JSON")
    parser.add_argument("--responses", type=Path, metavar="PATH", help="CLIP2's responses, joined to the metadata")
    parser.add_argument("--against", type=Path, metavar="CSV", help="other scores, for the paired difference")
    parser.add_argument(
        "--baseline-scores", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
        help="folder or files <split>.<name>.jsonl of the challenge's baselines",
    )  # fmt: skip
    parser.add_argument("--train-metadata", type=Path, metavar="PATH", help="labels that the baselines are fitted to")
    parser.add_argument("--words", type=Path, metavar="CSV", help="word probabilities; default: beside the scores")
    parser.add_argument("--scale", choices=tuple(SCALES), help="of the scores; default: told by the largest one")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="number of resamples (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write the report")
    given = parser.parse_args()
    options = EvaluationOptions(
        scores=given.scores,
        metadata=given.metadata,
        responses=given.responses,
        against=given.against,
        words=given.words,
        baseline_scores=tuple(given.baseline_scores),
        train_metadata=given.train_metadata,
        scale=given.scale,
        seed=given.seed,
        resamples=given.resamples,
    )
    found = evaluate(options)
    print(found.file)
    print(f"{options.metadata}: {len(found.records)} labelled signals; {method_line(found)}\n")
    print(aligned([AGREEMENT_HEADER, *agreement_rows(found)]))
    if found.words is not None:
        auc = "undefined" if found.words.auc is None else f"{found.words.auc:.3f}"
        print(f"\n{found.words.path}: area under the ROC curve of words {auc}")
    if found.baselines:
        print("\nOn the same signals:\n")
        print(aligned([OWN_HEADER, *own_rows(found)]))
    print("\nOfficial CLIP1 results:\n")
    print(aligned([COMPARISON_HEADER, *published_rows()], longest=45))
    if (line := difference_line(found)) is not None:
        print(f"\n{line}")
    print()
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if given.json is not None:
        write_evaluation(given.json, found)
        print(f"wrote {given.json}")
    if given.html is not None:
        write_report(given.html, found)
        print(f"wrote {given.html}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_script(main))
