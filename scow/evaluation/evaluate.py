"""Stage 6: scores against labels, with intervals, beside other scores.

1. Every labelled signal must have a score. Scores of signals without a label, or that the metadata lack, are noted and
   left out.
2. RMSE, NCC, Kendall's tau-b and bias (`scow.metrics`) of all labelled signals and for each hearing loss. Standard
   errors and 95 % intervals come from resampling tracks, or prompts where some track is unknown.
3. The same resamples serve all statistics, so that the difference between two files is paired.
4. Mean absolute error and Spearman's rank correlation are given without intervals.
5. Baselines are fitted to train labels and scored on the same signals (`scow.evaluation.baselines`). Official results
   are those of the release that all records are of, none where that is unknown.
6. Word probabilities, if there are any, against the words of the response: area under the ROC curve.
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
from scow.data.scores import CV_SCORES, ScoreFile, read_rows, read_scores
from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError, expect
from scow.evaluation.official_results import OFFICIAL_RESULTS
from scow.metrics import Estimate, bias, bootstrap_estimates, kendall, pearson, rmse, roc_auc
from scow.models.facts import is_trained_on, read_facts
from scow.text.labels import word_labels
from scow.text.normalize import prompt_words

MAX_RESAMPLES = 100_000
MEASURES = {"rmse": rmse, "ncc": pearson, "tau": kendall, "bias": bias}
WORD_COLUMNS = ["signal", "position", "word", "probability"]
Statistics = Mapping[str, Callable[..., "float | None"]]
Estimator = Callable[..., dict[str, Estimate]]
Table = list[tuple[str, ...]]  # rows of text, the first is the header


@dataclass(frozen=True)
class Evaluation:
    """Scores, labels and how well they agree."""

    file: ScoreFile
    signals: pd.DataFrame  # labelled signals: fields of SignalRecord, words, group, predicted and true (0-100)
    words: pd.DataFrame | None  # columns signal, group, position, word, label (NaN where unknown), probability
    figures: dict[str, Any]  # what --json writes, with an `Estimate` for each statistic

    @property
    def split(self) -> str:
        """The split by the name of the metadata: valid, eval, or another."""
        return Path(self.figures["metadata"]).stem.removesuffix("_metadata")


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
    expect(2 <= resamples <= MAX_RESAMPLES, "--resamples", f"2 to {MAX_RESAMPLES}", resamples)
    expect(0 <= seed < 2**63, "--seed", "0 or a positive number of at most 64 bits", seed)
    expect(train_metadata or not baseline_scores, "--baseline-scores", "--train-metadata too, to fit them to", "none")
    file = read_scores(scores, scale)
    everything = pd.DataFrame([asdict(record) for record in read_metadata(metadata, responses)])
    signals, notes = _labelled(file, everything, metadata)
    grouped_by = "track" if signals["track"].all() else "prompt"
    signals["group"] = signals[grouped_by]
    if signals["group"].nunique() < 2:
        notes.append(f"all signals are of one {grouped_by}, so that the errors and intervals below mean nothing")

    estimate = estimator(signals["group"], seed, resamples)
    masks = {"all": np.ones(len(signals), dtype=bool)}
    masks |= {name: (signals["hearing_loss"] == name).to_numpy() for name in HEARING_LOSSES}
    agreement = {
        name: {"n_signals": int(mask.sum()), **estimate(MEASURES, signals["predicted"], signals["true"], where=mask)}
        | _plain_measures(signals[mask])
        for name, mask in masks.items()
        if mask.any()
    }
    releases = set(everything["release"])
    release = releases.pop() if len(releases) == 1 else ""
    difference, more = _difference(against, scale, signals, seed, resamples)
    notes += more
    in_sample = [
        f"the checkpoint beside {path} was trained on just these signals: the figures flatter it; "
        "python train.py cv=true says how it does on others"
        for path in (scores, against)
        if path is not None
        and path.name != CV_SCORES
        and is_trained_on(read_facts(path.parent / "model.pt"), everything["signal"])
    ]
    word_table, more = _words(words, scores, signals, metadata)
    known = None if word_table is None else word_table.dropna(subset="label")
    figures = {
        "scores": str(scores),
        "scale": file.scale,
        "header": file.header,
        "metadata": str(metadata),
        "grouped_by": grouped_by,
        "n_groups": signals["group"].nunique(),
        "interval": 0.95,
        "seed": seed,
        "resamples": resamples,
        "agreement": agreement,
        "against": difference,
        "baselines": _baselines(baseline_scores, train_metadata, signals, estimate),
        "release": release,  # clip1, clip2, or empty where it is unknown
        "published": OFFICIAL_RESULTS.get(release, []),
        "word_auc": None if known is None or known.empty else roc_auc(known["probability"], known["label"]),
        "notes": in_sample + notes + more,
    }
    return Evaluation(file, signals, word_table, figures)


def estimator(groups: pd.Series, seed: int, n_resamples: int) -> Estimator:
    """A function ``estimate(statistics, *data, where=None)`` with the same resamples of the groups at each call."""

    def estimate(statistics: Statistics, *data: Any, where: np.ndarray | None = None) -> dict[str, Estimate]:
        return bootstrap_estimates(statistics, data, groups, np.random.default_rng(seed), n_resamples, where)

    return estimate


def _plain_measures(signals: pd.DataFrame) -> dict[str, Estimate]:
    """Mean absolute error in points, and Spearman's rank correlation, without intervals."""
    predicted, true = signals["predicted"], signals["true"]
    mae, spearman = float((predicted - true).abs().mean()), pearson(predicted.rank(), true.rank())
    return {"mae": Estimate(mae), "spearman": Estimate(spearman)}


