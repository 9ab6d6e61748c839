"""Write a checkpoint's model card from files that commands wrote.

    python train.py -cp checkpoints/final cv=true     # cross_validation.json
    python tools/model_card.py checkpoints/final      # ablations.json, calibration.svg, README.md

The figures of the card are those of ``cross_validation.json``; the ablations are cross-validated here, in the same
folds, and kept in ``ablations.json`` (``--keep-ablations`` takes them from there).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scow.cli import EXIT_OK, run_script
from scow.data.audio import CHANNELS, read_stereo
from scow.data.metadata import signal_file
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.errors import UserError
from scow.features.dnsmos import Dnsmos
from scow.io import atomic_write, read_yaml
from scow.models.checkpoint import Checkpoint, load_checkpoint
from scow.models.config import WordModelConfig
from scow.models.inputs import load_input
from scow.reports.charts import Axis, calibration, standalone
from scow.training.train import TrainConfig, cross_validation, train_config

SIGNALS = Path("data/cadenza_data_valid/valid/signals")
# Width, layers of the encoder and of the decoder, mel bands of each Whisper model (Radford et al., table 1).
SIZES = {
    "tiny": (384, 4, 4, 80),
    "base": (512, 6, 6, 80),
    "small": (768, 12, 12, 80),
    "medium": (1024, 24, 24, 80),
    "large": (1280, 32, 32, 80),
    "large-v2": (1280, 32, 32, 80),
    "large-v3": (1280, 32, 32, 128),
    "large-v3-turbo": (1280, 32, 4, 128),
}


def main() -> int:
    """Parse the options, write the cards."""
    parser = argparse.ArgumentParser(description="Write model cards.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="CHECKPOINT", help="for instance checkpoints/final")
    parser.add_argument("--keep-ablations", action="store_true", help="take ablations.json as it is")
    options = parser.parse_args()
    for folder in options.folders:
        write_card(folder, keep_ablations=options.keep_ablations)
        print(f"wrote {folder / 'README.md'}")
    return EXIT_OK


def write_card(folder: Path, *, keep_ablations: bool) -> None:
    """Write README.md, calibration.svg and, for a word model, ablations.json of one checkpoint.

    Raises
    ------
    UserError
        The cross-validated figures, the checkpoint or its tables are missing.
    """
    figures_path = folder / "cross_validation.json"
    if not figures_path.is_file():
        raise UserError(f"expected {figures_path}, found none; write it with: python train.py -cp {folder} cv=true")
    figures = json.loads(figures_path.read_text(encoding="utf-8"))
    plain = read_yaml(folder / "config.yaml")
    plain["train"]["save_dir"] = str(folder)
    config = train_config(plain)
    checkpoint = load_checkpoint(folder / "model.pt", config.model, config.data.feature_cols)
    ablations: dict[str, Any] = {}
    if checkpoint.model.predicts_words:
        path = folder / "ablations.json"
        if keep_ablations and path.is_file():
            ablations = json.loads(path.read_text(encoding="utf-8"))
        else:
            ablations = {"ablations": ablate(config, figures), "dnsmos_shift": dnsmos_shift(config, checkpoint)}
            _write(path, json.dumps(ablations, indent=2) + "\n")
    _write(folder / "calibration.svg", calibration_plot(figures["calibration"]))
    _write(folder / "README.md", card(folder, checkpoint, figures, ablations))


def ablate(config: TrainConfig, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Cross-validate variants of a word model in the folds of the figures."""
    options, columns = config.model, config.data.feature_cols
    assert isinstance(options, WordModelConfig)
    dnsmos = any(column in DNSMOS_COLUMNS for column in columns)
    variants: dict[str, tuple[WordModelConfig, tuple[str, ...]]] = {
        "without severity (the prior keeps it)": (dataclasses.replace(options, without=("hearing_loss",)), columns),
        "without the text prior": (dataclasses.replace(options, without=("prior",)), columns),
        "without text (prior and word text)": (dataclasses.replace(options, without=("prior", "text")), columns),
        "without hinges": (dataclasses.replace(options, without=("knots",)), columns),
        "with STOI, eSTOI and PESQ": (options, (*columns, *INTRUSIVE_COLUMNS)),
        "left ear only": (dataclasses.replace(options, ear="left"), columns),
        "right ear only": (dataclasses.replace(options, ear="right"), columns),
    }
    if dnsmos:
        fewer = tuple(column for column in columns if column not in DNSMOS_COLUMNS)
        variants["without DNSMOS"] = (options, fewer)
    else:
        variants["with DNSMOS"] = (options, (*columns, *DNSMOS_COLUMNS))
    rows = []
    for name, (model, feature_cols) in variants.items():
        data = dataclasses.replace(config.data, feature_cols=feature_cols)
        result, _ = cross_validation(dataclasses.replace(config, model=model, data=data))
        rows.append({"variant": name, "rmse": result.rmse, "r": result.r, "difference": result.rmse - figures["rmse"]})
        print(f"{name}: {result}", flush=True)
    return rows


