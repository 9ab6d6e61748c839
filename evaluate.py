"""Stage 6: scores and labelled metadata to RMSE, NCC, Kendall's tau and bias, with intervals, and a report.

python evaluate.py checkpoints/final/valid_inference.csv --metadata data/cadenza_data_valid/metadata/valid_metadata.json
python evaluate.py mine.csv --metadata valid_metadata.json --against theirs.csv --html report.html --figures figures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scow.cli import EXIT_OK, aligned, run_script
from scow.data.scores import SCALES, write_rows
from scow.evaluation.evaluate import (
    agreement_table,
    difference_line,
    error_table,
    evaluate,
    method_line,
    plain_line,
    published_table,
    systems_table,
)
from scow.io import check_outputs, figure_outputs, write_json


def main() -> int:
    """Parse the options, evaluate, print and write the figures."""
    parser = argparse.ArgumentParser(description="Stage 6: compare scores with labels.")
    parser.add_argument("scores", type=Path, help="CSV of signal ids and scores, with or without a header")
    parser.add_argument("--metadata", type=Path, required=True, metavar="PATH", help="labelled metadata JSON")
    parser.add_argument("--responses", type=Path, metavar="PATH", help="CLIP2's responses, joined to the metadata")
    parser.add_argument(
        "--against", type=Path, metavar="CSV", help="other scores: their figures, and the paired difference"
    )
    parser.add_argument(
        "--baseline-scores", type=Path, nargs="+", action="extend", default=[], metavar="PATH",
        help="folder or files [<dataset>.]<split>.<name>.jsonl of the challenge's baselines",
    )  # fmt: skip
    parser.add_argument("--train-metadata", type=Path, metavar="PATH", help="labels that the baselines are fitted to")
    parser.add_argument("--words", type=Path, metavar="CSV", help="word probabilities (default: <split>_words.csv)")
    parser.add_argument("--scale", choices=tuple(SCALES), help="of the scores (default: from the largest score)")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="number of resamples (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures as JSON")
    parser.add_argument("--csv", type=Path, metavar="PATH", help="write the error of each signal")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write the report")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="write the report's figures as PDF")
    options = vars(parser.parse_args())
    json_path, csv_path, html_path, figures_dir = (options.pop(name) for name in ("json", "csv", "html", "figures"))
    outputs = [(json_path, "figures", rb'\{.*"agreement"')] if json_path else []
    outputs += [(csv_path, "errors", b"signal,hearing_loss,predicted,")] if csv_path else []
    outputs += [(html_path, "a report", b"<!doctype html>")] if html_path else []
    outputs += figure_outputs(figures_dir)
    check_outputs(outputs, [path for path in options.values() if isinstance(path, Path)])

    found = evaluate(**options)
    figures = found.figures
    n_signals = figures["agreement"]["all"]["n_signals"]
    for note in figures["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(found.file)
    print(f"{figures['metadata']}: {n_signals} labelled signals; {method_line(figures)}\n")
    print(aligned(agreement_table(figures)))
    print(plain_line(figures))
    if found.words is not None:
        auc = "undefined" if figures["word_auc"] is None else f"{figures['word_auc']:.3f}"
        print(f"\n{found.words.attrs['path']}: area under the ROC curve of words {auc}")
    if figures["baselines"]:
        print(f"\nOn the same signals:\n\n{aligned(systems_table(figures))}")
    if figures["published"]:
        print(f"\nOfficial {figures['release'].upper()} results:\n\n{aligned(published_table(figures), longest=45)}")
    if line := difference_line(figures):
        print(f"\n{line}")
    print()
    if json_path:
        write_json(json_path, figures)
        print(f"wrote {json_path}")
    if csv_path:
        write_rows(csv_path, error_table(found.signals))
        print(f"wrote {csv_path}")
    if html_path or figures_dir:
        from scow.evaluation.report import report_plots, write_report
        from scow.reports.render import write_figures

        plots = report_plots(found)
        if html_path:
            write_report(html_path, found, plots)
            print(f"wrote {html_path}")
        if figures_dir:
            print(f"wrote {len(write_figures(figures_dir, plots))} figures to {figures_dir}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_script(main))