def _labelled(file: ScoreFile, everything: pd.DataFrame, metadata: Path) -> tuple[pd.DataFrame, list[str]]:
    """The labelled signals with their scores, and notes on what is left out."""
    signals = everything[everything["correctness"].notna()].reset_index(drop=True)
    expect(len(signals), metadata, "signals with correctness", "none; use a labelled split, or --responses")
    signals["predicted"] = signals["signal"].map(file.scores)
    signals["true"] = signals["correctness"] * 100
    signals["words"] = signals["prompt"].map(prompt_words)
    _expect_all(signals["signal"], file.scores, file.path)
    notes = []
    unknown = sorted(file.scores.keys() - set(everything["signal"]))
    if unknown:
        notes.append(f"{len(unknown)} scores are of signals that the metadata lacks, for instance {unknown[0]}")
    if len(signals) < len(everything):
        n_left_out = len(everything) - len(signals)
        notes.append(f"{n_left_out} of {len(everything)} signals have no label and are left out")
    return signals, notes


def _expect_all(signals: pd.Series, scores: Mapping[str, float], path: Path) -> None:
    missing = signals[~signals.isin(list(scores))].tolist()
    found = f"none for {len(missing)}, for instance {', '.join(missing[:1])}; is it the same split?"
    expect(not missing, path, f"a score for each of {len(signals)} labelled signals", found)


