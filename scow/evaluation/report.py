"""The report of an evaluation as a page with figures, drawn from what `scow.evaluation.evaluate` found.

How large the errors are, beside other systems; where they are: against the truth, by hearing loss and by sentence
length; calibration of sentences and of words; the worst misses with their lyrics. A point of a calibration figure is a
tenth of all signals (or words), its bar one standard error of the mean from the same resamples of tracks as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scow.data.tables import HEARING_LOSSES
from scow.evaluation import evaluate as evaluation_text
from scow.evaluation.clip1_results import CLIP1_RESULTS
from scow.evaluation.evaluate import Evaluation, Table, baseline_name, estimator, number, short, with_error
from scow.metrics import bias, equal_bins, rmse
from scow.reports.plots import Interval, Plot, boxes, calibration, histogram, intervals, scatter
from scow.reports.render import render, write_text
from scow.text.normalize import prompt_words

N_WORST = 20
MIN_SHARE = 0.05  # of the signals, in a group of sentence lengths
POINTS = (0.0, 100.0)
RESIDUALS = (-100.0, 100.0)


def write_report(path: Path, found: Evaluation, plots: dict[str, Plot]) -> None:
    """Write the report as one HTML file; `plots` are those of `report_plots`."""
    signals, words = found.signals, found.words
    residuals = signals["predicted"] - signals["true"]
    worst = signals.loc[residuals.abs().sort_values(ascending=False, kind="stable").index[:N_WORST]].to_dict("records")
    shares = {} if words is None else {signal: list(of) for signal, of in words.groupby("signal")["probability"]}
    lyrics = [list(zip(prompt_words(row["prompt"]), shares.get(row["signal"], ()), strict=False)) for row in worst]
    page = render(
        "evaluation.html.j2",
        text=evaluation_text,
        file=found.file,
        figures=found.figures,
        plots=plots,
        words=words,
        length_table=_length_table(found),
        worst=list(zip(worst, lyrics, strict=True)),
    )
    write_text(path, page)


def report_plots(found: Evaluation) -> dict[str, Plot]:
    """All figures of the report by name."""
    signals, everything = found.signals, found.figures["agreement"]["all"]
    predicted, true = signals["predicted"].to_numpy(), signals["true"].to_numpy()
    residuals = predicted - true
    by_loss = {name: residuals[signals["hearing_loss"] == name] for name in HEARING_LOSSES}
    by_loss = {name: values for name, values in by_loss.items() if len(values)}
    by_length = {f"{name} words": residuals[mask] for name, mask in length_groups(_lengths(signals))}
    plots = {
        "rmse": _systems(found),
        "true_predicted": Plot(
            scatter(predicted, true, "predicted score (points)", "true score (points)"),
            "True against predicted scores",
            f"{len(true)} signals; NCC {number(everything['ncc'].value, 3)}.",
            "A dot is a signal. True scores are shares of a few words, hence the rows.",
        ),
        "calibration": _calibration(found, signals["predicted"], signals["true"], signals["group"], "signals"),
        "residuals": Plot(
            histogram(residuals, RESIDUALS, "predicted minus true (points)", "signals"),
            "Residuals",
            f"Mean {residuals.mean():.1f}, standard deviation {residuals.std():.1f} points.",
            "Right of the dashed line, listeners understood less than predicted.",
        ),
        "residuals_hearing_loss": Plot(
            boxes(by_loss, RESIDUALS, "predicted minus true (points)"),
            "Residuals by hearing loss",
            _medians(by_loss),
            "Box: quartiles and median; line: 5th to 95th percentile; dot: mean. In brackets: number of signals.",
        ),
        "residuals_length": Plot(
            boxes(by_length, RESIDUALS, "predicted minus true (points)"),
            "Residuals by sentence length",
            _medians(by_length),
            "As above. One word more or less is a larger share of a short sentence.",
        ),
    }
    if found.words is not None:
        words = found.words.dropna(subset="label")
        shares = words["probability"]
        plots["words_calibration"] = _calibration(found, shares, words["label"], words["group"], "words")
        plots["words_probabilities"] = Plot(
            histogram(shares, (0.0, 1.0), "predicted probability", "words", bins=20),
            "Word probabilities",
            f"Mean {shares.mean():.2f}, standard deviation {shares.std():.2f}.",
            "The farther a probability is from the mean, the more it tells.",
        )
    return plots


def length_groups(lengths: Sequence[int]) -> list[tuple[str, np.ndarray]]:
    """Masks of the signals by number of words, with names such as 5 or 10-13; rare lengths join their neighbours."""
    counts = np.asarray(lengths)
    groups: list[list[int]] = []
    for length in np.unique(counts).tolist():
        if groups and np.isin(counts, groups[-1]).mean() < MIN_SHARE:
            groups[-1].append(length)
        else:
            groups.append([length])
    if len(groups) > 1 and np.isin(counts, groups[-1]).mean() < MIN_SHARE:
        last = groups.pop()
        groups[-1] += last
    return [("-".join(map(str, sorted({g[0], g[-1]}))), np.isin(counts, g)) for g in groups]


def _lengths(signals: pd.DataFrame) -> list[int]:
    return [len(prompt_words(prompt)) for prompt in signals["prompt"]]


def _length_table(found: Evaluation) -> Table:
    signals, figures = found.signals, found.figures
    estimate = estimator(signals["group"], figures["seed"], figures["resamples"])
    rows: Table = [("words", "signals", "RMSE ± s.e.", "bias ± s.e.")]
    for name, mask in length_groups(_lengths(signals)):
        of = estimate({"rmse": rmse, "bias": bias}, signals["predicted"], signals["true"], where=mask)
        rows.append((name, str(mask.sum()), with_error(of["rmse"], 2), with_error(of["bias"], 2, sign=True)))
    return rows


def _systems(found: Evaluation) -> Plot:
    """RMSE of this file, of others on the same signals, and official results where the split is known."""
    figures = found.figures
    systems = [("this file", figures["agreement"]["all"]["rmse"], 0)]
    if figures["against"]:
        systems.append((short(figures["against"]["path"]), figures["against"]["theirs"], 1))
    systems += [(baseline_name(baseline), baseline["rmse"], 1) for baseline in figures["baselines"]]
    rows = [Interval(name, e.value or 0.0, e.low, e.high, series) for name, e, series in systems]
    split = Path(figures["metadata"]).stem.removesuffix("_metadata")
    caption = "Lower is better. Lines are 95 % intervals. "
    if split in ("valid", "eval"):
        rows += [
            Interval(f"{result.system.partition(',')[0]}, official", getattr(result, f"{split}_rmse"), series=2)
            for result in CLIP1_RESULTS
        ]
        caption += f"Official results are those of the challenge's {split} set."
    else:
        caption += "Official results are left out, since the metadata's name is neither valid nor eval."
    description = "; ".join(f"{row.name} {row.value:.2f}" for row in rows)
    return Plot(intervals(rows, "RMSE (points)"), "RMSE beside other systems", description, caption)


def _calibration(found: Evaluation, predicted: pd.Series, true: pd.Series, groups: pd.Series, what: str) -> Plot:
    """Mean truth of tenths of the predictions, with standard errors."""
    estimate = estimator(groups, found.figures["seed"], found.figures["resamples"])
    x, y, errors = [], [], []
    for members in equal_bins(predicted):
        mask = np.isin(np.arange(len(predicted)), members)
        mean = estimate({"mean": np.mean}, true, where=mask)["mean"]
        x.append(float(predicted.iloc[members].mean()))
        y.append(mean.value or 0.0)
        errors.append(mean.error or 0.0)
    is_words = what == "words"
    labels = (
        ("probability", "share of words understood") if is_words else ("score (points)", "mean true score (points)")
    )
    figure = calibration(x, y, f"predicted {labels[0]}", labels[1], 1.0 if is_words else 100.0, errors)
    digits = 2 if is_words else 0
    description = "; ".join(f"predicted {a:.{digits}f}, true {b:.{digits}f}" for a, b in zip(x, y, strict=True))
    caption = f"A point is a tenth of the {what}. On the dashed line, predictions are right on average."
    return Plot(figure, f"Calibration in tenths of the {what}", description, caption)


def _medians(groups: dict[str, np.ndarray]) -> str:
    return "; ".join(f"{name}: median {np.median(values):.1f}" for name, values in groups.items())