def dnsmos_shift(config: TrainConfig, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """How far scores move when DNSMOS is computed here instead of taken from the published tables.

    None where the model takes no DNSMOS, or no signal of the tables is on disk.
    """
    if not any(column in DNSMOS_COLUMNS for column in checkpoint.model.feature_cols):
        return None
    batch = load_input(*config.data.tables["valid"], checkpoint.model.feature_cols)
    here = [i for i, signal in enumerate(batch.signals) if signal_file(SIGNALS, signal).is_file()]
    if not here:
        return None
    some = batch.take(torch.tensor(here))
    features = some.features.clone()
    dnsmos = Dnsmos()
    for i, signal in enumerate(some.signals):
        stereo = read_stereo(signal_file(SIGNALS, signal))
        for ear, name in enumerate(CHANNELS):
            for column, value in dnsmos(stereo.channel(name)).items():
                features[i, ear, : some.n_rows[i], some.feature_cols.index(column)] = value
    published = checkpoint.model.predict(some).correctness
    computed = checkpoint.model.predict(dataclasses.replace(some, features=features)).correctness
    return {"n_signals": len(here), "largest_shift_in_points": float(100 * np.abs(published - computed).max())}


def whisper_parameters(column: str) -> int:
    """Parameters of the Whisper model of a column, counted on a model without memory."""
    from whisper.model import AudioEncoder, TextDecoder

    width, encoder, decoder, mels = SIZES[column.removesuffix(".en")]
    words = 51_864 if column.endswith(".en") else 51_866 if mels == 128 else 51_865
    with torch.device("meta"):
        parts = (
            AudioEncoder(mels, 1500, width, width // 64, encoder),
            TextDecoder(words, 448, width, width // 64, decoder),
        )
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def card(folder: Path, checkpoint: Checkpoint, figures: dict[str, Any], ablations: dict[str, Any]) -> str:
    """The model card as Markdown."""
    whispers = [column for column in checkpoint.model.feature_cols if column in WHISPER_COLUMNS]
    parameters = sum(whisper_parameters(column) for column in whispers)
    share = parameters / sum(whisper_parameters(column) for column in WHISPER_COLUMNS)
    word = checkpoint.model.predicts_words
    own = sum(tensor.numel() for tensor in checkpoint.model.state_dict().values())
    lines = [
        f"# Model card: {folder.name}",
        "",
        f"{'The word model (`scow/models/word_model.py`)' if word else 'The published network (`scow/models/transformer.py`)'}. Predicts "
        "the share of an excerpt's words (0-100) that one listener writes down, at no, mild or moderate hearing loss.",
        "",
        "| | |",
        "|---|---|",
        f"| features | {', '.join(checkpoint.model.feature_cols)} |",
        f"| Whisper models needed | {len(whispers)}, with {parameters / 1e6:.0f} million parameters "
        f"({100 * share:.0f} % of all twelve) |",
        f"| values of its own | {own:,} |",
        f"| trained on | {figures['n_signals']} signals: the labelled valid split of the Cadenza CLIP1 challenge, with "
        "the published feature tables |",
    ]
    if word:
        lines.append(
            "| text prior | word-level logistic regression on the prompts and responses of the challenge's 8,802 train "
            "signals; no audio of them |"
        )
    else:
        facts = checkpoint.facts
        lines.append(
            "| recipe | loss, split, optimiser and selection as published, with batches of 128 (published: 1024, for "
            "7.5 times the signals) |"
        )
        if "kept_epochs" in facts:
            lines.append(f"| epoch kept | {facts['kept_epochs'][0]}, validation RMSE {facts['val_rmse'][0]:.2f} |")
    lines += [
        f"| to train it again | `python train.py -cp {folder}` |",
        "",
        "## How well it predicts tracks that it has not seen",
        "",
        f"Cross-validated on the {figures['n_signals']} signals, {figures['folds']} folds grouped by "
        f"{figures['grouped_by']}, {len(figures['repeats'])} repeats (seeds {figures['seeds'][0]} to "
        f"{figures['seeds'][-1]}); points of 0-100. `python train.py -cp {folder} cv=true` writes these figures to "
        "`cross_validation.json`.",
        "",
        "| | RMSE | r |",
        "|---|---|---|",
        f"| **all** | **{figures['rmse']:.2f}** ± {figures['rmse_standard_error']:.2f} | **{figures['r']:.3f}** |",
    ]
    lines += [f"| repeat {i} | {r['rmse']:.2f} | {r['r']:.3f} |" for i, r in enumerate(figures["repeats"], start=1)]
    lines += [f"| {name} | {f['rmse']:.2f} | {f['r']:.3f} |" for name, f in figures["by_severity"].items()]
    lines += ["", "± is the standard error from resampling whole tracks (1,000 bootstrap samples).", ""]
    if word:
        coverage = figures["coverage_of_80_percent_intervals"]
        lines += [
            f"Words: area under the ROC curve {figures['word_auc']:.3f}. Intervals for one listener's score at 80 %: "
            + ", ".join(f"{100 * value:.1f} % inside ({name})" for name, value in coverage.items())
            + ".",
            "",
        ]
    lines += ["![Calibration: mean true score against mean predicted score, in tenths](calibration.svg)", ""]
    if ablations:
        lines += _ablation_lines(folder, ablations)
    lines += [
        "## Limits",
        "",
        "- One listener per signal: the target is noisy, and no prediction comes near an RMSE of 0 (docs/NOISE.md).",
        "- Recipe and features were chosen in cross-validation on these same signals; expect a little less on others.",
        "- English lyrics, CLIP1 excerpts, the challenge's hearing-loss simulator.",
        f"- `python infer.py -cp {folder}` on the valid split is an in-sample figure, and says so.",
        "",
    ]
    return "\n".join(lines)


def calibration_plot(bins: list[dict[str, float]]) -> str:
    """Mean true against mean predicted score, as an SVG file."""
    predicted, true = ([b[name] for b in bins] for name in ("predicted", "true"))
    chart = calibration(
        predicted,
        true,
        [int(b["n"]) for b in bins],
        title="Calibration in tenths of the signals",
        description="; ".join(f"predicted {b['predicted']:.0f}, true {b['true']:.0f}" for b in bins),
        x_axis=Axis(0.0, 100.0, "mean predicted score (points)"),
        y_axis=Axis(0.0, 100.0, "mean true score (points)"),
    )
    return standalone(chart)


def _ablation_lines(folder: Path, ablations: dict[str, Any]) -> list[str]:
    lines = [
        "## What carries it",
        "",
        f"The same folds, with one thing changed (`python tools/model_card.py {folder}`, `ablations.json`):",
        "",
        "| variant | RMSE | r | difference in RMSE |",
        "|---|---|---|---|",
        *[
            f"| {a['variant']} | {a['rmse']:.2f} | {a['r']:.3f} | {a['difference'] + 0.0:+.2f} |"
            for a in ablations["ablations"]
        ],
        "",
    ]
    shift = ablations.get("dnsmos_shift")
    if shift:
        lines += [
            "The published DNSMOS columns differ a little from what the published code computes on the same excerpts. "
            f"Where DNSMOS is computed here instead, scores move by at most {shift['largest_shift_in_points']:.2f} "
            f"points (measured on {shift['n_signals']} real signals).",
            "",
        ]
    return lines


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_script(main))
