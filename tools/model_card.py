"""Write the model cards of checkpoints from the files of their cross-validation.

python train.py -cp checkpoints/final cv=true          # cross_validation.json
python tools/model_card.py --ablate checkpoints/final  # ablations.json: a cross-validation for each variant
python tools/model_card.py checkpoints/*               # calibration.svg and README.md, in seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scow.cli import EXIT_OK, run_script
from scow.data.audio import CHANNELS, read_stereo
from scow.data.metadata import signal_file
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.features.dnsmos import Dnsmos
from scow.io import read_yaml, write_json
from scow.models.checkpoint import load_checkpoint
from scow.models.config import WordModelConfig
from scow.models.inputs import load_input
from scow.reports.plots import calibration
from scow.reports.render import figure_svg, render, write_text

SIGNALS = Path("data/cadenza_data_valid/valid/signals")
# Parameters of the Whisper models of WHISPER_COLUMNS.
PARAMETERS = dict(
    zip(
        WHISPER_COLUMNS,
        (37_184_640, 37_184_256, 71_825_920, 71_825_408, 240_582_912, 240_582_144, 762_321_920, 762_320_896,
         1_541_384_960, 1_541_384_960, 1_541_570_560, 806_958_080),
        strict=True,
    )
)  # fmt: skip


def main() -> int:
    """Parse the options, write the cards."""
    parser = argparse.ArgumentParser(description="Write model cards.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="CHECKPOINT", help="for instance checkpoints/final")
    parser.add_argument("--ablate", action="store_true", help="first cross-validate variants of a word model")
    options = parser.parse_args()
    for folder in options.folders:
        cv, content = read_json(folder / "cross_validation.json"), torch.load(folder / "model.pt", weights_only=True)
        if options.ablate and content["model"]["name"] == "word":
            found = {"ablations": ablate(folder, cv["rmse"]), "dnsmos_shift": dnsmos_shift(folder)}
            write_json(folder / "ablations.json", found)
        predicted, true = ([found[name] for found in cv["calibration"]] for name in ("predicted", "true"))
        figure = calibration(predicted, true, "mean predicted score (points)", "mean true score (points)")
        write_text(folder / "calibration.svg", figure_svg(figure))
        write_text(folder / "README.md", card(folder, cv, content))
        print(f"wrote {folder / 'README.md'}")
    return EXIT_OK


def card(folder: Path, cv: dict[str, Any], content: dict[str, Any]) -> str:
    """The model card as Markdown, from cross_validation.json and the content of model.pt."""
    whispers = [PARAMETERS[column] for column in content["feature_cols"] if column in PARAMETERS]
    facts, ablations = content["facts"], folder / "ablations.json"
    return render(
        "model_card.md.j2",
        name=folder.name,
        folder=folder,
        is_word=content["model"]["name"] == "word",
        feature_cols=content["feature_cols"],
        n_whisper=len(whispers),
        million_parameters=round(sum(whispers) / 1e6),
        percent_parameters=round(100 * sum(whispers) / sum(PARAMETERS.values())),
        n_values=sum(tensor.numel() for tensor in content["state_dict"].values()),
        best_epoch=facts.get("best_epoch") or facts.get("kept_epochs", [None])[0],
        val_rmse=np.ravel(facts.get("val_rmse", [0.0]))[0],
        cv=cv,
        by_hearing_loss=cv.get("by_hearing_loss") or cv["by_severity"],
        ablations=read_json(ablations) if ablations.is_file() else None,
    )


def ablate(folder: Path, rmse: float) -> list[dict[str, Any]]:
    """Cross-validate variants of a word model in the same folds."""
    columns = read_yaml(folder / "config.yaml")["data"]["feature_cols"]
    with_intrusive = [*columns, *INTRUSIVE_COLUMNS]
    has_dnsmos = set(DNSMOS_COLUMNS) <= set(columns)
    other_dnsmos = [c for c in columns if c not in DNSMOS_COLUMNS] if has_dnsmos else [*columns, *DNSMOS_COLUMNS]
    variants = {
        "without hearing loss (the prior keeps it)": "model.without=[hearing_loss]",
        "without the text prior": "model.without=[prior]",
        "without text (prior and word text)": "model.without=[prior,text]",
        "without knots": "model.without=[knots]",
        "with STOI, eSTOI and PESQ": f"data.feature_cols=[{','.join(with_intrusive)}]",
        "left channel only": "model.ear=left",
        "right channel only": "model.ear=right",
        f"{'without' if has_dnsmos else 'with'} DNSMOS": f"data.feature_cols=[{','.join(other_dnsmos)}]",
    }
    rows = []
    for variant, override in variants.items():
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "train.py", "-cp", str(folder), "cv=true", f"train.save_dir={scratch}", override]
            subprocess.run(command, check=True)
            found = read_json(Path(scratch) / "cross_validation.json")
        rows.append({"variant": variant, **{k: found[k] for k in ("rmse", "r")}, "difference": found["rmse"] - rmse})
    return rows


def dnsmos_shift(folder: Path) -> dict[str, Any] | None:
    """Largest change of a score when DNSMOS is computed here; None without DNSMOS or without signals on disk."""
    data = read_yaml(folder / "config.yaml")["data"]
    inputs = load_input(Path(data["valid_path_l"]), Path(data["valid_path_r"]), data["feature_cols"])
    here = [i for i, signal in enumerate(inputs.signals) if signal_file(SIGNALS, signal).is_file()]
    if not here or not set(DNSMOS_COLUMNS) <= set(data["feature_cols"]):
        return None
    some = inputs.take(torch.tensor(here))
    features, dnsmos = some.features.clone(), Dnsmos()
    for i, signal in enumerate(some.signals):
        stereo = read_stereo(signal_file(SIGNALS, signal))
        for channel, name in enumerate(CHANNELS):
            for column, value in dnsmos(stereo.channel(name)).items():
                features[i, channel, : some.n_rows[i], some.feature_cols.index(column)] = value
    model = load_checkpoint(folder / "model.pt", WordModelConfig(), data["feature_cols"]).model
    change = [model.predict(x).correctness for x in (some, dataclasses.replace(some, features=features))]
    return {"n_signals": len(here), "largest_shift_in_points": float(100 * np.abs(change[0] - change[1]).max())}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file whose top level is an object."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(run_script(main))
