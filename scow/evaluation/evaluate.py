"""Stage 6: scores against what listeners wrote down, with intervals, beside other scores.

RMSE, NCC, Kendall's tau-b and bias (`scow.metrics`) over all labelled signals and per severity. Standard errors and
95 % intervals come from resampling tracks, or prompts where some track is unknown; the same resamples serve all, so
that differences between two files are paired.

Every labelled signal must have a score. Scores of signals without a label, or that the metadata does not name, are
noted and left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scow.data.metadata import SignalRecord, read_metadata
from scow.data.scores import ScoreFile, read_rows, read_scores
from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError
from scow.evaluation.baselines import baseline_predictions, find_baselines, read_baseline_scores
from scow.evaluation.clip1_results import CLIP1_RESULTS
from scow.io import write_json
from scow.metrics import Estimate, GroupResamples, bias, kendall, pearson, rmse, roc_auc
from scow.text.labels import word_labels
from scow.text.normalize import prompt_words

ALL = "all"
WORDS_HEADER = ["signal", "position", "word", "probability"]


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate against what.

    Attributes
    ----------
    scores, metadata : Path
    responses : Path or None
        CLIP2's labels, joined to the metadata.
    against : Path or None
        Another file of scores.
    words : Path or None
        Word probabilities; where None, the file that ``infer.details=true`` writes beside the scores, if it is there.
    baseline_scores : tuple of Path
        As `scow.evaluation.baselines.find_baselines` takes them.
    train_metadata : Path or None
        Labels that the baselines are fitted to.
    scale : str or None
        Of both score files; told by their values where None.
    seed, resamples : int
    """

    scores: Path
    metadata: Path
    responses: Path | None = None
    against: Path | None = None
    words: Path | None = None
    baseline_scores: tuple[Path, ...] = ()
    train_metadata: Path | None = None
    scale: str | None = None
    seed: int = 0
    resamples: int = 1000


@dataclass(frozen=True)
class Agreements:
    """All measures of some signals.

    Attributes
    ----------
    n_signals : int
    rmse, ncc, tau, bias : Estimate
    """

    n_signals: int
    rmse: Estimate
    ncc: Estimate
    tau: Estimate
    bias: Estimate


@dataclass(frozen=True)
class Difference:
    """One file's scores less another's, on the signals that both score.

    Attributes
    ----------
    path : Path
        The other file.
    n_signals : int
        Labelled signals in both.
    theirs : Estimate
        RMSE of the other file on them.
    rmse, ncc : Estimate
        This file's measure minus the other's: an RMSE below 0 speaks for this file.
    """

    path: Path
    n_signals: int
    theirs: Estimate
    rmse: Estimate
    ncc: Estimate


@dataclass(frozen=True)
class Baseline:
    """A baseline, fitted to train signals and scored on the labelled ones.

    Attributes
    ----------
    name : str
    n_train : int
        Signals that it was fitted to.
    rmse, ncc : Estimate
    """

    name: str
    n_train: int
    rmse: Estimate
    ncc: Estimate


