"""scow.training.train: configs, training tables, checkpoints of the word model, cross-validation of a config."""

import dataclasses
from pathlib import Path

import helpers
import numpy as np
import pytest
import torch

from scow.data.tables import read_table, write_table
from scow.errors import UserError
from scow.io import read_yaml, write_json
from scow.models.checkpoint import load_checkpoint
from scow.models.config import DataOptions, WordModelConfig
from scow.models.inputs import load_input
from scow.models.intervals import calibrate
from scow.models.text_prior import PriorCorpus
from scow.models.word_model import WordModel
from scow.training.cross_validation import coverage, cross_validate
from scow.training.train import TrainConfig, cross_validation, fit_setup, load_training_input, train, train_config


def word_config(folder: Path, n_signals: int = 60, **data: object) -> TrainConfig:
    """The prior's corpus contains other signals and those of the tables."""
    tables, metadata = helpers.make_response_tables(folder / "train", n_signals)
    others = helpers.write_prior(folder / "prior.json")
    files = {"metadata": (metadata,), "prior_metadata": (others, metadata), **data}
    options = helpers.training_data(helpers.RESPONSE_COLUMNS, tables, **files)
    return helpers.word_training(options, folder)


@pytest.mark.slow
def test_train_word_model_is_fitted_to_all_and_calibrated_out_of_fold(tmp_path):
    settings = word_config(tmp_path)
    train(settings)
    model, facts = load_checkpoint(tmp_path / "out" / "model.pt", settings.model, helpers.RESPONSE_COLUMNS)
    inputs = load_training_input(settings.data)
    setup, _ = fit_setup(settings, inputs)
    whole = WordModel.fit(inputs, settings.model, setup).state_dict()
    assert model.state_dict().keys() - whole.keys() == {"interval.quantiles"}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in whole.items())
    out = cross_validate(inputs, WordModel, settings.model, setup, n_folds=5)
    assert facts["n_parameters"] == sum(tensor.numel() for tensor in model.state_dict().values())
    assert facts["whisper_millions"] == pytest.approx(37.184 + 71.826)
    assert facts["out_of_fold"] == {"rmse": out.rmse, "r": out.r}
    np.testing.assert_array_equal(model.quantiles, calibrate(out.scores[0] / 100, out.truth / 100, out.hearing_loss))


def test_load_training_input_joins_pairs_and_keeps_labelled_signals(tmp_path):
    pairs = tuple(helpers.make_response_tables(tmp_path / name, 24, prefix=name)[0] for name in "ab")
    for path in pairs[0]:
        table = read_table(path)
        write_table(table.assign(correctness=table["correctness"].mask(table["signal"].isin(["a0000", "a0007"]))), path)
    inputs = load_training_input(DataOptions(("tiny.en",), {}, train_tables=pairs))
    signals = [signal for pair in pairs for signal in load_input(*pair, ("tiny.en",)).signals]
    assert list(inputs.signals) == [signal for signal in signals if signal not in ("a0000", "a0007")]
    with pytest.raises(UserError, match="b0000"):
        load_training_input(DataOptions(("tiny.en",), {}, train_tables=(pairs[1], pairs[1])))


def test_prior_learns_from_metadata_with_responses_inside_and_beside(tmp_path):
    inside, beside = (helpers.records_with_responses(30, seed, prefix)[0] for seed, prefix in ((1, "a"), (2, "b")))
    first = helpers.write_metadata(tmp_path / "first.json", inside)
    bare = [dataclasses.replace(record, response="", track="") for record in beside]
    second = helpers.write_metadata(tmp_path / "train_metadata.json", bare)
    write_json(tmp_path / "train_responses.json", {record.signal: [{"response": record.response}] for record in beside})
    settings = word_config(tmp_path, 12, prior_metadata=(first, second), prior_responses=(None, None))
    setup, _ = fit_setup(settings, load_training_input(settings.data))
    assert [(r.signal, r.response) for r in setup.corpus.records] == [(r.signal, r.response) for r in inside + beside]


