"""Evaluation: the figures against plain formulas, the pairing, and what is refused or noted."""

import dataclasses
import json

import numpy as np
import pytest
from helpers import records_with_responses, write_metadata, write_words
from scipy.stats import kendalltau, pearsonr, spearmanr

from scow.data.scores import CV_SCORES, write_scores
from scow.errors import UserError
from scow.evaluation.evaluate import difference_line, error_cells, evaluate, published_table, systems_table
from scow.io import sha256_of, write_json
from scow.metrics import Estimate
from scow.models.facts import fingerprint
from scow.text.labels import word_labels


def figures(files, **options):
    return evaluate(**{**files, **options}).figures


def test_figures_are_those_of_plain_formulas(files, records) -> None:
    found = evaluate(**{**files, "resamples": 300})
    for name, agreement in found.figures["agreement"].items():
        mine = [i for i, r in enumerate(records) if name in ("all", r.hearing_loss)]
        x, y = found.signals["predicted"][mine], np.array([100 * records[i].correctness for i in mine])
        values = {
            "rmse": np.sqrt(np.mean((x - y) ** 2)),
            "ncc": pearsonr(x, y).statistic,
            "tau": kendalltau(x, y).statistic,
            "bias": np.mean(x - y),
        }
        assert agreement["mae"] == Estimate(pytest.approx(np.mean(np.abs(x - y))))
        assert agreement["spearman"] == Estimate(pytest.approx(spearmanr(x, y).statistic))
        assert agreement["n_signals"] == len(mine)
        for key, value in values.items():
            assert agreement[key].value == pytest.approx(value)
            assert agreement[key].low < agreement[key].value < agreement[key].high
            # 95 % of a normal distribution are within 1.96 standard errors; with ten tracks the margin is wide.
            assert (agreement[key].high - agreement[key].low) / agreement[key].error == pytest.approx(3.92, rel=0.25)
    assert list(found.figures["agreement"]) == ["all", "No Loss", "Mild", "Moderate"]
    assert (found.figures["grouped_by"], found.figures["n_groups"]) == ("track", 10)
    assert found.figures["notes"] == []