@dataclass(frozen=True)
class Words:
    """Word probabilities and what listeners wrote.

    Attributes
    ----------
    path : Path
    probabilities : dict of str to tuple of float
        By signal, a value per word of its prompt.
    labels : dict of str to tuple of float
        In the same order; only signals with a known response.
    auc : float or None
        Area under the ROC curve; None where all words are alike.
    """

    path: Path
    probabilities: dict[str, tuple[float, ...]]
    labels: dict[str, tuple[float, ...]]
    auc: float | None


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes
    ----------
    options : EvaluationOptions
    file : ScoreFile
    records : tuple of SignalRecord
        Labelled, in the order of the metadata; `predicted` and `truth` in the same.
    predicted, truth : ndarray, shape (n,)
        Points of 0-100.
    groups : tuple of str, length n
    grouped_by : str
        ``track`` or ``prompt``.
    agreements : dict of str to Agreements
        Of all, and per severity that occurs.
    difference : Difference or None
    baselines : tuple of Baseline
    words : Words or None
    notes : tuple of str
        What was left out, and what else a reader should know.
    """

    options: EvaluationOptions
    file: ScoreFile
    records: tuple[SignalRecord, ...]
    predicted: np.ndarray
    truth: np.ndarray
    groups: tuple[str, ...]
    grouped_by: str
    agreements: dict[str, Agreements]
    difference: Difference | None
    baselines: tuple[Baseline, ...]
    words: Words | None
    notes: tuple[str, ...]

    @property
    def split(self) -> str:
        """Split of the published figures that the metadata's name speaks of: ``valid``, ``eval``, or another."""
        return self.options.metadata.stem.removesuffix("_metadata")

    @property
    def n_groups(self) -> int:
        """Number of tracks or prompts."""
        return len(set(self.groups))

    def resamples(self) -> GroupResamples:
        """The resamples behind all intervals, drawn again alike."""
        return GroupResamples(self.groups, np.random.default_rng(self.options.seed), self.options.resamples)