def test_train_refuses_tables_it_cannot_learn_from(tmp_path):
    silent = [dataclasses.replace(record, response="") for record in helpers.records_with_responses(12)[0]]
    (tmp_path / "no").mkdir()
    unlabelled = helpers.make_tables(tmp_path / "no", columns=helpers.RESPONSE_COLUMNS, labelled=False)
    one, _ = helpers.make_response_tables(tmp_path / "one", 3)
    without = helpers.write_metadata(tmp_path / "silent.json", silent)
    for data, says in (
        ({"train_tables": ()}, r"data.*csv_path_l"),
        ({"train_tables": (unlabelled,)}, r"t_l.csv: expected signals with correctness, found none"),
        ({"train_tables": (one,), "metadata": (), "prior_metadata": ()}, "at least 2 prompts"),
        ({"prior_metadata": (without,)}, r"silent.json: expected responses"),
    ):
        settings = word_config(tmp_path / "words", 12)
        with pytest.raises(UserError, match=says):
            train(dataclasses.replace(settings, data=dataclasses.replace(settings.data, **data)))
    assert not (tmp_path / "words" / "out").exists()


@pytest.mark.slow
def test_cross_validation_of_lite_on_challenge_data(clip1):
    """One repeat of the shipped recipe on the challenge's valid tables, by track."""
    whole = read_yaml(helpers.ROOT / "checkpoints" / "lite" / "config.yaml")
    data = {k: v.replace("data/", f"{clip1}/", 1) if isinstance(v, str) else v for k, v in whole["data"].items()}
    settings = train_config({**whole, "data": data, "cross_validation": {"folds": 5, "repeats": 1}, "device": "cpu"})
    result, grouped_by = cross_validation(settings)
    assert (grouped_by, result.scores.shape) == ("track", (1, 1175))
    assert result.rmse < 29.0
    assert result.r > 0.600
    # 1,175 signals know a share of 0.8 to 0.012, and their tracks make it less sure.
    assert coverage(result)["all"] == pytest.approx(0.8, abs=0.04)


def test_word_model_and_prior_weigh_signals_by_listeners(tmp_path):
    """Everything answered twice is the same as half the regularisation, and one signal answered twice is not."""
    settings = word_config(tmp_path, 36)

    def values(config: WordModelConfig, n_twice: int) -> torch.Tensor:
        inputs = load_training_input(settings.data)
        setup, _ = fit_setup(settings, inputs)
        doubled = [f"{r} | {r}" if i < n_twice else r for i, r in enumerate(inputs.responses)]
        records = [dataclasses.replace(r, response=f"{r.response} | {r.response}") for r in setup.corpus.records]
        corpus = PriorCorpus(records) if n_twice else setup.corpus
        inputs = dataclasses.replace(inputs, responses=tuple(doubled))
        state = WordModel.fit(inputs, config, dataclasses.replace(setup, corpus=corpus)).state_dict()
        return torch.cat([tensor.double().ravel() for tensor in state.values()])

    half = values(WordModelConfig(c=0.2, prior_c=0.04), 0)
    torch.testing.assert_close(values(WordModelConfig(c=0.1, prior_c=0.02), 36), half, rtol=0, atol=1e-4)
    assert (values(WordModelConfig(c=0.1, prior_c=0.02), 35) - half).abs().max() > 1e-3


def test_training_goes_on_without_files_that_may_be_missing(tmp_path, capsys):
    tables, metadata = helpers.make_response_tables(tmp_path / "here", 24)
    gone = str(tmp_path / "gone.json")
    section: dict = {
        "feature_cols": list(helpers.RESPONSE_COLUMNS),
        "allow_missing": True,
        "metadata": [gone, str(metadata)],
    }
    section |= {"tables": [["a_l.csv", "a_r.csv"], [str(path) for path in tables]]}
    section |= {"prior_metadata": [str(metadata), gone], "prior_responses": [gone, None]}
    config = {"data": section, "model": {"name": "word"}, "train": {"save_dir": str(tmp_path)}}
    found = train_config(config).data
    assert (found.train_tables, found.metadata) == ((tables,), (metadata,))
    assert (found.prior_metadata, found.prior_responses) == ((metadata,), (None,))
    assert capsys.readouterr().err.count("going on without") == 3
    with pytest.raises(UserError, match=r"such as a_l.csv, found none"):
        train_config({**config, "data": section | {"tables": [["a_l.csv", "a_r.csv"]]}})
