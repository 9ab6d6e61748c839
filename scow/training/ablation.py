"""Ablations: what a model loses without an input, as the rules of CLIP2 ask for.

``ablation=all`` of train.py does the whole config, without each of `PARTS`, and without all of them;
``ablation=[audio2,audio2+severity]`` does the whole config and what is named. Each variant

1. is cross-validated in the same folds, so that the difference in RMSE to the whole config is paired; its 95 % interval
   comes from resampling groups (`scow.metrics`);
2. is trained, in a folder of its own that infer.py -cp takes;
3. predicts the splits of ``infer.splits`` that are there, with the files of ``infer.submission``.

``ablation.csv`` and ``ablation.md``, with a paragraph for the report, are in the config's folder. Without `lyrics`
there is no text prior, and the word model knows nothing of the words but their number; Whisper's scores are still of
the lyric words. The transformer reads no lyrics but by them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.errors import expect
from scow.metrics import Estimate, bootstrap_estimates, rmse
from scow.training.cross_validation import CrossValidation

PARTS = {  # -> columns to leave out of data.feature_cols, and blocks to add to model.without
    "audio2": (INTRUSIVE_COLUMNS, ()),
    "severity": ((), ("hearing_loss",)),
    "lyrics": ((), ("prior", "text")),
}
WHOLE = "full"
HEADER = ("variant", "rmse", "r", "difference", "low", "high", "n_features", "n_parameters", "whisper_millions")


@dataclasses.dataclass(frozen=True)
class Variant:
    """A trained and cross-validated variant."""

    name: str
    result: CrossValidation
    facts: Mapping[str, Any]
    columns: Sequence[str]
    seconds: float  # of training, cross-validation included


def variant_configs(config: Mapping[str, Any], named: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The config of each variant by name; a name is parts with ``+`` between them."""
    is_word = config["model"].get("name") == "word"
    parts_of_model = [part for part in PARTS if is_word or part != "lyrics"]
    names = [*parts_of_model, "+".join(parts_of_model)] if "all" in named else list(named)
    folder = Path(str(config["train"]["save_dir"]))
    configs = {}
    for name in (WHOLE, *dict.fromkeys(names)):
        parts = [] if name == WHOLE else name.split("+")
        unknown = ", ".join(sorted(set(parts) - PARTS.keys()))
        expect(not unknown, "ablation", f"all, or parts of {', '.join(PARTS)} with + between them", unknown)
        values = copy.deepcopy(dict(config)) | {"ablation": []}
        columns = {column for part in parts for column in PARTS[part][0]}
        blocks = [block for part in parts for block in PARTS[part][1]]
        values["data"]["feature_cols"] = [c for c in values["data"]["feature_cols"] if c not in columns]
        if blocks:
            values["model"]["without"] = [*values["model"].get("without", []), *blocks]
        values["train"]["save_dir"] = (folder / (name if name == WHOLE else f"without_{name}")).as_posix()
        configs[name] = values
    return configs


def differences(variants: Sequence[Variant]) -> list[Estimate]:
    """RMSE of each variant minus that of the first, mean over repeats, on the same resamples of groups."""
    first = variants[0].result
    n_repeats = len(first.scores)

    def difference(*arrays: np.ndarray) -> float:
        *scores, truth = arrays
        errors = [rmse(row, truth) for row in scores]
        return float(np.mean(errors[n_repeats:])) - float(np.mean(errors[:n_repeats]))

    data = [[*first.scores, *of.result.scores, first.truth] for of in variants]
    found = [bootstrap_estimates({"": difference}, of, first.groups, np.random.default_rng(0)) for of in data]
    return [of[""] for of in found]


def ablation_rows(variants: Sequence[Variant]) -> list[list[str]]:
    """The table, the header first; numbers as text."""
    rows = [list(HEADER)]
    for of, found in zip(variants, differences(variants), strict=True):
        values = (of.result.rmse, of.result.r, found.value, found.low, found.high)
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        size = [str(len(of.columns)), str(of.facts["n_parameters"]), f"{of.facts['whisper_millions']:.1f}"]
        rows.append([of.name if of.name == WHOLE else f"without {of.name}", *cells, *size])
    return rows


def report(variants: Sequence[Variant], rows: Sequence[Sequence[str]], grouped_by: str) -> str:
    """The table in Markdown, and a paragraph on models, parameters and compute."""
    title = "# Ablations\n\nRMSE and r out of fold; difference in RMSE to the first row, with its 95 % interval.\n\n"
    head, *lines = ("| " + " | ".join(row) + " |" for row in rows)
    whole, result = variants[0], variants[0].result
    models = [f"Whisper {column}" for column in whole.columns if column in WHISPER_COLUMNS]
    models += ["DNSMOS"] if set(DNSMOS_COLUMNS) & set(whole.columns) else []
    metrics = [column.upper() for column in whole.columns if column in INTRUSIVE_COLUMNS]
    words = "" if "kept_epochs" in whole.facts else "Word frequencies: the package wordfreq. "  # not of transformers
    paragraph = (
        f"Pretrained models, not fine-tuned: {', '.join(models)}; the Whisper models have "
        f"{whole.facts['whisper_millions']:.0f} million parameters. Metrics of Audio1 and Audio2: "
        f"{', '.join(metrics) or 'none'}. {words}"
        f"The model that was fitted to their outputs has {whole.facts['n_parameters']:,} values. It was trained on "
        f"{whole.facts['n_signals']} signals in {whole.seconds:.0f} s, with {len(result.scores)} repeats of "
        f"{int(result.folds.max()) + 1} folds by {grouped_by}."
    )
    return "\n".join([title + head, "|---" * len(HEADER) + "|", *lines]) + f"\n\n{paragraph}\n"
