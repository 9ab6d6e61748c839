"""The report of an evaluation: what `scow.evaluation.evaluate` found, as a page with charts.

How far predictions are off, beside what else; where they are off: against the truth, by severity and by sentence
length; whether they mean what they say (calibration, of sentences and of words); and the worst misses with their
lyrics. A point on the calibration charts is a tenth of all signals (or words), and its bar is one standard error of
its mean, from the same resamples of tracks as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scow.data.tables import HEARING_LOSSES
from scow.evaluation.clip1_results import CLIP1_RESULTS
from scow.evaluation.evaluate import Evaluation, Words
from scow.evaluation.text import (
    AGREEMENT_HEADER,
    COMPARISON_HEADER,
    OWN_HEADER,
    agreement_rows,
    baseline_name,
    difference_line,
    ends,
    method_line,
    own_rows,
    published_rows,
    short,
    value,
    with_error,
)
from scow.metrics import GroupResamples, bias, equal_bins, rmse
from scow.reports.charts import Axis, Row, boxes, calibration, histogram, intervals, scatter
from scow.reports.markup import Html, element, join
from scow.reports.page import Section, figure, grid, heat_words, note, page, table, write_page
from scow.text.normalize import prompt_words

WORST = 20
SMALLEST_SHARE = 0.05  # of the signals, in a group of sentence lengths
POINTS = (0.0, 100.0)


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write the report as one HTML file."""
    write_page(path, report(evaluation))


def report(evaluation: Evaluation) -> Html:
    """The report as a page."""
    found = evaluation.agreements["all"]
    lead = (
        f"{len(evaluation.records)} signals of {evaluation.options.metadata.name}, predicted by "
        f"{short(evaluation.file.path)}: the scores are {value(found.rmse.value, 2)} points of 0-100 off what single "
        f"listeners wrote down (RMSE; 95 % interval {ends(found.rmse, 2)}), and correlate with it at "
        f"{value(found.ncc.value, 3)} (NCC; {ends(found.ncc, 3)})."
    )
    sections = [
        Section("Agreement", (_agreement_table(evaluation), *(note(f"Note: {text}.") for text in evaluation.notes))),
        Section("Beside other systems", _comparison(evaluation)),
        Section("Where the scores are off", (_residual_charts(evaluation),)),
    ]
    if evaluation.words is not None:
        sections.append(Section("Words", _word_charts(evaluation, evaluation.words)))
    sections += [
        Section(f"The {min(WORST, len(evaluation.records))} worst misses", _worst(evaluation)),
        Section("How this was computed", _method(evaluation)),
    ]
    return page(f"Evaluation of {short(evaluation.file.path)}", sections, lead=lead)


def length_groups(lengths: Sequence[int]) -> list[tuple[str, np.ndarray]]:
    """Signals by number of words; lengths that few have are put together with their neighbours.

    Parameters
    ----------
    lengths : sequence of int, length n

    Returns
    -------
    list of (str, ndarray)
        Name, as ``5`` or ``10-13``, and mask of the signals; short ones first.
    """
    counts = np.asarray(lengths)
    least = SMALLEST_SHARE * len(counts)
    groups: list[list[int]] = []
    for length in np.unique(counts).tolist():
        if groups and np.isin(counts, groups[-1]).sum() < least:
            groups[-1].append(length)
        else:
            groups.append([length])
    if len(groups) > 1 and np.isin(counts, groups[-1]).sum() < least:
        last = groups.pop()
        groups[-1] += last
    return [
        (str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}", np.isin(counts, group)) for group in groups
    ]


def _agreement_table(evaluation: Evaluation) -> Html:
    caption = f"In points of 0-100; NCC is Pearson's r. {_capital(method_line(evaluation))}."
    numeric = range(1, len(AGREEMENT_HEADER))
    return table(AGREEMENT_HEADER, agreement_rows(evaluation), caption=caption, numeric=numeric, ours=[0])


