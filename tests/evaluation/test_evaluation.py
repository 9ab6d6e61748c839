"""Evaluation: the figures against plain formulas, the pairing, and what is refused or noted."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers import heard_records, write_metadata
from scipy.stats import kendalltau, pearsonr

from scow.errors import UserError
from scow.evaluation.evaluate import Evaluation, EvaluationOptions, evaluate, figures, write_evaluation
from scow.evaluation.text import agreement_rows, difference_line, ends, value, with_error
from scow.metrics import Estimate
from scow.models.checkpoint import fingerprint, save_checkpoint
from scow.models.config import TransformerConfig
from scow.models.transformer import Transformer
from scow.text.labels import word_labels

N = 60


@pytest.fixture
def records():
    return heard_records(N, seed=3)[0]


@pytest.fixture
def files(tmp_path: Path, records) -> EvaluationOptions:
    """Metadata, and scores that are near the labels."""
    metadata = write_metadata(tmp_path / "valid_metadata.json", records)
    rng = np.random.default_rng(0)
    scores = np.clip([100 * r.correctness for r in records] + rng.normal(5, 20, N), 0, 100)
    return EvaluationOptions(write(tmp_path / "valid_inference.csv", records, scores), metadata, resamples=300)


def write(path: Path, records, scores) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows((r.signal, score) for r, score in zip(records, scores, strict=True))
    return path


def write_words(path: Path, records, chance: float | None = None, **changes: str) -> Path:
    rng = np.random.default_rng(1)
    rows = [
        [r.signal, i, changes.get(word, word), rng.random() if chance is None else chance]
        for r in records
        for i, word in enumerate(r.prompt.split())
    ]
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("signal", "position", "word", "probability"), *rows])
    return path


def test_figures_are_those_of_plain_formulas(files: EvaluationOptions, records) -> None:
    found = evaluate(files)
    for name, agreement in found.agreements.items():
        mine = [i for i, r in enumerate(records) if name in ("all", r.hearing_loss)]
        x, y = found.predicted[mine], np.array([100 * records[i].correctness for i in mine])
        assert agreement.n_signals == len(mine)
        assert agreement.rmse.value == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
        assert agreement.ncc.value == pytest.approx(pearsonr(x, y).statistic)
        assert agreement.tau.value == pytest.approx(kendalltau(x, y).statistic)
        assert agreement.bias.value == pytest.approx(np.mean(x - y))
        for estimate in (agreement.rmse, agreement.ncc, agreement.tau, agreement.bias):
            assert estimate.low < estimate.value < estimate.high
            # 95 % of a normal distribution lie within 1.96 standard errors; with ten tracks the resamples are not
            # normal, hence the wide margin.
            assert (estimate.high - estimate.low) / estimate.error == pytest.approx(3.92, rel=0.25)
    assert list(found.agreements) == ["all", "No Loss", "Mild", "Moderate"]
    assert (found.grouped_by, found.n_groups) == ("track", N // 6)
    assert found.notes == ()


def test_seed_decides_and_the_same_seed_repeats(files: EvaluationOptions) -> None:
    first, again, other = (evaluate(dataclasses.replace(files, seed=seed)) for seed in (0, 0, 1))
    assert figures(first) == figures(again)
    assert first.agreements["all"].rmse.value == other.agreements["all"].rmse.value
    assert first.agreements["all"].rmse.low != other.agreements["all"].rmse.low


def test_prompts_take_the_place_of_unknown_tracks(files: EvaluationOptions, records) -> None:
    write_metadata(files.metadata, [dataclasses.replace(records[0], track=""), *records[1:]])
    found = evaluate(files)
    assert (found.grouped_by, found.n_groups) == ("prompt", len({r.prompt for r in records}))


def test_order_of_the_files_does_not_matter(files: EvaluationOptions, records) -> None:
    before = figures(evaluate(files))
    rows = files.scores.read_text(encoding="utf-8").splitlines()
    files.scores.write_text("signal_id,intelligibility_score\n" + "\n".join(reversed(rows)), encoding="utf-8")
    after = figures(evaluate(files))
    assert after.pop("header")
    assert not before.pop("header")
    assert after == before


def test_shares_give_the_same(files: EvaluationOptions, records) -> None:
    found = evaluate(files)
    shares = write(files.scores.with_name("shares.csv"), records, found.predicted / 100)
    again = evaluate(dataclasses.replace(files, scores=shares))
    assert again.file.scale == "0-1"
    assert again.agreements["all"].rmse.value == pytest.approx(found.agreements["all"].rmse.value)


# --- the difference


def test_a_file_does_not_differ_from_itself(files: EvaluationOptions) -> None:
    found = evaluate(dataclasses.replace(files, against=files.scores)).difference
    assert found.n_signals == N
    assert found.rmse == found.ncc == Estimate(0.0, 0.0, 0.0, 0.0)


def test_pairing_makes_the_interval_narrow(files: EvaluationOptions, records) -> None:
    """Scores that are all half a point further off: paired, the difference is all but certain."""
    found = evaluate(files)
    residuals = found.predicted - found.truth
    worse = np.clip(found.predicted + 0.5 * np.sign(residuals), 0, 100)
    other = write(files.scores.with_name("other.csv"), records, worse)
    both = evaluate(dataclasses.replace(files, against=other))
    difference = both.difference
    assert difference.rmse.value == pytest.approx(
        found.agreements["all"].rmse.value - float(np.sqrt(np.mean((worse - found.truth) ** 2)))
    )
    assert difference.rmse.high < 0
    assert difference.rmse.error < 0.1 * found.agreements["all"].rmse.error
    assert "the interval speaks for this file" in difference_line(both)
    turned = evaluate(dataclasses.replace(files, scores=other, against=files.scores))
    assert turned.difference.rmse.value == -difference.rmse.value
    assert turned.difference.rmse.low == pytest.approx(-difference.rmse.high, abs=1e-9)
    assert "the interval speaks for the other file" in difference_line(turned)


def test_difference_is_on_common_signals(files: EvaluationOptions, records) -> None:
    other = write(files.scores.with_name("other.csv"), records[6:], np.full(N - 6, 50.0))
    found = evaluate(dataclasses.replace(files, against=other))
    assert found.difference.n_signals == N - 6
    assert found.notes == (f"{other} lacks 6 of the signals; the difference is on the others",)
    assert found.difference.ncc == Estimate(None, None, None, None)  # constant scores have none
    write(other, [dataclasses.replace(r, signal=f"x{r.signal}") for r in records], np.full(N, 50.0))
    with pytest.raises(UserError, match="expected scores of the same signals, found none of them; check --against"):
        evaluate(dataclasses.replace(files, against=other))


# --- what is left out, and what is refused


def test_missing_scores_are_refused(files: EvaluationOptions, records) -> None:
    write(files.scores, records[:-2], np.full(N - 2, 50.0))
    message = (
        f"for each of {N} labelled signals of .*, found none for 2, for instance {records[-2].signal}; run infer.py"
    )
    with pytest.raises(UserError, match=message):
        evaluate(files)


def test_what_is_left_out_is_noted(files: EvaluationOptions, records) -> None:
    before = evaluate(files)
    content = json.loads(files.metadata.read_text(encoding="utf-8"))
    unlabelled = {"signal": "unlabelled", "prompt": "la la", "hearing_loss": "Mild", "fma": "t"}
    files.metadata.write_text(json.dumps([*content, unlabelled]), encoding="utf-8")
    with files.scores.open("a", encoding="utf-8") as handle:
        handle.write("unlabelled,5\nstranger,7\n")
    found = evaluate(files)
    assert found.notes == (
        "1 scores are of signals that the metadata lacks, for instance stranger",
        f"1 of {N + 1} signals have no label and are left out",
    )
    assert found.agreements == before.agreements
    files.metadata.write_text(json.dumps([unlabelled]), encoding="utf-8")
    with pytest.raises(UserError, match="expected signals with correctness, found none; use a labelled split"):
        evaluate(files)


def test_single_track_is_said(files: EvaluationOptions, records) -> None:
    write_metadata(files.metadata, [dataclasses.replace(r, track="one") for r in records])
    assert "all signals are of one track" in evaluate(files).notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resamples": 1}, "--resamples"),
        ({"seed": -1}, "--seed"),
        ({"baseline_scores": (Path("x"),)}, "expected --train-metadata too"),
    ],
)
def test_options_that_do_not_go_together(files: EvaluationOptions, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(dataclasses.replace(files, **changes))


def test_checkpoint_that_was_trained_on_these_signals(files: EvaluationOptions, records) -> None:
    network = Transformer(TransformerConfig(d_model=8, nhead=2), ("a", "b"))
    facts = {"trained_on": fingerprint([r.signal for r in records])}
    path = files.scores.parent / "model.pt"
    save_checkpoint(path, network, facts)
    (line,) = evaluate(files).notes
    assert f"beside {files.scores} was trained on just these signals: the figures flatter it" in line
    write_metadata(files.metadata, records[:-1])
    assert not any("trained on" in line for line in evaluate(files).notes)
    path.write_bytes(b"no checkpoint")
    assert not any("trained on" in line for line in evaluate(files).notes)


# --- baselines


def test_baseline_on_the_same_signals(files: EvaluationOptions, records) -> None:
    train = heard_records(N, seed=9, prefix="t")[0]
    folder = files.scores.parent / "baselines"
    folder.mkdir()
    for name, some in (("train.clear.jsonl", train), ("valid.clear.jsonl", records)):
        rows = [json.dumps({"signal": r.signal, "clear": r.correctness}) for r in some]
        (folder / name).write_text("\n".join(rows), encoding="utf-8")
    labels = write_metadata(folder / "train_metadata.json", train)
    options = dataclasses.replace(files, baseline_scores=(folder,), train_metadata=labels)
    (baseline,) = evaluate(options).baselines
    assert (baseline.name, baseline.n_train) == ("clear", N)
    assert baseline.ncc.value > 0.97  # a logistic curve of the truth itself
    assert baseline.rmse.low < baseline.rmse.value < baseline.rmse.high
    valid = folder / "valid.clear.jsonl"
    valid.write_text("\n".join(valid.read_text(encoding="utf-8").splitlines()[1:]), encoding="utf-8")
    with pytest.raises(
        UserError, match=rf"expected a score for each labelled signal, found none for 1, .*{records[0].signal}"
    ):
        evaluate(options)


# --- words


def test_words_beside_the_scores_are_found_and_labelled(files: EvaluationOptions, records) -> None:
    assert evaluate(files).words is None
    path = write_words(files.scores.with_name("valid_words.csv"), records)
    words = evaluate(files).words
    assert words.path == path
    for record in records:
        assert words.labels[record.signal] == word_labels(record.prompt.split(), record.response)
        assert len(words.probabilities[record.signal]) == len(record.prompt.split())
    flat = [(p, label) for s in words.labels for p, label in zip(words.probabilities[s], words.labels[s], strict=True)]
    pairs = [(p > q) for p, hit in flat if hit for q, other in flat if not other]
    assert words.auc == pytest.approx(np.mean(pairs))


def test_words_of_others_are_left_out_where_found_and_refused_where_named(files: EvaluationOptions, records) -> None:
    path = write_words(files.scores.with_name("valid_words.csv"), records, **{records[0].prompt.split()[0]: "other"})
    found = evaluate(files)
    assert found.words is None
    assert len(found.notes) == 1
    assert found.notes[0].startswith("words are left out: ")
    with pytest.raises(UserError, match="is 'other', which is not as in the metadata; write it again"):
        evaluate(dataclasses.replace(files, words=path))
    write_words(path, records, chance=1.5)
    with pytest.raises(UserError, match="row 2: expected signal, position, word and a probability in 0 to 1"):
        evaluate(dataclasses.replace(files, words=path))
    write_words(path, records[1:])
    with pytest.raises(UserError, match=rf"words of signal {records[0].signal}, found 0"):
        evaluate(dataclasses.replace(files, words=path))
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(UserError, match="expected the columns signal, position, word, probability, found a, b"):
        evaluate(dataclasses.replace(files, words=path))


def test_words_without_responses_are_left_out(files: EvaluationOptions, records) -> None:
    write_words(files.scores.with_name("valid_words.csv"), records)
    write_metadata(files.metadata, [dataclasses.replace(r, response="") for r in records])
    found = evaluate(files)
    assert found.words is None
    assert "has no responses to compare them with" in found.notes[0]


# --- CLIP2's labels


def test_responses_are_the_labels(files: EvaluationOptions, records) -> None:
    before = evaluate(files)
    bare = [{"signal": r.signal, "prompt": r.prompt, "hearing_loss": r.hearing_loss, "fma": r.track} for r in records]
    files.metadata.write_text(json.dumps(bare), encoding="utf-8")
    answers = {r.signal: [{"response": r.response, "correctness": r.correctness}] for r in records}
    responses = files.metadata.with_name("train_responses.json")
    responses.write_text(json.dumps(answers), encoding="utf-8")
    found = evaluate(dataclasses.replace(files, responses=responses))
    assert found.agreements == before.agreements


# --- figures as text and as JSON


@pytest.mark.parametrize(
    ("number", "digits", "sign", "text"),
    [
        (25.888, 2, False, "25.89"),
        (-0.004, 2, True, "0.00"),
        (1.5, 1, True, "+1.5"),
        (None, 2, False, "-"),
        (-2, 1, True, "-2.0"),
    ],
)
def test_numbers_as_text(number: float | None, digits: int, sign: bool, text: str) -> None:
    assert value(number, digits, sign=sign) == text


def test_estimates_as_text() -> None:
    assert with_error(Estimate(26.0, 0.5, 25, 27), 2) == "26.00 ± 0.50"
    assert with_error(Estimate(26.0, None, None, None), 2) == "26.00"
    assert ends(Estimate(0.5, 0.1, 0.31, 0.69), 2) == "0.31 to 0.69"
    assert ends(Estimate(0.5, None, None, None), 2) == "-"


def test_json_holds_what_the_table_says(files: EvaluationOptions, tmp_path: Path) -> None:
    found: Evaluation = evaluate(dataclasses.replace(files, against=files.scores))
    path = tmp_path / "out" / "figures.json"
    write_evaluation(path, found)
    content = json.loads(path.read_text(encoding="utf-8"))
    for row in agreement_rows(found):
        said = content["agreement"][row[0]]
        assert row[1] == str(said["n_signals"])
        assert row[2] == f"{said['rmse']['value']:.2f} ± {said['rmse']['error']:.2f}"
        assert row[3] == f"{said['rmse']['low']:.2f} to {said['rmse']['high']:.2f}"
    assert content["against"]["path"] == str(files.scores)
    assert len(content["published"]) == 8
    assert not any(math.isnan(v) for v in content["agreement"]["all"]["rmse"].values())
    assert all(f'"{r.signal}"' not in path.read_text(encoding="utf-8") for r in found.records)