def evaluate(options: EvaluationOptions) -> Evaluation:
    """Compare scores with labels.

    Raises
    ------
    UserError
        A file that cannot be read, a labelled signal without a score, no labels, or options that do not go together.
    """
    if options.resamples < 2 or options.seed < 0:
        raise UserError(f"expected --resamples of at least 2 and --seed of at least 0, found {options.resamples} "
                        f"and {options.seed}; mend them")  # fmt: skip
    if options.baseline_scores and options.train_metadata is None:
        raise UserError("--baseline-scores: expected --train-metadata too, the labels to fit the baselines to; add it")
    file = read_scores(options.scores, options.scale)
    everything = read_metadata(options.metadata, options.responses)
    records, notes = _labelled(options, file, everything)
    groups, grouped_by = _groups(records)
    truth = np.array([record.correctness * 100 for record in records])
    predicted = np.array([file.scores[record.signal] for record in records])
    if len(set(groups)) < 2:
        notes.append(f"all signals are of one {grouped_by}, so that the errors and intervals below mean nothing")
    resamples = GroupResamples(groups, np.random.default_rng(options.seed), options.resamples)
    severities = np.array([record.hearing_loss for record in records])
    parts = {ALL: np.ones(len(records), dtype=bool)} | {name: severities == name for name in HEARING_LOSSES}
    difference = None
    if options.against is not None:
        other = read_scores(options.against, options.scale)
        difference, more = _difference(other, records, predicted, truth, groups, options)
        notes += more
    notes += [
        f"the checkpoint beside {path} was trained on just these signals: the figures flatter it; "
        "python train.py cv=true says how it does on others"
        for path in (options.scores, options.against)
        if path is not None and _trained_on(path.parent / "model.pt", [record.signal for record in everything])
    ]
    words, more = _words(options, records)
    return Evaluation(
        options=options,
        file=file,
        records=records,
        predicted=predicted,
        truth=truth,
        groups=groups,
        grouped_by=grouped_by,
        agreements={name: _agreements(resamples, predicted, truth, mine) for name, mine in parts.items() if mine.any()},
        difference=difference,
        baselines=_baselines(options, records, truth, resamples),
        words=words,
        notes=(*notes, *more),
    )


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write the figures, not the signals, as JSON."""
    write_json(path, figures(evaluation))


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """The figures of an evaluation as plain values."""
    options, file, words = evaluation.options, evaluation.file, evaluation.words
    difference = evaluation.difference
    return {
        "scores": str(file.path),
        "scale": file.scale,
        "header": file.header,
        "metadata": str(options.metadata),
        "grouped_by": evaluation.grouped_by,
        "n_groups": evaluation.n_groups,
        "interval": 0.95,
        "seed": options.seed,
        "resamples": options.resamples,
        "agreement": {name: dataclasses.asdict(found) for name, found in evaluation.agreements.items()},
        "against": None if difference is None else {**dataclasses.asdict(difference), "path": str(difference.path)},
        "baselines": [dataclasses.asdict(baseline) for baseline in evaluation.baselines],
        "published": [dataclasses.asdict(result) for result in CLIP1_RESULTS],
        "word_auc": words and words.auc,
        "notes": list(evaluation.notes),
    }


def _labelled(
    options: EvaluationOptions, file: ScoreFile, records: Sequence[SignalRecord]
) -> tuple[tuple[SignalRecord, ...], list[str]]:
    """The labelled records, each of which has a score, and notes on what else there is."""
    labelled = tuple(record for record in records if not math.isnan(record.correctness))
    if not labelled:
        raise UserError(
            f"{options.metadata}: expected signals with correctness, found none; use a labelled split, or --responses"
        )
    missing = [record.signal for record in labelled if record.signal not in file.scores]
    if missing:
        raise UserError(
            f"{file.path}: expected a score for each of {len(labelled)} labelled signals of {options.metadata}, found "
            f"none for {len(missing)}, for instance {missing[0]}; run infer.py on this split"
        )
    notes = []
    strange = sorted(file.scores.keys() - {record.signal for record in records})
    if strange:
        notes.append(f"{len(strange)} scores are of signals that the metadata lacks, for instance {strange[0]}")
    if len(labelled) < len(records):
        notes.append(f"{len(records) - len(labelled)} of {len(records)} signals have no label and are left out")
    return labelled, notes


def _groups(records: Sequence[SignalRecord]) -> tuple[tuple[str, ...], str]:
    """Group of each signal: tracks where all are known, else prompts."""
    if all(record.track for record in records):
        return tuple(record.track for record in records), "track"
    return tuple(record.prompt for record in records), "prompt"


def _agreements(resamples: GroupResamples, predicted: np.ndarray, truth: np.ndarray, where: np.ndarray) -> Agreements:
    found = [resamples.measure(measure, predicted, truth, where) for measure in (rmse, pearson, kendall, bias)]
    return Agreements(int(where.sum()), *found)


def _difference(
    other: ScoreFile,
    records: Sequence[SignalRecord],
    predicted: np.ndarray,
    truth: np.ndarray,
    groups: Sequence[str],
    options: EvaluationOptions,
) -> tuple[Difference, list[str]]:
    """The paired difference, both files on the same resamples of the common signals."""
    common = np.array([record.signal in other.scores for record in records])
    if not common.any():
        raise UserError(f"{other.path}: expected scores of the same signals, found none of them; check --against")
    ours, true = predicted[common], truth[common]
    theirs = np.array([other.scores[record.signal] for record in records if record.signal in other.scores])
    mine = [group for group, inside in zip(groups, common, strict=True) if inside]
    resamples = GroupResamples(mine, np.random.default_rng(options.seed), options.resamples)

    def less(index: np.ndarray) -> float:
        return rmse(ours[index], true[index]) - rmse(theirs[index], true[index])

    def more(index: np.ndarray) -> float | None:
        one, two = pearson(ours[index], true[index]), pearson(theirs[index], true[index])
        return None if one is None or two is None else one - two

    notes = []
    if not common.all():
        notes.append(f"{other.path} lacks {int((~common).sum())} of the signals; the difference is on the others")
    return (
        Difference(
            path=other.path,
            n_signals=int(common.sum()),
            theirs=resamples.measure(rmse, theirs, true),
            rmse=resamples.estimate(less),
            ncc=resamples.estimate(more),
        ),
        notes,
    )


def _baselines(
    options: EvaluationOptions, records: Sequence[SignalRecord], truth: np.ndarray, resamples: GroupResamples
) -> tuple[Baseline, ...]:
    if not options.baseline_scores or options.train_metadata is None:
        return ()
    labels = {record.signal: record.correctness for record in read_metadata(options.train_metadata)}
    found = []
    for name, (train, rest) in find_baselines(options.baseline_scores).items():
        train_scores, scores = read_baseline_scores(train), read_baseline_scores(rest)
        missing = [record.signal for record in records if record.signal not in scores]
        if missing:
            raise UserError(
                f"{rest}: expected a score for each labelled signal, found none for {len(missing)}, for instance "
                f"{missing[0]}; check --baseline-scores"
            )
        predicted = baseline_predictions(train_scores, labels, {r.signal: scores[r.signal] for r in records})
        values = np.array(list(predicted.values()))
        fitted_to = sum(not math.isnan(labels.get(signal, math.nan)) for signal in train_scores)
        estimates = [resamples.measure(measure, values, truth) for measure in (rmse, pearson)]
        found.append(Baseline(name, fitted_to, *estimates))
    return tuple(found)


def _words(options: EvaluationOptions, records: Sequence[SignalRecord]) -> tuple[Words | None, list[str]]:
    """Word probabilities with their labels; a file that was only found, not named, may be others'."""
    beside = options.scores.with_name(f"{options.scores.stem.removesuffix('_inference')}_words.csv")
    path = options.words or beside
    if options.words is None and not (beside != options.scores and beside.is_file()):
        return None, []
    try:
        probabilities = _read_words(path, {record.signal: prompt_words(record.prompt) for record in records})
    except UserError as error:
        if options.words is not None:
            raise
        return None, [f"words are left out: {error}"]
    known = [record for record in records if record.response or record.correctness == 0]
    labels = {record.signal: word_labels(prompt_words(record.prompt), record.response) for record in known}
    if not any(record.response for record in known):
        return None, [f"words are left out: {options.metadata} has no responses to compare them with"]
    flat = [np.array([one for signal in labels for one in values[signal]]) for values in (probabilities, labels)]
    auc = roc_auc(*flat) if len(np.unique(flat[1] > 0.5)) == 2 else None
    return Words(path, probabilities, labels, auc), []


