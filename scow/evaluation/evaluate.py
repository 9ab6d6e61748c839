"""Stage 6: scores against labels, with intervals, beside other scores.

1. Every labelled signal must have a score. Scores of signals without a label, or that the metadata lack, are noted and
   left out.
2. RMSE, NCC, Kendall's tau-b and bias (`scow.metrics`) of all labelled signals and for each hearing loss. Standard
   errors and 95 % intervals come from resampling tracks, or prompts where some track is unknown.
3. The same resamples serve all statistics, so that the difference between two files is paired.
4. Baselines are fitted to train labels and scored on the same signals (`scow.evaluation.baselines`).
5. Word probabilities, if there are any, against the words of the response: area under the ROC curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.data.metadata import read_metadata
from scow.data.scores import ScoreFile, read_rows, read_scores
from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError
from scow.evaluation.baselines import baseline_predictions, find_baselines, read_baseline_scores
from scow.evaluation.clip1_results import CLIP1_RESULTS
from scow.metrics import Estimate, bias, bootstrap_estimates, kendall, pearson, rmse, roc_auc
from scow.text.labels import word_labels
from scow.text.normalize import prompt_words

MEASURES = {"rmse": rmse, "ncc": pearson, "tau": kendall, "bias": bias}
WORD_COLUMNS = ["signal", "position", "word", "probability"]
Statistics = Mapping[str, Callable[..., "float | None"]]
Table = list[tuple[str, ...]]  # rows of text, the first is the header


@dataclass(frozen=True)
class Evaluation:
    """Scores, labels and how well they agree."""

    file: ScoreFile
    signals: pd.DataFrame  # labelled signals; columns of SignalRecord, group, predicted and true in points of 0-100
    words: pd.DataFrame | None  # columns signal, word, probability, label (NaN where the response is unknown), group
    figures: dict[str, Any]  # what --json writes, with an `Estimate` for each statistic


def evaluate(
    scores: Path,
    metadata: Path,
    *,
    responses: Path | None = None,
    against: Path | None = None,
    words: Path | None = None,
    baseline_scores: Sequence[Path] = (),
    train_metadata: Path | None = None,
    scale: str | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Evaluation:
    """Compare a file of scores with labelled metadata; the parameters are the options of evaluate.py."""
    if resamples < 2 or seed < 0:
        raise UserError(f"expected --resamples of at least 2 and --seed of at least 0, found {resamples} and {seed}")
    if baseline_scores and train_metadata is None:
        raise UserError("--baseline-scores: expected --train-metadata too, the labels to fit the baselines to")
    file = read_scores(scores, scale)
    everything = pd.DataFrame([asdict(record) for record in read_metadata(metadata, responses)])
    signals, notes = _labelled(file, everything, metadata)
    grouped_by = "track" if signals["track"].all() else "prompt"
    signals["group"] = signals["track" if grouped_by == "track" else "prompt"]
    n_groups = signals["group"].nunique()
    if n_groups < 2:
        notes.append(f"all signals are of one {grouped_by}, so that the errors and intervals below mean nothing")

    estimate = estimator(signals["group"], seed, resamples)
    masks = {"all": np.ones(len(signals), dtype=bool)}
    masks |= {name: (signals["hearing_loss"] == name).to_numpy() for name in HEARING_LOSSES}
    agreement = {
        name: {"n_signals": int(mask.sum()), **estimate(MEASURES, signals["predicted"], signals["true"], where=mask)}
        for name, mask in masks.items()
        if mask.any()
    }
    other = None if against is None else read_scores(against, scale)
    if other is not None and not signals["signal"].isin(other.scores).all():
        lacking = (~signals["signal"].isin(other.scores)).sum()
        notes.append(f"{other.path} lacks {lacking} of the signals; the difference is on the others")
    notes += [
        f"the checkpoint beside {path} was trained on just these signals: the figures flatter it; "
        "python train.py cv=true says how it does on others"
        for path in (scores, against)
        if path is not None and _trained_on(path.parent / "model.pt", everything["signal"].tolist())
    ]
    word_table, word_auc, more = _words(words, scores, signals, metadata)
    figures = {
        "scores": str(scores),
        "scale": file.scale,
        "header": file.header,
        "metadata": str(metadata),
        "grouped_by": grouped_by,
        "n_groups": n_groups,
        "interval": 0.95,
        "seed": seed,
        "resamples": resamples,
        "agreement": agreement,
        "against": None if other is None else _difference(other, signals, seed, resamples),
        "baselines": _baselines(baseline_scores, train_metadata, signals, estimate),
        "published": [result._asdict() for result in CLIP1_RESULTS],
        "word_auc": word_auc,
        "notes": notes + more,
    }
    return Evaluation(file, signals, word_table, figures)


def estimator(groups: pd.Series, seed: int, n_resamples: int) -> Callable[..., dict[str, Estimate]]:
    """A function ``estimate(statistics, *data, where=None)`` with the same resamples of the groups at each call."""

    def estimate(statistics: Statistics, *data: Any, where: np.ndarray | None = None) -> dict[str, Estimate]:
        return bootstrap_estimates(statistics, data, groups, np.random.default_rng(seed), n_resamples, where)

    return estimate


def _labelled(file: ScoreFile, everything: pd.DataFrame, metadata: Path) -> tuple[pd.DataFrame, list[str]]:
    """The labelled signals with their scores, and notes on what is left out."""
    signals = everything[everything["correctness"].notna()].reset_index(drop=True)
    if signals.empty:
        raise UserError(
            f"{metadata}: expected signals with correctness, found none; use a labelled split, or --responses"
        )
    signals["predicted"] = signals["signal"].map(file.scores)
    signals["true"] = signals["correctness"] * 100
    missing = signals.loc[signals["predicted"].isna(), "signal"].tolist()
    if missing:
        raise UserError(
            f"{file.path}: expected a score for each of {len(signals)} labelled signals of {metadata}, found "
            f"none for {len(missing)}, for instance {missing[0]}; run infer.py on this split"
        )
    notes = []
    unknown = sorted(file.scores.keys() - set(everything["signal"]))
    if unknown:
        notes.append(f"{len(unknown)} scores are of signals that the metadata lacks, for instance {unknown[0]}")
    if len(signals) < len(everything):
        n_left_out = len(everything) - len(signals)
        notes.append(f"{n_left_out} of {len(everything)} signals have no label and are left out")
    return signals, notes


def _difference(other: ScoreFile, signals: pd.DataFrame, seed: int, resamples: int) -> dict[str, Any]:
    """RMSE and NCC minus those of the other file, on the same resamples of the signals that both score."""
    common = signals[signals["signal"].isin(other.scores)]
    if common.empty:
        raise UserError(f"{other.path}: expected scores of the same signals, found none of them; check --against")
    estimate = estimator(common["group"], seed, resamples)
    ours, theirs, true = common["predicted"], common["signal"].map(other.scores), common["true"]

    def ncc(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> float | None:
        one, two = pearson(a, t), pearson(b, t)
        return None if one is None or two is None else one - two

    return {
        "path": str(other.path),
        "n_signals": len(common),
        **estimate(
            {"theirs": lambda _, b, t: rmse(b, t), "rmse": lambda a, b, t: rmse(a, t) - rmse(b, t), "ncc": ncc},
            ours,
            theirs,
            true,
        ),
    }


def _baselines(
    paths: Sequence[Path],
    train_metadata: Path | None,
    signals: pd.DataFrame,
    estimate: Callable[..., dict[str, Estimate]],
) -> list[dict[str, Any]]:
    if not paths or train_metadata is None:
        return []
    labels = {record.signal: record.correctness for record in read_metadata(train_metadata)}
    found = []
    for name, (train, rest) in find_baselines(paths).items():
        train_scores, scores = read_baseline_scores(train), read_baseline_scores(rest)
        missing = [signal for signal in signals["signal"] if signal not in scores]
        if missing:
            raise UserError(
                f"{rest}: expected a score for each labelled signal, found none for {len(missing)}, for instance "
                f"{missing[0]}; check --baseline-scores"
            )
        predicted = signals["signal"].map(baseline_predictions(train_scores, labels, scores))
        n_train = sum(not math.isnan(labels.get(signal, math.nan)) for signal in train_scores)
        estimates = estimate({"rmse": rmse, "ncc": pearson}, predicted, signals["true"])
        found.append({"name": name, "n_train": n_train, **estimates})
    return found


def _words(
    path: Path | None, scores: Path, signals: pd.DataFrame, metadata: Path
) -> tuple[pd.DataFrame | None, float | None, list[str]]:
    """Word probabilities with labels, their AUC, and notes; a file that was found, not named, may be of other words."""
    beside = scores.with_name(f"{scores.stem.removesuffix('_inference')}_words.csv")
    if path is None and (beside == scores or not beside.is_file()):
        return None, None, []
    try:
        words = _read_words(path or beside, signals)
    except UserError as error:
        if path is not None:
            raise
        return None, None, [f"words are left out: {error}"]
    if not signals["response"].any():
        return None, None, [f"words are left out: {metadata} has no responses to compare them with"]
    words["label"] = [
        label
        for prompt, response, correctness in zip(
            signals["prompt"], signals["response"], signals["correctness"], strict=True
        )
        for label in (
            word_labels(prompt_words(prompt), response)
            if response or correctness == 0
            else [math.nan] * len(prompt_words(prompt))
        )
    ]
    words["group"] = words["signal"].map(dict(zip(signals["signal"], signals["group"], strict=True)))
    known = words.dropna(subset="label")
    auc = roc_auc(known["probability"], known["label"]) if (known["label"] > 0.5).nunique() == 2 else None
    words.attrs["path"] = path or beside
    return words, auc, []


def _read_words(path: Path, signals: pd.DataFrame) -> pd.DataFrame:
    """Probabilities of all words of these signals, in the order of the signals."""
    rows = read_rows(path, f"a CSV file with the columns {', '.join(WORD_COLUMNS)}")
    if rows[0] != WORD_COLUMNS:
        raise UserError(f"{path}: expected the columns {', '.join(WORD_COLUMNS)}, found {', '.join(rows[0])}")
    found = {tuple(row[:3]): row[3] for row in rows[1:] if len(row) == len(WORD_COLUMNS)}
    expected = [
        (signal, str(position), word)
        for signal, prompt in zip(signals["signal"], signals["prompt"], strict=True)
        for position, word in enumerate(prompt_words(prompt))
    ]
    words = pd.DataFrame(expected, columns=WORD_COLUMNS[:3])
    words["probability"] = pd.to_numeric(pd.Series([found.get(key) for key in expected]), errors="coerce")
    bad = words[~words["probability"].between(0.0, 1.0)]
    if len(bad):
        signal, position, word, _ = bad.iloc[0]
        raise UserError(
            f"{path}: expected a probability in 0 to 1 of word {position}, {word!r}, of signal {signal}, found "
            f"{found.get((signal, position, word), 'none')}; write the file again with infer.details=true"
        )
    return words


def _trained_on(model: Path, signals: Sequence[str]) -> bool:
    """Whether a checkpoint was trained on just these signals; False where it is missing or does not tell."""
    if not model.is_file():
        return False
    from scow.models.checkpoint import checkpoint_facts, fingerprint  # torch, which nothing else here needs

    return checkpoint_facts(model).get("trained_on") == fingerprint(signals)


# Figures as text, for the terminal and the report.


def agreement_table(figures: dict[str, Any]) -> Table:
    """All measures of all signals and for each hearing loss."""
    rows: Table = [("", "signals", "RMSE ± s.e.", "95 %", "NCC", "95 %", "tau-b", "95 %", "bias", "95 %")]
    for name, found in figures["agreement"].items():
        rmse, ncc, tau, bias = (found[key] for key in MEASURES)
        rows.append(
            (name, str(found["n_signals"]), with_error(rmse, 2), interval(rmse, 2), number(ncc.value, 3),
             interval(ncc, 3), number(tau.value, 3), interval(tau, 3), number(bias.value, 2, sign=True),
             interval(bias, 2, sign=True))
        )  # fmt: skip
    return rows


def systems_table(figures: dict[str, Any]) -> Table:
    """The file and the recomputed baselines, on the same signals."""
    everything = figures["agreement"]["all"]
    systems = [(short(figures["scores"]), everything["rmse"], everything["ncc"])]
    systems += [(baseline_name(found), found["rmse"], found["ncc"]) for found in figures["baselines"]]
    n = str(everything["n_signals"])
    return [
        ("scores", "signals", "RMSE ± s.e.", "95 %", "NCC", "95 %"),
        *((name, n, with_error(e, 2), interval(e, 2), number(r.value, 3), interval(r, 3)) for name, e, r in systems),
    ]


def published_table() -> Table:
    """The official CLIP1 results."""
    header = ("system", "valid RMSE", "eval RMSE", "eval NCC", "inputs")
    return [header, *((name, f"{v:.2f}", f"{e:.2f}", f"{r:.2f}", inputs) for name, v, e, r, inputs in CLIP1_RESULTS)]


def method_line(figures: dict[str, Any]) -> str:
    """How errors and intervals were computed."""
    n, what = figures["n_groups"], figures["grouped_by"]
    return f"errors and 95 % intervals: {figures['resamples']} resamples of {n} {what}s, seed {figures['seed']}"


def difference_line(figures: dict[str, Any]) -> str | None:
    """The paired difference in a sentence; None without another file."""
    found = figures["against"]
    if found is None:
        return None
    low, high = found["rmse"].low, found["rmse"].high
    if low is None:
        verdict = "no interval can be given"
    elif high < 0:
        verdict = "the interval speaks for this file"
    elif low > 0:
        verdict = "the interval speaks for the other file"
    else:
        verdict = "the interval holds 0: the data do not tell which is better"
    rmse, ncc = (
        f"{number(found[key].value, digits, sign=True)} ({interval(found[key], digits, sign=True)})"
        for key, digits in (("rmse", 2), ("ncc", 3))
    )
    files = f"{short(figures['scores'])} minus {short(found['path'])}"
    return f"{files} on {found['n_signals']} common signals: RMSE {rmse}, NCC {ncc}; {verdict}"


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """A number, or a dash where it is undefined."""
    if value is None:
        return "-"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text if float(text) else text.lstrip("+-")


def interval(estimate: Estimate, digits: int, *, sign: bool = False) -> str:
    """The interval, or a dash."""
    if estimate.low is None:
        return "-"
    return f"{number(estimate.low, digits, sign=sign)} to {number(estimate.high, digits, sign=sign)}"


def with_error(estimate: Estimate, digits: int, *, sign: bool = False) -> str:
    """A number and, where known, its standard error."""
    text = number(estimate.value, digits, sign=sign)
    return text if estimate.error is None else f"{text} ± {estimate.error:.{digits}f}"


def baseline_name(baseline: dict[str, Any]) -> str:
    """The name of a recomputed baseline."""
    return f"{baseline['name']} baseline, recomputed"


def short(path: str) -> str:
    """A file with its folder, which tells checkpoints apart."""
    return "/".join(Path(path).parts[-2:])
