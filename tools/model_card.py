"""Write the model cards of checkpoints from the files of their cross-validation.

python train.py -cp checkpoints/final cv=true          # cross_validation.json
python tools/model_card.py --ablate checkpoints/final  # ablations.json: a cross-validation for each variant
python tools/model_card.py checkpoints/*               # calibration.svg and README.md, in seconds
"""

from __future__ import annotations

import argparse
import dataclasses
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
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, WHISPER_MILLIONS
from scow.errors import expect
from scow.features.dnsmos import Dnsmos
from scow.io import read_json, read_yaml, write_json
from scow.models.checkpoint import load_checkpoint
from scow.models.config import WordModelConfig, data_options
from scow.models.inputs import load_input
from scow.reports.plots import calibration
from scow.reports.render import figure_svg, render, write_text

SIGNALS = Path("data/cadenza_data_valid/valid/signals")
CLIP1_VALID = "6e25648e8b0174588d093f4067b0d979d5ef3ea7f19ec0ac49927b89ebb4fca5"  # fingerprint of its signals


def main() -> int:
    """Parse the options, write the cards."""
    parser = argparse.ArgumentParser(description="Write model cards.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="CHECKPOINT", help="for instance checkpoints/final")
    parser.add_argument("--ablate", action="store_true", help="first cross-validate variants of a word model")
    options = parser.parse_args()
    trained = [folder for folder in options.folders if (folder / "model.pt").is_file()]
    expect(trained, str(options.folders[0]), "a checkpoint with model.pt", "none")
    for folder in trained:
        cv = read_json(folder / "cross_validation.json", "figures of train.py cv=true")
        content = torch.load(folder / "model.pt", weights_only=True)
        ablations, is_word = folder / "ablations.json", content["model"]["name"] == "word"
        if options.ablate and is_word:
            write_json(ablations, {"ablations": ablate(folder, cv["rmse"]), "dnsmos_shift": dnsmos_shift(folder)})
        predicted, true = ([found[name] for found in cv["calibration"]] for name in ("predicted", "true"))
        figure = calibration(predicted, true, "mean predicted score (points)", "mean true score (points)", 100.0)
        write_text(folder / "calibration.svg", figure_svg(figure))
        whispers = [WHISPER_MILLIONS[column] for column in content["feature_cols"] if column in WHISPER_MILLIONS]
        share, facts = sum(whispers) / sum(WHISPER_MILLIONS.values()), content.get("facts", {})
        card = render(
            "model_card.md.j2",
            folder=folder,
            content=content,
            n_values=sum(tensor.numel() for tensor in content["state_dict"].values()),
            whispers={"n": len(whispers), "millions": sum(whispers), "share": share},
            data=data_options(read_yaml(folder / "config.yaml")["data"]),
            of_clip1=facts.get("trained_on") == CLIP1_VALID and not facts.get("features"),  # from published tables
            cv=cv,
            ablations=read_json(ablations, "ablations") if is_word and ablations.is_file() else None,
        )
        write_text(folder / "README.md", card)
        print(f"wrote {folder / 'README.md'}")
    return EXIT_OK


def ablate(folder: Path, rmse: float) -> list[dict[str, Any]]:
    """Cross-validate variants of a word model in the same folds."""
    columns = read_yaml(folder / "config.yaml")["data"]["feature_cols"]
    has_dnsmos = set(DNSMOS_COLUMNS) <= set(columns)
    other_dnsmos = [c for c in columns if c not in DNSMOS_COLUMNS] if has_dnsmos else [*columns, *DNSMOS_COLUMNS]
    variants = {
        "without hearing loss": "model.without=[hearing_loss]",
        "without the text prior": "model.without=[prior]",
        "without text (prior and word text)": "model.without=[prior,text]",
        "without knots": "model.without=[knots]",
        "with STOI, eSTOI and PESQ": f"data.feature_cols=[{','.join([*columns, *INTRUSIVE_COLUMNS])}]",
        "left channel only": "model.ear=left",
        "right channel only": "model.ear=right",
        f"{'without' if has_dnsmos else 'with'} DNSMOS": f"data.feature_cols=[{','.join(other_dnsmos)}]",
    }
    rows = []
    for variant, override in variants.items():
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "train.py", "-cp", str(folder), "cv=true", f"train.save_dir={scratch}", override]
            subprocess.run(command, check=True)
            found = read_json(Path(scratch) / "cross_validation.json", "figures")
        rows.append({"variant": variant, "rmse": found["rmse"], "r": found["r"], "difference": found["rmse"] - rmse})
    return rows


def dnsmos_shift(folder: Path) -> dict[str, Any] | None:
    """Largest change of a score when DNSMOS is computed here; None without DNSMOS or without signals on disk."""
    data = read_yaml(folder / "config.yaml")["data"]
    inputs = load_input(Path(data["valid_path_l"]), Path(data["valid_path_r"]), data["feature_cols"])
    here = [i for i, signal in enumerate(inputs.signals) if signal_file(SIGNALS, signal).is_file()]
    if not here or not set(DNSMOS_COLUMNS) <= set(data["feature_cols"]):
        return None
    some, dnsmos = inputs.take(torch.tensor(here)), Dnsmos()
    features = some.features.clone()
    for i, signal in enumerate(some.signals):
        stereo = read_stereo(signal_file(SIGNALS, signal))
        for channel, name in enumerate(CHANNELS):
            for column, value in dnsmos(stereo.channel(name)).items():
                features[i, channel, : some.n_rows[i], some.feature_cols.index(column)] = value
    model, _ = load_checkpoint(folder / "model.pt", WordModelConfig(), data["feature_cols"])
    published, computed = (model.predict(x).correctness for x in (some, dataclasses.replace(some, features=features)))
    return {"n_signals": len(here), "largest_shift_in_points": float(100 * np.abs(published - computed).max())}


if __name__ == "__main__":
    sys.exit(run_script(main))
