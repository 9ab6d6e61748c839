"""The report of an evaluation as a page with figures, drawn from what `scow.evaluation.evaluate` found.

How large the errors are, beside other systems; where they are: against the truth, by hearing loss and by sentence
length; calibration of sentences and of words; the worst misses with their lyrics. A point of a calibration figure is a
tenth of all signals (or words), its bar one standard error of the mean from the same resamples of tracks as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from scow.data.tables import HEARING_LOSSES
from scow.evaluation import evaluate as text
from scow.evaluation.evaluate import Evaluation, Table, baseline_name, error_cells, estimator, short
from scow.metrics import bias, equal_bins, rmse
from scow.reports.plots import Interval, Plot, boxes, calibration, histogram, intervals, scatter
from scow.reports.render import render, write_text

N_WORST = 20
OFF = "predicted minus true (points)"
OFF_ENDS = (-100.0, 100.0)


def write_report(path: Path, found: Evaluation, plots: dict[str, Plot]) -> None:
    """Write the report as one HTML file; `plots` are those of `report_plots`."""
    signals, words = found.signals, found.words
    residuals = signals["predicted"] - signals["true"]
    worst = signals.loc[residuals.abs().sort_values(ascending=False, kind="stable").index[:N_WORST]]
    shares = {
        signal: [] if words is None else words.loc[words["signal"] == signal, "probability"].tolist()
        for signal in worst["signal"]
    }
    values = {"plots": plots, "length_table": _length_table(found), "worst": worst.to_dict("records"), "shares": shares}
    write_text(path, render("evaluation.html.j2", text=text, found=found, figures=found.figures, **values))


def report_plots(found: Evaluation) -> dict[str, Plot]:
    """All figures of the report by name."""
    signals = found.signals
    predicted, true = signals["predicted"], signals["true"]
    residuals = predicted - true
    by_loss = {name: residuals[signals["hearing_loss"] == name] for name in HEARING_LOSSES}
    by_length = {name: residuals[mask] for name, mask in _lengths(signals).items()}
    plots = {
        "rmse": _systems(found),
        "true_predicted": Plot(
            scatter(predicted, true, "predicted score (points)", "true score (points)"),
            "True against predicted scores",
            f"{len(true)} signals; NCC {text.cells(found.figures['agreement']['all']['ncc'], 3)[0]}.",
        ),
        "calibration": _calibration(found, signals, "predicted", "true", 100.0),
        "residuals": Plot(histogram(residuals, OFF_ENDS, OFF, "signals"), "Residuals", _mean(residuals, 1)),
        "residuals_hearing_loss": _boxes(by_loss, "Residuals by hearing loss"),
        "residuals_length": _boxes(by_length, "Residuals by sentence length"),
    }
    if found.words is not None:
        words = found.words.dropna(subset="label")
        figure = histogram(words["probability"], (0.0, 1.0), "predicted probability", "words", bins=20)
        plots["words_calibration"] = _calibration(found, words, "probability", "label", 1.0)
        plots["words_probabilities"] = Plot(figure, "Word probabilities", _mean(words["probability"], 2))
    return plots


def _lengths(signals: pd.DataFrame) -> dict[str, pd.Series]:
    """Masks of the signals by number of words; rare lengths are put together."""
    lengths = signals["words"].str.len()
    low, high = lengths.quantile([0.05, 0.95]).astype(int)
    signs = {low: "≤ ", high: "≥ "} if low < high else {}
    return {f"{signs.get(n, '')}{n} words": lengths.clip(low, high) == n for n in range(low, high + 1)}


def _length_table(found: Evaluation) -> Table:
    signals, figures = found.signals, found.figures
    estimate = estimator(signals["group"], figures["seed"], figures["resamples"])
    rows: Table = [("", "signals", "RMSE ± s.e.", "bias ± s.e.")]
    for name, mask in _lengths(signals).items():
        of = estimate({"rmse": rmse, "bias": bias}, signals["predicted"], signals["true"], where=mask.to_numpy())
        cells = (error_cells(of["rmse"])[0], error_cells(of["bias"], sign=True)[0])
        rows.append((name, str(mask.sum()), *cells))
    return rows


def _systems(found: Evaluation) -> Plot:
    """RMSE of this file, of others on the same signals, and official results where the split is known."""
    figures = found.figures
    systems = [("this file", figures["agreement"]["all"]["rmse"], 0)]
    if figures["against"]:
        systems.append((short(figures["against"]["path"]), figures["against"]["theirs"], 1))
    systems += [(baseline_name(baseline), baseline["rmse"], 1) for baseline in figures["baselines"]]
    rows = [Interval(name, of.value or 0.0, of.low, of.high, series) for name, of, series in systems]
    column = f"{found.split}_rmse"
    official = [(row["system"].partition(",")[0], row[column]) for row in figures["published"] if column in row]
    rows += [Interval(f"{name}, official", value, series=2) for name, value in official]
    description = "; ".join(f"{row.name} {row.value:.2f}" for row in rows)
    return Plot(intervals(rows, "RMSE (points)"), "RMSE beside other systems", description)


def _calibration(found: Evaluation, table: pd.DataFrame, predicted: str, true: str, high: float) -> Plot:
    """Mean truth of tenths of the predictions, with standard errors."""
    estimate = estimator(table["group"], found.figures["seed"], found.figures["resamples"])
    bins = equal_bins(table[predicted])
    bin_of = np.empty(len(table), dtype=np.int64)
    for i, members in enumerate(bins):
        bin_of[members] = i

    def mean_of(i: int) -> Callable[[np.ndarray, np.ndarray], float | None]:
        return lambda values, numbers: values[numbers == i].mean() if (numbers == i).any() else None

    means = estimate({str(i): mean_of(i) for i in range(len(bins))}, table[true], bin_of).values()
    x = [float(table[predicted].iloc[members].mean()) for members in bins]
    y, errors = [mean.value or 0.0 for mean in means], [mean.error or 0.0 for mean in means]
    what = "words" if high == 1.0 else "signals"
    labels = ("probability", "share of words understood") if high == 1.0 else ("score (points)", "true score (points)")
    description = "; ".join(f"predicted {a:.2g}, true {b:.2g}" for a, b in zip(x, y, strict=True))
    figure = calibration(x, y, f"mean predicted {labels[0]}", f"mean {labels[1]}", high, errors)
    return Plot(figure, f"Calibration in tenths of the {what}", description)


def _boxes(groups: dict[str, pd.Series], title: str) -> Plot:
    groups = {name: values for name, values in groups.items() if len(values)}
    description = "; ".join(f"{name}: median {values.median():.1f}" for name, values in groups.items())
    return Plot(boxes(groups, OFF_ENDS, OFF), title, description)


def _mean(values: pd.Series, digits: int) -> str:
    return f"Mean {values.mean():.{digits}f}, standard deviation {values.std(ddof=0):.{digits}f}."