def test_seed_determines_the_resamples(files) -> None:
    first, again, other = (figures(files, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first["agreement"]["all"]["rmse"].value == other["agreement"]["all"]["rmse"].value
    assert first["agreement"]["all"]["rmse"].low != other["agreement"]["all"]["rmse"].low


def test_groups_are_prompts_where_a_track_is_unknown(files, records) -> None:
    write_metadata(files["metadata"], [dataclasses.replace(records[0], track=""), *records[1:]])
    found = figures(files)
    assert (found["grouped_by"], found["n_groups"]) == ("prompt", len({r.prompt for r in records}))
    write_metadata(files["metadata"], [dataclasses.replace(r, track="one") for r in records])
    assert "all signals are of one track" in figures(files)["notes"][0]


def test_official_results_are_those_of_the_release(files) -> None:
    content = json.loads(files["metadata"].read_text(encoding="utf-8"))

    def release(**changes) -> str:
        records = [{key: value for key, value in {**raw, **changes}.items() if value is not None} for raw in content]
        write_json(files["metadata"], records)
        found = figures(files)
        assert bool(published_table(found)[1:]) == bool(found["release"])
        return found["release"]

    assert release() == "clip1"
    assert release(fma=None, phoneme_correctness=0.5) == "clip2"
    assert (release(fma=None), release(phoneme_correctness=0.5)) == ("", "")
    write_json(files["metadata"], [content[0] | {"fma": ""}, *content[1:]])
    assert figures(files)["release"] == ""


def test_difference_is_paired(files) -> None:
    """Scores that are all half a point further off: paired, the difference is all but certain."""
    signals = evaluate(**files).signals
    worse = np.clip(signals["predicted"] + 0.5 * np.sign(signals["predicted"] - signals["true"]), 0, 100)
    other = files["scores"].with_name("other.csv")
    write_scores(other, signals["signal"], worse)
    found = figures(files, against=other)
    difference, alone = found["against"]["rmse"], found["agreement"]["all"]["rmse"]
    assert difference.value == pytest.approx(alone.value - found["against"]["theirs"].value)
    theirs = pearsonr(worse, signals["true"]).statistic
    assert found["against"]["their_ncc"].value == pytest.approx(theirs)
    assert f"NCC {theirs:.3f}" in difference_line(found)
    assert difference.high < 0
    assert difference.error < 0.1 * alone.error
    assert "speaks for this file" in difference_line(found)
    swapped = figures(files, scores=other, against=files["scores"])
    assert swapped["against"]["rmse"].low == pytest.approx(-difference.high, abs=1e-9)
    assert "speaks for the other file" in difference_line(swapped)


def test_difference_is_on_common_signals(files, records) -> None:
    other = files["scores"].with_name("other.csv")
    write_scores(other, [r.signal for r in records[6:]], np.full(54, 50.0))
    found = figures(files, against=other)
    assert found["against"]["n_signals"] == 54
    assert found["against"]["ncc"] == Estimate(None)  # constant scores
    assert "lacks 6 of the signals" in found["notes"][0]
    write_scores(other, ["x"], np.array([50.0]))
    with pytest.raises(UserError, match="--against"):
        figures(files, against=other)


def test_missing_scores_are_refused_and_others_noted(files, records) -> None:
    before = figures(files)
    content = json.loads(files["metadata"].read_text(encoding="utf-8"))
    unlabelled = {"signal": "unlabelled", "prompt": "la la", "hearing_loss": "Mild", "fma": "t"}
    files["metadata"].write_text(json.dumps([*content, unlabelled]), encoding="utf-8")
    with files["scores"].open("a", encoding="utf-8") as handle:
        handle.write("unlabelled,5\nstranger,7\n")
    found = figures(files)
    assert found["agreement"] == before["agreement"]
    assert ["stranger" in found["notes"][0], "1 of 61 signals" in found["notes"][1]] == [True, True]
    write_scores(files["scores"], [r.signal for r in records[:-2]], np.full(58, 50.0))
    with pytest.raises(UserError, match=f"none for 2, for instance {records[-2].signal}"):
        figures(files)
    files["metadata"].write_text(json.dumps([unlabelled]), encoding="utf-8")
    with pytest.raises(UserError, match="expected signals with correctness"):
        figures(files)


@pytest.mark.parametrize(("name", "value"), [("resamples", 1), ("resamples", 10**9), ("seed", -1), ("seed", 10**400)])
def test_options_out_of_range_are_refused(files, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"--{name}"):
        figures(files, **{name: value})


def test_in_sample_figures_are_noted(files, records) -> None:
    import torch

    def noted() -> bool:
        return any("was trained on just these signals" in note for note in figures(files)["notes"][:1])

    facts = {"trained_on": fingerprint([r.signal for r in records])}
    path = files["scores"].with_name("model.pt")
    torch.save({"format": "stereo-chorus-of-whispers/1", "facts": facts}, path)
    assert noted()
    copy = {"sha256": sha256_of(path), "facts": {}}  # of this file, so it counts, and of no other
    write_json(path.with_suffix(".json"), copy)
    assert not noted()
    torch.save({"format": "stereo-chorus-of-whispers/1", "facts": facts, "other": 1}, path)
    assert noted()
    held_out = files["scores"].rename(path.with_name(CV_SCORES))
    assert figures(files, scores=held_out)["notes"] == []
    held_out.rename(files["scores"])
    write_metadata(files["metadata"], records[:-1])
    assert not noted()
    path.write_bytes(b"no checkpoint")
    assert not noted()


def test_baselines_on_the_same_signals(files, records) -> None:
    train = records_with_responses(60, seed=9, prefix="t")[0]
    folder = files["scores"].with_name("baselines")
    folder.mkdir()
    for name, some in (("train.clear.jsonl", train), ("valid.clear.jsonl", records)):
        rows = [json.dumps({"signal": r.signal, "clear": r.correctness}) for r in some]
        (folder / name).write_text("\n".join(rows), encoding="utf-8")
    options = {"baseline_scores": [folder], "train_metadata": write_metadata(folder / "train_metadata.json", train)}
    found = figures(files, **options)
    (baseline,) = found["baselines"]
    assert (baseline["name"], baseline["n_train"]) == ("clear", 60)
    assert baseline["ncc"].value > 0.97  # a logistic curve of the truth itself
    assert systems_table(found)[2][2:4] == error_cells(baseline["rmse"])
    (folder / "valid.clear.jsonl").write_text("\n".join(rows[1:]), encoding="utf-8")
    with pytest.raises(UserError, match=f"none for 1, .*{records[0].signal}"):
        figures(files, **options)


def test_words_beside_the_scores_are_found_and_labelled(files, records) -> None:
    assert evaluate(**files).words is None
    path = write_words(files["scores"].with_name("valid_words.csv"), records)
    found = evaluate(**files)
    assert found.words.attrs["path"] == path
    labels = found.words.groupby("signal", sort=False)["label"].apply(tuple)
    assert all(labels[r.signal] == word_labels(r.prompt.split(), r.response) for r in records)
    hits, misses = (found.words.loc[found.words["label"] == hit, "probability"] for hit in (1, 0))
    assert found.figures["word_auc"] == pytest.approx(np.mean([p > q for p in hits for q in misses]))


def test_words_of_others_are_noted_where_found_and_refused_where_named(files, records) -> None:
    path = files["scores"].with_name("valid_words.csv")
    first = records[0]
    for some, message in (
        ({"records": records, first.prompt.split()[0]: "other"}, first.signal),
        ({"records": records, "probability": 1.5}, "found 1.5"),
        ({"records": records[1:]}, first.signal),
    ):
        write_words(path, **some)
        found = evaluate(**files)
        assert found.words is None
        assert found.figures["notes"][0].startswith("words are left out: ")
        with pytest.raises(UserError, match=message):
            evaluate(**files, words=path)
    write_words(path, records)
    path.write_text(path.read_text(encoding="utf-8") + path.read_text(encoding="utf-8").splitlines()[-1] + "\n")
    with pytest.raises(UserError, match="each word once"):
        evaluate(**files, words=path)
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(UserError, match="expected the columns signal, position, word, probability, found a, b"):
        evaluate(**files, words=path)
    write_words(path, records)
    write_metadata(files["metadata"], [dataclasses.replace(r, response="") for r in records])
    assert "no responses" in figures(files)["notes"][0]