def _comparison(evaluation: Evaluation) -> tuple[object, ...]:
    found = evaluation.agreements["all"]
    rows = [Row("this file", found.rmse.value or 0.0, found.rmse.low, found.rmse.high)]
    if evaluation.difference is not None:
        theirs = evaluation.difference.theirs
        rows.append(Row(short(evaluation.difference.path), theirs.value or 0.0, theirs.low, theirs.high, 1))
    rows += [Row(baseline_name(b.name), b.rmse.value or 0.0, b.rmse.low, b.rmse.high, 1) for b in evaluation.baselines]
    published = [(result.system.partition(",")[0], result.rmse(evaluation.split)) for result in CLIP1_RESULTS]
    rows += [Row(f"{name}, official", figure, series=2) for name, figure in published if figure is not None]
    values = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    axis = Axis(float(np.floor(min(values) - 0.5)), float(np.ceil(max(values) + 0.5)), "RMSE (points)")
    says = "; ".join(f"{row.name} {row.value:.2f}" for row in rows)
    chart = intervals(rows, title="RMSE beside other systems", description=says, x_axis=axis)
    which = evaluation.split if evaluation.split in ("valid", "eval") else None
    caption = "Lower is better. Lines are 95 % intervals. " + (
        f"Official figures are those of the challenge's {which} set."
        if which
        else "Official figures are left out, since the metadata's name is neither valid nor eval."
    )
    own = table(
        OWN_HEADER, own_rows(evaluation), caption="On the same signals", numeric=range(1, len(OWN_HEADER)), ours=[0]
    )
    official = table(COMPARISON_HEADER, published_rows(), caption="Official CLIP1 results", numeric=(1, 2, 3))
    line = difference_line(evaluation)
    return (*([f"{line}."] if line else []), own, grid(figure(chart, "RMSE", caption)), official)


def _residual_charts(evaluation: Evaluation) -> Html:
    predicted, truth = evaluation.predicted, evaluation.truth
    residuals = predicted - truth
    x, y = Axis(*POINTS, "predicted score (points)"), Axis(*POINTS, "true score (points)")
    off = Axis(-100.0, 100.0, "predicted minus true (points)")
    all_of = evaluation.agreements["all"]
    severities = np.array([record.hearing_loss for record in evaluation.records])
    by_severity = {name: residuals[severities == name] for name in HEARING_LOSSES if (severities == name).any()}
    lengths = [len(prompt_words(record.prompt)) for record in evaluation.records]
    by_length = {f"{name} words": residuals[mine] for name, mine in length_groups(lengths)}
    ncc = "undefined" if all_of.ncc.value is None else f"{all_of.ncc.value:.3f}"
    return grid(
        figure(
            scatter(
                predicted,
                truth,
                title="True against predicted scores",
                description=f"{len(truth)} signals; NCC {ncc}.",
                x_axis=x,
                y_axis=y,
            ),
            "Predicted against true",
            "A dot is a signal; the darker a square, the more of them lie in it. True scores are shares of a few "
            "words, hence the rows.",
        ),
        figure(
            _calibration(predicted, truth, evaluation.resamples(), x, Axis(*POINTS, "mean true score (points)")),
            "Calibration",
            "A point is a tenth of the signals. On the dashed line, predictions mean what they say.",
        ),
        figure(
            histogram(
                residuals,
                title="Residuals",
                description=f"Mean {residuals.mean():.1f}, standard deviation {residuals.std():.1f} points.",
                x_axis=off,
                y_label="signals",
            ),
            "Residuals",
            "Right of the line, listeners got less than was predicted.",
        ),
        figure(
            boxes(by_severity, title="Residuals by severity", description=_medians(by_severity), x_axis=off),
            "Residuals by severity",
            "Box: middle half, with the median; line: 5th to 95th percentile; dot: mean. In brackets: signals.",
        ),
        figure(
            boxes(by_length, title="Residuals by sentence length", description=_medians(by_length), x_axis=off),
            "Residuals by sentence length",
            "As above. One word more or less is a larger share of a short sentence.",
        ),
        _length_table(evaluation, length_groups(lengths)),
    )


def _length_table(evaluation: Evaluation, groups: Sequence[tuple[str, np.ndarray]]) -> Html:
    resamples = evaluation.resamples()
    rows = []
    for name, mine in groups:
        found = [resamples.measure(one, evaluation.predicted, evaluation.truth, mine) for one in (rmse, bias)]
        rows.append((name, str(int(mine.sum())), with_error(found[0], 2), with_error(found[1], 2, sign=True)))
    header = ("words", "signals", "RMSE ± s.e.", "bias ± s.e.")
    return table(header, rows, caption="By sentence length", numeric=(0, 1, 2, 3))


