"""scow.inference: from tables and a checkpoint to a file of scores, in this process; infer.py has its own tests."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import HEARD_COLUMNS, heard_records, make_heard_tables, make_tables, training_data, write_metadata
from reference_transformer import random_state

from scow.data.provenance import read_provenance, write_provenance
from scow.data.tables import DNSMOS_COLUMNS
from scow.errors import UserError
from scow.inference import InferConfig, InferOptions, infer, infer_config
from scow.metrics import agreement
from scow.models.checkpoint import load_checkpoint, save_checkpoint
from scow.models.config import DataOptions, TrainOptions
from scow.models.inputs import load_input
from scow.models.transformer import Transformer, TransformerConfig
from scow.models.word_model import WordModelConfig
from scow.training.train import CvOptions, TrainConfig, train

SMALL = TransformerConfig(d_model=8, nhead=2)
COLUMNS = ("tiny", "stoi", "pesq")


def read_scores(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as handle:
        return {signal: float(score) for signal, score in csv.reader(handle)}


def tables_of(folder: Path, n_signals: int, **keywords) -> tuple[Path, Path]:
    folder.mkdir()
    return make_tables(folder, n_signals, **keywords)


def wide_checkpoint(folder: Path) -> Transformer:
    """Untrained weights with scores on both sides of 0 and of 1."""
    state = random_state(1, n_features=len(COLUMNS))
    state["fc_out.weight"] *= 8
    state["fc_out.bias"] -= 3.4
    network = Transformer.from_state_dict(TransformerConfig(), COLUMNS, state)
    save_checkpoint(folder / "model.pt", network, {})
    return network


def settings(folder: Path, tables: dict[str, tuple[Path, Path]], **options) -> InferConfig:
    names = options.pop("output_name", {})
    infer_options = InferOptions(**{"splits": tuple(tables), **options})
    return InferConfig(folder, DataOptions(COLUMNS, tables), SMALL, infer_options, names, "cpu")


def test_scores_are_those_of_the_fit(tmp_path):
    """Training and inference agree: same tables, same weights, same scores, up to the six decimals of the file."""
    tables = {name: tables_of(tmp_path / name, 18, seed=seed) for seed, name in enumerate(("train", "valid"))}
    train_options = TrainOptions(save_dir=tmp_path / "out", batch_size=8, epochs=3, lr=1e-3)
    data = training_data(COLUMNS, tables["train"])
    trained = train(TrainConfig("x", data, SMALL, train_options, CvOptions(), device="cpu"))
    folder = trained.folder
    result = infer(settings(folder, tables))
    assert [split.split for split in result.done] == ["train", "valid"]
    for split in result.done:
        batch = load_input(*tables[split.split], COLUMNS)
        expected = 100 * np.clip(trained.model.predict(batch).correctness, 0, 1)
        written = read_scores(folder / f"{split.split}_inference.csv")
        assert tuple(written) == split.signals == batch.signals
        np.testing.assert_allclose(list(written.values()), expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(split.scores, expected)
        assert split.agreement == agreement(expected, 100 * batch.target.double().numpy())


def test_known_when_it_was_trained_on_them(tmp_path):
    tables = {"train": tables_of(tmp_path / "train", 18), "valid": tables_of(tmp_path / "valid", 15)}
    train_options = TrainOptions(save_dir=tmp_path / "out", batch_size=8, epochs=1)
    data = training_data(COLUMNS, tables["train"])
    folder = train(TrainConfig("x", data, SMALL, train_options, CvOptions(), device="cpu")).folder
    # Known by the signals, whatever the split is called.
    tables["same"] = tables_of(tmp_path / "same", 18, seed=3)
    result = infer(settings(folder, tables))
    assert {split.split: split.trained_on for split in result.done} == {"train": True, "valid": False, "same": True}


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("percentage", [True, False])
def test_clamping_and_percentage(tmp_path, clamp, percentage):
    network = wide_checkpoint(tmp_path)
    tables = tables_of(tmp_path / "valid", 18)
    config = settings(
        tmp_path,
        {"valid": tables},
        clamp_scores=clamp,
        scale_to_percentage=percentage,
        output_name={"valid": "mine.csv", "eval": "other.csv"},
    )
    (split,) = infer(config).done
    assert split.path == tmp_path / "mine.csv"
    raw = network.predict(load_input(*tables, COLUMNS)).correctness
    assert raw.min() < -0.01
    assert raw.max() > 1.01
    points = 100 * (np.clip(raw, 0, 1) if clamp else raw)
    expected = points if percentage else points / 100
    np.testing.assert_allclose(list(read_scores(split.path).values()), expected, rtol=0, atol=1e-6)
    # The agreement is in points whatever the file is in.
    truth = 100 * load_input(*tables, COLUMNS).target.double().numpy()
    assert split.agreement.rmse == pytest.approx(agreement(points, truth).rmse, abs=1e-9)


def test_labels(tmp_path):
    network = wide_checkpoint(tmp_path)
    tables = {name: tables_of(tmp_path / name, 12, labelled=name != "none") for name in ("all", "none", "some")}
    for path in tables["some"]:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.loc[table["signal"] > "0004", "correctness"] = ""
        table.to_csv(path, index=False)
    done = {split.split: split for split in infer(settings(tmp_path, tables)).done}
    assert done["none"].agreement is None
    assert done["all"].agreement.n_signals == 12
    assert done["some"].agreement.n_signals == 5
    assert all(len(read_scores(split.path)) == 12 for split in done.values())
    batch = load_input(*tables["some"], COLUMNS)
    expected = agreement(
        100 * np.clip(network.predict(batch).correctness[:5], 0, 1), 100 * batch.target[:5].double().numpy()
    )
    assert done["some"].agreement.rmse == pytest.approx(expected.rmse, abs=1e-9)


def test_split_without_tables_is_named_and_the_others_run(tmp_path):
    wide_checkpoint(tmp_path)
    here = tables_of(tmp_path / "valid", 6)
    half = tables_of(tmp_path / "half", 6)
    half[1].unlink()
    tables = {"eval": (tmp_path / "gone_l.csv", tmp_path / "gone_r.csv"), "valid": here, "half": half}
    result = infer(settings(tmp_path, tables))
    assert [split.split for split in result.done] == ["valid"]
    assert len(result.missing) == 2
    for line, split, path in zip(result.missing, ("eval", "half"), ("gone_l.csv", "t_r.csv"), strict=True):
        assert f"split {split}: expected {tmp_path}" in line
        assert path in line
        for stage in ("metadata_to_csv.py", "whisper_inference.py", "compute_metrics.py"):
            assert stage in line
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["valid_inference.csv"]


def test_no_tables_at_all(tmp_path):
    gone = (tmp_path / "gone_l.csv", tmp_path / "gone_r.csv")
    with pytest.raises(UserError, match=r"split valid: expected .*gone_l.csv.*; split eval: expected .*gone_l.csv"):
        infer(settings(tmp_path, {"valid": gone, "eval": gone}))
    with pytest.raises(UserError, match=r"infer.splits: expected at least one split, found none"):
        infer(settings(tmp_path, {"valid": gone}, splits=()))


def test_unknown_split(tmp_path):
    wide_checkpoint(tmp_path)
    tables = {"valid": tables_of(tmp_path / "valid", 6)}
    with pytest.raises(UserError, match=r"no tables for the split 'vaild' in the config; did you mean valid"):
        infer(settings(tmp_path, tables, splits=("valid", "vaild")))
    assert not list(tmp_path.glob("*.csv"))


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"expected the checkpoint .*model.pt, found none"):
        infer(settings(tmp_path, {"valid": tables_of(tmp_path / "valid", 6)}))


def test_tables_that_lack_a_feature(tmp_path):
    wide_checkpoint(tmp_path)
    tables = {"valid": tables_of(tmp_path / "valid", 6, columns=["tiny", "stoi"])}
    with pytest.raises(UserError, match=r"columns pesq, .*python compute_metrics.py"):
        infer(settings(tmp_path, tables))


def test_weights_that_are_no_numbers(tmp_path):
    state = wide_checkpoint(tmp_path).state_dict()
    state["fc_out.bias"] = torch.tensor([float("nan")])
    save_checkpoint(tmp_path / "model.pt", Transformer.from_state_dict(TransformerConfig(), COLUMNS, state), {})
    with pytest.raises(UserError, match=r"model.pt"):
        infer(settings(tmp_path, {"valid": tables_of(tmp_path / "valid", 6)}))


def whole_config() -> dict:
    return {
        "exp_name": "somewhere",
        "device": "cpu",
        "data": {"valid_path_l": "v\\l.csv", "valid_path_r": "v\\r.csv", "feature_cols": ["tiny"]},
        "train": {"save_dir": "checkpoints\\somewhere"},
        "infer": {"splits": ["valid"], "output_name": {"valid": "x.csv"}},
    }


def test_infer_config():
    config = infer_config(whole_config(), Path("here"))
    assert config.data.tables == {"valid": (Path("v/l.csv"), Path("v/r.csv"))}
    assert config.infer == InferOptions(("valid",), True, True)
    assert config.output_name == {"valid": "x.csv"}
    assert config.device == "cpu"


@pytest.mark.parametrize(
    ("device", "overridden", "found"),
    [
        ("cuda", (), "auto"),  # a published config's wish
        ("cuda:0", ("infer.splits",), "auto"),
        ("cuda", ("device",), "cuda"),  # the user's own
        ("cpu", (), "cpu"),
        ("auto", (), "auto"),
    ],
)
def test_device_of_a_published_config(device, overridden, found):
    assert infer_config({**whole_config(), "device": device}, Path("here"), overridden).device == found


@pytest.mark.parametrize(
    ("overridden", "folder"),
    [
        ((), "here"),
        (("infer.splits", "data.valid_path_l", "train.epochs"), "here"),
        (("exp_name",), "checkpoints/somewhere"),
        (("infer.splits", "train.save_dir"), "checkpoints/somewhere"),
    ],
)
def test_folder_is_the_configs_own_until_the_user_says_otherwise(overridden, folder):
    assert infer_config(whole_config(), Path("here"), overridden).folder == Path(folder)


def test_folder_of_a_config_without_section_train():
    config = {key: value for key, value in whole_config().items() if key != "train"}
    assert infer_config(config, Path("here"), ("exp_name",)).folder == Path("here")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"infer": {"splits": 3}}, "infer.splits: expected a list of names"),
        ({"infer": {"clamp_scores": "often"}}, "infer.clamp_scores: expected bool, found 'often'"),
        ({"model": {"d_model": None}}, "model.d_model: expected int"),
        ({"data": {"feature_cols": ["tiny"], "eval_path_l": "l.csv"}}, "only one for the split eval"),
        ({"infer": 5}, "infer: expected a mapping"),
        ({"train": 5}, "train: expected a mapping"),
        ({"data": 5}, "data: expected a mapping"),
        ({"infer": {"output_name": 5}}, "infer.output_name: expected a mapping"),
        ({"infer": {"output_name": {"valid": None}}}, "infer.output_name.valid: expected a file name"),
    ],
    ids=str,
)
def test_infer_config_refuses(changes, says):
    with pytest.raises(UserError, match=says):
        infer_config({**whole_config(), **changes}, Path("here"))


def test_self_describing_checkpoint_needs_no_section_model(tmp_path):
    """A config beside it may say nothing of the network, or something else."""
    wide_checkpoint(tmp_path)
    tables = {"valid": tables_of(tmp_path / "valid", 6)}
    config = InferConfig(tmp_path, DataOptions(COLUMNS, tables), SMALL, InferOptions(("valid",)), {}, "cpu")
    (split,) = infer(config).done
    loaded = load_checkpoint(tmp_path / "model.pt", TransformerConfig(), COLUMNS)
    expected = 100 * np.clip(loaded.model.predict(load_input(*tables["valid"], COLUMNS)).correctness, 0, 1)
    np.testing.assert_array_equal(split.scores, expected)


# --- the word model: words, intervals, tables without DNSMOS


@pytest.fixture(scope="module")
def word_folder(tmp_path_factory) -> Path:
    """A trained word checkpoint on DNSMOS and two Whisper columns."""
    folder = tmp_path_factory.mktemp("word")
    tables, _ = make_heard_tables(folder / "train", 60)
    prior = write_metadata(folder / "prior.json", heard_records(60, 50, "p")[0])
    data = training_data(HEARD_COLUMNS, tables, prior_metadata=(prior,))
    options = TrainOptions(save_dir=folder / "out")
    return train(TrainConfig("x", data, WordModelConfig(c=0.1), options, CvOptions(), device="cpu")).folder


def word_settings(folder: Path, word_folder: Path, tables: tuple[Path, Path], **options) -> InferConfig:
    folder.mkdir(exist_ok=True)
    shutil.copy(word_folder / "model.pt", folder / "model.pt")
    return InferConfig(
        folder,
        DataOptions(HEARD_COLUMNS, {"valid": tables}),
        WordModelConfig(),
        InferOptions(**{"splits": ("valid",), **options}),
        device="cpu",
    )


def without_columns(tables: tuple[Path, Path], columns: tuple[str, ...]) -> None:
    for path in tables:
        pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=list(columns)).to_csv(path, index=False)


@pytest.mark.parametrize("percentage", [True, False])
def test_details(tmp_path, word_folder, percentage):
    tables, _ = make_heard_tables(tmp_path / "new", 30, seed=200)
    config = word_settings(tmp_path, word_folder, tables, details=True, scale_to_percentage=percentage)
    (split,) = infer(config).done
    assert split.details == (tmp_path / "valid_words.csv", tmp_path / "valid_details.csv")
    batch = load_input(*tables, HEARD_COLUMNS)
    checkpoint = load_checkpoint(tmp_path / "model.pt", TransformerConfig(), HEARD_COLUMNS)
    scores = read_scores(split.path)
    with split.details[0].open(encoding="utf-8", newline="") as handle:
        words = list(csv.DictReader(handle))
    assert list(words[0]) == ["signal", "position", "word", "probability"]
    places = [(s, str(i), w) for s, ws in zip(batch.signals, batch.words, strict=True) for i, w in enumerate(ws)]
    assert [(row["signal"], row["position"], row["word"]) for row in words] == places
    predicted = checkpoint.model.predict(batch)
    np.testing.assert_allclose([float(row["probability"]) for row in words], predicted.words, rtol=0, atol=5.1e-7)
    unit = 100 if percentage else 1
    for signal, score in scores.items():
        own = [float(row["probability"]) for row in words if row["signal"] == signal]
        # Six decimals in both files; those of a word are a hundred times as coarse in points.
        assert score == pytest.approx(unit * np.mean(own), abs=1e-4 if percentage else 1.1e-6)
    with split.details[1].open(encoding="utf-8", newline="") as handle:
        details = list(csv.DictReader(handle))
    assert list(details[0]) == ["signal", "score", "low", "high"]
    assert {row["signal"]: float(row["score"]) for row in details} == scores
    ends = checkpoint.model.interval(predicted.correctness, batch.hearing_loss.numpy(), 0.8)
    for name, end in zip(("low", "high"), ends, strict=True):
        np.testing.assert_allclose([float(row[name]) for row in details], unit * end, rtol=0, atol=1e-6)
    for row in details:
        assert 0 <= float(row["low"]) <= float(row["score"]) <= float(row["high"]) <= unit
    assert np.mean([float(row["high"]) - float(row["low"]) for row in details]) > 0.1 * unit


def test_level_of_the_interval(tmp_path, word_folder):
    tables, _ = make_heard_tables(tmp_path / "new", 30, seed=200)
    widths = []
    for level in (0.5, 0.8, 0.95):
        infer(word_settings(tmp_path / str(level), word_folder, tables, details=True, interval=level))
        details = pd.read_csv(tmp_path / str(level) / "valid_details.csv")
        widths.append((details["high"] - details["low"]).to_numpy())
    assert (widths[0] <= widths[1]).all()
    assert (widths[1] <= widths[2]).all()
    assert widths[0].mean() < widths[1].mean() < widths[2].mean()


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 80.0, float("nan")])
def test_level_out_of_range(tmp_path, word_folder, level):
    tables, _ = make_heard_tables(tmp_path / "new", 6)
    with pytest.raises(UserError, match=r"infer.interval: expected a level in 0.01 to 0.99, found"):
        infer(word_settings(tmp_path, word_folder, tables, interval=level))
    assert not list(tmp_path.glob("*.csv"))


def test_no_details_unless_asked_for(tmp_path, word_folder):
    tables, _ = make_heard_tables(tmp_path / "new", 6)
    (split,) = infer(word_settings(tmp_path, word_folder, tables)).done
    assert split.details == ()
    assert [path.name for path in tmp_path.glob("*.csv")] == ["valid_inference.csv"]


def test_network_has_no_details(tmp_path):
    wide_checkpoint(tmp_path)
    with pytest.raises(UserError, match=r"expected a word model for words and intervals, found a transformer; use -cp"):
        infer(settings(tmp_path, {"valid": tables_of(tmp_path / "valid", 6)}, details=True))


def test_details_of_a_network_leave_nothing_behind(tmp_path):
    wide_checkpoint(tmp_path)
    with pytest.raises(UserError, match="found a transformer"):
        infer(settings(tmp_path, {"valid": tables_of(tmp_path / "valid", 6)}, details=True))
    assert not list(tmp_path.glob("*.csv"))


def test_tables_without_dnsmos(tmp_path, word_folder):
    tables, _ = make_heard_tables(tmp_path / "new", 30, seed=200)
    with_dnsmos = infer(word_settings(tmp_path, word_folder, tables, allow_missing=True)).done[0].scores
    np.testing.assert_array_equal(with_dnsmos, infer(word_settings(tmp_path, word_folder, tables)).done[0].scores)
    without_columns(tables, DNSMOS_COLUMNS)
    with pytest.raises(UserError, match=r"columns dns_sig, dns_bak, dns_ovrl, .*python compute_metrics.py"):
        infer(word_settings(tmp_path, word_folder, tables))
    (split,) = infer(word_settings(tmp_path, word_folder, tables, allow_missing=True, details=True)).done
    fewer = tuple(column for column in HEARD_COLUMNS if column not in DNSMOS_COLUMNS)
    batch = load_input(*tables, fewer)
    model = load_checkpoint(tmp_path / "model.pt", TransformerConfig(), HEARD_COLUMNS).model
    np.testing.assert_array_equal(split.scores, 100 * model.predict(batch).correctness)
    assert np.abs(split.scores - with_dnsmos).max() > 0
    assert np.corrcoef(split.scores, with_dnsmos)[0, 1] > 0.9
    assert len(pd.read_csv(tmp_path / "valid_words.csv")) == sum(len(words) for words in batch.words)


@pytest.mark.parametrize("ears", [(0,), (1,), (0, 1)])
def test_one_dnsmos_column_of_one_ear_is_as_none(tmp_path, word_folder, ears):
    tables, _ = make_heard_tables(tmp_path / "new", 12, seed=200)
    without_columns(tuple(tables[ear] for ear in ears), ("dns_bak",))
    one = infer(word_settings(tmp_path, word_folder, tables, allow_missing=True)).done[0].scores
    for path in tables:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.drop(columns=[name for name in DNSMOS_COLUMNS if name in table]).to_csv(path, index=False)
    none = infer(word_settings(tmp_path, word_folder, tables, allow_missing=True)).done[0].scores
    np.testing.assert_array_equal(one, none)


def test_missing_whisper_columns_are_never_allowed(tmp_path, word_folder):
    tables, _ = make_heard_tables(tmp_path / "new", 6)
    without_columns(tables, ("base", "dns_sig"))
    says = r"expected the columns base"
    with pytest.raises(UserError, match=says):
        infer(word_settings(tmp_path, word_folder, tables, allow_missing=True))
    assert not list(tmp_path.glob("*.csv"))


def test_checkpoints_without_that_head_miss_nothing(tmp_path, word_folder):
    """A network; and a word model whose head without DNSMOS is taken out."""
    wide_checkpoint(tmp_path)
    tables = {"valid": tables_of(tmp_path / "valid", 6, columns=["tiny", "stoi"])}
    with pytest.raises(UserError, match="expected the columns pesq"):
        infer(settings(tmp_path, tables, allow_missing=True))
    heard, _ = make_heard_tables(tmp_path / "new", 6)
    without_columns(heard, ("dns_sig",))
    config = word_settings(tmp_path / "word", word_folder, heard, allow_missing=True)
    whole = load_checkpoint(tmp_path / "word" / "model.pt", TransformerConfig(), HEARD_COLUMNS)
    whole.model.regressions.pop("without_dnsmos")
    save_checkpoint(tmp_path / "word" / "model.pt", whole.model, whole.facts)
    with pytest.raises(UserError, match="expected the columns dns_sig"):
        infer(config)


# --- where the features come from


def note_source(table: Path, column: str, *source: str) -> None:
    """Definition, model and sha256."""
    known = dict(zip(("definition", "model", "sha256"), (*source, None, None), strict=False))
    write_provenance(table, {**read_provenance(table), column: {**known, "failures": {}}})


def trained_with_sources(tmp_path: Path) -> tuple[InferConfig, tuple[Path, Path], dict]:
    """A network trained on tables whose `tiny` has a provenance, and other tables that have none."""
    tables = {name: tables_of(tmp_path / name, 18, seed=seed) for seed, name in enumerate(("train", "valid"))}
    for table in tables["train"]:
        note_source(table, "tiny", "published", "tiny", "a" * 64)
    options = TrainOptions(save_dir=tmp_path / "out", batch_size=8, epochs=1)
    trained = train(
        TrainConfig("x", training_data(COLUMNS, tables["train"]), SMALL, options, CvOptions(), device="cpu")
    )
    return settings(trained.folder, {"valid": tables["valid"]}), tables["valid"], trained.facts


def test_checkpoint_keeps_where_its_features_come_from(tmp_path):
    config, valid, facts = trained_with_sources(tmp_path)
    expected = {"tiny": {"definition": "published", "model": "tiny", "sha256": "a" * 64}}
    assert facts["features"] == expected
    assert load_checkpoint(config.folder / "model.pt", SMALL, COLUMNS).facts["features"] == expected
    (split,) = infer(config).done
    assert split.notes == ()  # nothing is known of these tables
    for table in valid:
        note_source(table, "tiny", "published", "tiny", "a" * 64)
        note_source(table, "stoi", "published")
        note_source(table, "base", "another", "base", "c" * 64)  # the checkpoint does not take it
    assert infer(config).done[0].notes == ()


def test_features_of_another_definition_are_refused(tmp_path):
    config, (left, right), _ = trained_with_sources(tmp_path)
    note_source(right, "tiny", "aligned", "tiny", "a" * 64)
    with pytest.raises(UserError, match=r"t_r\.csv: column tiny is 'aligned' of tiny, but the .* 'published' of tiny"):
        infer(config)
    note_source(right, "tiny", "published", "tiny.en", "a" * 64)
    with pytest.raises(UserError, match=r"t_r\.csv: column tiny is 'published' of tiny\.en"):
        infer(config)
    note_source(right, "tiny", "published", "tiny", "a" * 64)
    note_source(left, "stoi", "aligned")  # trained on published tables, of which nothing is noted
    with pytest.raises(UserError, match=r"t_l\.csv: column stoi is 'aligned', but the .* trained on 'published'"):
        infer(config)
    assert not (config.folder / "valid_inference.csv").exists()


def test_other_weights_are_named_and_predicted_with(tmp_path):
    config, (left, _), _ = trained_with_sources(tmp_path)
    note_source(left, "tiny", "published", "tiny", "b" * 64)
    (split,) = infer(config).done
    (note,) = split.notes
    assert note.startswith(
        f"{left}: column tiny comes from other weights (sha256 bbbbbbbbbbbb) than in training (aaaaaa"
    )
    assert len(read_scores(split.path)) == 18


def test_training_tables_that_disagree_are_refused(tmp_path):
    tables = tables_of(tmp_path / "train", 18)
    note_source(tables[0], "tiny", "published", "tiny", "a" * 64)
    note_source(tables[1], "tiny", "aligned", "tiny", "a" * 64)
    options = TrainOptions(save_dir=tmp_path / "out", batch_size=8, epochs=1)
    with pytest.raises(UserError, match=r"t_r\.csv: column tiny is 'aligned' of tiny, in another training table"):
        train(TrainConfig("x", training_data(COLUMNS, tables), SMALL, options, CvOptions(), device="cpu"))