def _read_words(path: Path, prompts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[float, ...]]:
    """Probabilities of the words of these prompts, all of which must be there."""
    rows = read_rows(path, f"a CSV file with the columns {', '.join(WORDS_HEADER)}")
    if rows[0] != WORDS_HEADER:
        raise UserError(f"{path}: expected the columns {', '.join(WORDS_HEADER)}, found {', '.join(rows[0])}")
    found: dict[str, list[float]] = {}
    for number, row in enumerate(rows[1:], start=2):
        signal = row[0]
        if signal not in prompts:
            continue
        values = found.setdefault(signal, [])
        try:
            position, word, probability = int(row[1]), row[2], float(row[3])
            if not 0.0 <= probability <= 1.0:
                raise ValueError
        except (ValueError, IndexError):
            raise UserError(
                f"{path}, row {number}: expected signal, position, word and a probability in 0 to 1, found "
                f"{','.join(row)!r}; write it again with infer.details=true"
            ) from None
        if position != len(values) or position >= len(prompts[signal]) or word != prompts[signal][position]:
            raise UserError(
                f"{path}, row {number}: word {position} of signal {signal} is {word!r}, which is not as in the "
                "metadata; write it again with infer.details=true"
            )
        values.append(probability)
    for signal, words in prompts.items():
        if len(found.get(signal, ())) != len(words):
            raise UserError(
                f"{path}: expected {len(words)} words of signal {signal}, found {len(found.get(signal, ()))}"
            )
    return {signal: tuple(values) for signal, values in found.items()}


def _trained_on(model: Path, signals: Sequence[str]) -> bool:
    """Whether a checkpoint was trained on just these signals; False where there is none, or it does not tell."""
    if not model.is_file():
        return False
    from scow.models.checkpoint import checkpoint_facts, fingerprint  # torch, which nothing else here needs

    return checkpoint_facts(model).get("trained_on") == fingerprint(signals)