def _difference(
    path: Path | None, scale: str | None, signals: pd.DataFrame, seed: int, resamples: int
) -> tuple[dict[str, Any] | None, list[str]]:
    """RMSE and NCC minus those of another file, on the same resamples of the signals in both, and notes."""
    if path is None:
        return None, []
    other = read_scores(path, scale).scores
    common = signals[signals["signal"].isin(other)]
    expect(len(common), f"--against {path}", "scores of the same signals", "none of them")
    lacking = len(signals) - len(common)
    notes = [f"{path} lacks {lacking} of the signals; the difference is on the others"] if lacking else []

    def ncc(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> float | None:
        one, two = pearson(a, t), pearson(b, t)
        return None if one is None or two is None else one - two

    statistics: Statistics = {
        "theirs": lambda _, b, t: rmse(b, t),
        "their_ncc": lambda _, b, t: pearson(b, t),
        "rmse": lambda a, b, t: rmse(a, t) - rmse(b, t),
        "ncc": ncc,
    }
    estimate = estimator(common["group"], seed, resamples)
    found = estimate(statistics, common["predicted"], common["signal"].map(other), common["true"])
    return {"path": str(path), "n_signals": len(common), **found}, notes


def _baselines(
    paths: Sequence[Path], train_metadata: Path | None, signals: pd.DataFrame, estimate: Estimator
) -> list[dict[str, Any]]:
    if not paths or train_metadata is None:
        return []
    from scow.evaluation import baselines  # here: scipy, which nothing else needs

    labels = {record.signal: record.correctness for record in read_metadata(train_metadata)}
    found = []
    for name, (train, rest) in baselines.find_baselines(paths).items():
        train_scores, scores = (baselines.read_baseline_scores(file) for file in (train, rest))
        _expect_all(signals["signal"], scores, rest)
        predicted = signals["signal"].map(baselines.baseline_predictions(train_scores, labels, scores))
        n_train = sum(not math.isnan(labels.get(signal, math.nan)) for signal in train_scores)
        estimates = estimate({"rmse": rmse, "ncc": pearson}, predicted, signals["true"])
        found.append({"name": name, "n_train": n_train, **estimates})
    return found


def _words(
    path: Path | None, scores: Path, signals: pd.DataFrame, metadata: Path
) -> tuple[pd.DataFrame | None, list[str]]:
    """Words with labels and probabilities, and notes; a file that was found, not named, may be of other words."""
    beside = scores.with_name(f"{scores.stem.removesuffix('_inference')}_words.csv")
    if path is None and (beside == scores or not beside.is_file()):
        return None, []
    labels = [
        word_labels(words, response) if response or correctness == 0 else (math.nan,) * len(words)
        for words, response, correctness in signals[["words", "response", "correctness"]].itertuples(index=False)
    ]
    words = signals[["signal", "group", "words"]].assign(label=pd.Series(labels, dtype=object))
    words = words.explode(["words", "label"], ignore_index=True).rename(columns={"words": "word"})
    words = words.assign(label=words["label"].astype(float), position=words.groupby("signal").cumcount())
    words.attrs["path"] = path or beside
    try:
        words["probability"] = _read_probabilities(path or beside, words)
    except UserError as error:
        if path is not None:
            raise
        return None, [f"words are left out: {error}"]
    if not signals["response"].any():
        return None, [f"words are left out: {metadata} has no responses to compare them with"]
    return words, []


def _read_probabilities(path: Path, words: pd.DataFrame) -> pd.Series:
    """The probability of each word, all of which must be in the file."""
    rows = read_rows(path, f"a CSV file with the columns {', '.join(WORD_COLUMNS)}")
    expect(rows[0] == WORD_COLUMNS, path, f"the columns {', '.join(WORD_COLUMNS)}", ", ".join(rows[0]))
    found = {tuple(row[:3]): row[3] for row in rows[1:] if len(row) == len(WORD_COLUMNS)}
    expect(len(found) == len(rows) - 1, path, "each word once, in rows of four cells", "a word twice or another row")
    keys = [(signal, str(at), word) for signal, at, word in words[WORD_COLUMNS[:3]].itertuples(index=False)]
    probabilities = pd.to_numeric(pd.Series([found.get(key) for key in keys]), errors="coerce")
    bad = [
        f"{found.get(key, 'none')} for word {key[1]}, {key[2]!r}, of signal {key[0]}"
        for key, probability in zip(keys, probabilities, strict=True)
        if not 0.0 <= probability <= 1.0
    ]
    hint = "; write the file again with infer.details=true"
    expect(not bad, path, "a probability in 0 to 1 of each word", "".join(bad[:1]) + hint)
    return probabilities


# Figures as text, for the terminal and the report.


def agreement_table(figures: dict[str, Any]) -> Table:
    """All measures of all signals and for each hearing loss."""
    rows: Table = [("", "signals", "RMSE ± s.e.", "95 %", "NCC", "95 %", "tau-b", "95 %", "bias", "95 %")]
    for name, of in figures["agreement"].items():
        row = (*error_cells(of["rmse"]), *cells(of["ncc"], 3), *cells(of["tau"], 3), *cells(of["bias"], 2, sign=True))
        rows.append((name, str(of["n_signals"]), *row))
    return rows


def plain_line(figures: dict[str, Any]) -> str:
    """The measures of all signals that have no intervals."""
    mae, spearman = (figures["agreement"]["all"][name] for name in ("mae", "spearman"))
    return f"mean absolute error {cells(mae, 2)[0]}, Spearman's rank correlation {cells(spearman, 3)[0]}"


def systems_table(figures: dict[str, Any]) -> Table:
    """The file and the recomputed baselines, on the same signals."""
    everything = figures["agreement"]["all"]
    systems = {short(figures["scores"]): everything} | {baseline_name(of): of for of in figures["baselines"]}
    n = str(everything["n_signals"])
    rows = [(name, n, *error_cells(of["rmse"]), *cells(of["ncc"], 3)) for name, of in systems.items()]
    return [("scores", "signals", "RMSE ± s.e.", "95 %", "NCC", "95 %"), *rows]


def published_table(figures: dict[str, Any]) -> Table:
    """The official results of the release; no rows where it is unknown."""
    rows = [tuple(_official(value) for value in row.values()) for row in figures["published"]]
    names = list(figures["published"][0]) if rows else []
    heads = (name.replace("_rmse", " RMSE").replace("_r", " NCC") for name in names)
    return [tuple(heads), *rows]


def _official(value: str | float) -> str:
    """RMSE with two decimals, NCC with as many as were published."""
    if isinstance(value, str):
        return value
    return f"{value:.2f}" if value > 1 else f"{value:g}"


def error_table(signals: pd.DataFrame) -> Table:
    """Each signal with its predicted and true score and the error, predicted minus true, in points."""
    rows: Table = [("signal", "hearing_loss", "predicted", "true", "error")]
    for signal, loss, predicted, true in signals[["signal", "hearing_loss", "predicted", "true"]].itertuples(
        index=False
    ):
        rows.append((signal, loss, f"{predicted:.6f}", f"{true:.6f}", f"{predicted - true:.6f}"))
    return rows


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
    elif low <= 0 <= high:
        verdict = "the interval holds 0: the data do not tell which is better"
    else:
        verdict = f"the interval speaks for {'this file' if high < 0 else 'the other file'}"
    rmse, ncc = ("{} ({})".format(*cells(found[key], digits, sign=True)) for key, digits in (("rmse", 2), ("ncc", 3)))
    theirs = f"RMSE {error_cells(found['theirs'])[0]}, NCC {cells(found['their_ncc'], 3)[0]}"
    name, n = short(found["path"]), found["n_signals"]
    minus = f"{short(figures['scores'])} minus {name}"
    return f"{name} on {n} common signals: {theirs}; {minus}: RMSE {rmse}, NCC {ncc}; {verdict}"


def error_cells(estimate: Estimate, *, sign: bool = False) -> tuple[str, str]:
    """Value ± standard error, and interval."""
    value, interval = cells(estimate, 2, sign=sign)
    return value if estimate.error is None else f"{value} ± {estimate.error:.2f}", interval


def cells(estimate: Estimate, digits: int, *, sign: bool = False) -> tuple[str, str]:
    """Value and interval, a dash where undefined."""

    def text(value: float | None) -> str:
        if value is None:
            return "-"
        shown = f"{value:{'+' if sign else ''}.{digits}f}"
        return shown if float(shown) else shown.lstrip("+-")

    return text(estimate.value), "-" if estimate.low is None else f"{text(estimate.low)} to {text(estimate.high)}"


def baseline_name(baseline: dict[str, Any]) -> str:
    """The name of a recomputed baseline."""
    return f"{baseline['name']} baseline, recomputed"


def short(path: str) -> str:
    """A file with its folder, which tells checkpoints apart."""
    return "/".join(Path(path).parts[-2:])