def _word_charts(evaluation: Evaluation, words: Words) -> tuple[object, ...]:
    index = [i for i, record in enumerate(evaluation.records) if record.signal in words.labels]
    signals = [evaluation.records[i].signal for i in index]
    probabilities = np.concatenate([words.probabilities[signal] for signal in signals])
    labels = np.concatenate([np.asarray(words.labels[signal], dtype=np.float64) for signal in signals])
    groups = [evaluation.groups[i] for i, signal in zip(index, signals, strict=True) for _ in words.labels[signal]]
    options = evaluation.options
    resamples = GroupResamples(groups, np.random.default_rng(options.seed), options.resamples)
    x, y = Axis(0.0, 1.0, "predicted probability"), Axis(0.0, 1.0, "share of words written down")
    auc = "undefined" if words.auc is None else f"{words.auc:.3f}"
    return (
        f"{len(labels)} words of {words.path.name}; {100 * labels.mean():.0f} % were written down. Area under the ROC "
        f"curve {auc}: how often a word that was written down has a higher probability than one that was not.",
        grid(
            figure(
                _calibration(probabilities, labels, resamples, x, y, "words"),
                "Reliability of word probabilities",
                "A point is a tenth of the words. On the dashed line, of words with a probability of 0.7, 70 % are "
                "written down.",
            ),
            figure(
                histogram(
                    probabilities,
                    title="Word probabilities",
                    description=f"Mean {probabilities.mean():.2f}, standard deviation {probabilities.std():.2f}.",
                    x_axis=x,
                    y_label="words",
                    bins=20,
                ),
                "How the probabilities spread",
                "The farther from the mean, the more is said about a word.",
            ),
        ),
    )


def _calibration(
    predicted: np.ndarray, true: np.ndarray, resamples: GroupResamples, x: Axis, y: Axis, what: str = "signals"
) -> Html:
    """Tenths of all, with the standard error of their true mean."""
    means, counts, errors = [], [], []
    for members in equal_bins(predicted):
        inside = np.zeros(len(predicted), dtype=bool)
        inside[members] = True

        def mean(index: np.ndarray, inside: np.ndarray = inside) -> float | None:
            mine = index[inside[index]]
            return float(true[mine].mean()) if len(mine) else None

        means.append((float(predicted[members].mean()), float(true[members].mean())))
        counts.append(len(members))
        errors.append(resamples.estimate(mean).error or 0.0)
    digits = 0 if x.high > 1 else 2
    says = "; ".join(f"predicted {one:.{digits}f}, true {other:.{digits}f}" for one, other in means)
    at, truth = zip(*means, strict=True)
    title = f"Calibration in tenths of the {what}"
    return calibration(at, truth, counts, errors, title=title, description=says, x_axis=x, y_axis=y)


def _worst(evaluation: Evaluation) -> tuple[object, ...]:
    residuals = evaluation.predicted - evaluation.truth
    order = np.argsort(-np.abs(residuals), kind="stable")[:WORST]
    words = evaluation.words
    rows = []
    for i in order.tolist():
        record = evaluation.records[i]
        prompt = prompt_words(record.prompt)
        lyrics = heat_words(prompt, words.probabilities[record.signal]) if words else " ".join(prompt)
        scores = (value(float(evaluation.predicted[i]), 1), value(float(evaluation.truth[i]), 1))
        response = record.response or element("em", "nothing" if record.correctness == 0 else "not known")
        rows.append((*scores, lyrics, response, record.hearing_loss, record.signal))
    header = ("predicted", "true", "lyrics", "response", "severity", "signal")
    content = [table(header, rows, caption="Largest differences first", numeric=(0, 1), wordy=(2, 3))]
    if words:
        scale = heat_words(["0 %", "25 %", "50 %", "75 %", "100 %"], (0.0, 0.25, 0.5, 0.75, 1.0))
        content.insert(0, element("p", "Words on the colour of their predicted probability: ", scale))
    return tuple(content)


def _method(evaluation: Evaluation) -> tuple[object, ...]:
    file, options = evaluation.file, evaluation.options
    lines: list[object] = [
        f"Scores: {file}.",
        f"Labels: {options.metadata}" + (f", with responses of {options.responses}" if options.responses else "") + ".",
        f"{_capital(method_line(evaluation))}. {_capital(evaluation.grouped_by)}s are drawn with replacement, each "
        "with all its signals; intervals lie between the 2.5th and the 97.5th percentile.",
        "RMSE: root of the mean squared difference. NCC: Pearson's correlation. Tau-b: Kendall's rank correlation, "
        "ties allowed for. Bias: mean of predicted minus true; above 0, listeners got less than was predicted.",
        "With one listener per signal the truth itself is noisy: another listener of the same signal would have "
        "written down another share, and no predictor can tell which of them was asked.",
    ]
    lines += [
        f"{baseline_name(b.name)}: a logistic curve of this one score, fitted to {b.n_train} train signals."
        for b in evaluation.baselines
    ]
    return (element("ul", join(*(element("li", line) for line in lines))),)


def _medians(groups: dict[str, np.ndarray]) -> str:
    return "; ".join(f"{name}: median {np.median(values):.1f}" for name, values in groups.items())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
