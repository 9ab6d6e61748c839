"""scow.models.config: the sections model, train and data, and values out of range."""

from pathlib import Path

import pytest

from scow.config import options_from
from scow.errors import UserError
from scow.models.config import TrainOptions, TransformerConfig, WordModelConfig, data_options, model_config

NAN, INF = float("nan"), float("inf")


def test_model_config():
    assert model_config(None) == model_config({"name": "published"}) == TransformerConfig()
    word = model_config({"name": "word", "c": "1e-2", "ear": "left", "without": ["dns", "severity", "hinge"]})
    assert word == WordModelConfig(0.01, ear="left", without=("dns", "hearing_loss", "knots"))  # today's block names


@pytest.mark.parametrize(
    "section",
    [
        *[{"nhead": 3}, {"nhead": 0}, {"d_model": 9, "nhead": 3}, {"d_model": 0}, {"num_layers": 0}, {"n_hearing": 2}],
        *[{"dropout": 2.0}, {"dropout": NAN}, {"name": "wrod"}],
        *[{"d_model": 10**6}, {"num_layers": 10**6}, {"n_hearing": 10**9}, {"nhead": 10**400}, {"dropout": 10**400}],
        *[{"c": value, "name": "word"} for value in (0.0, NAN, INF)],
        *[{"prior_c": -1.0, "name": "word"}, {"ear": "middle", "name": "word"}, {"without": ["aggr"], "name": "word"}],
    ],
    ids=str,
)
def test_model_config_out_of_range(section):
    with pytest.raises(UserError, match=rf"^model\.{next(iter(section))}: expected .*, found"):
        model_config(section)


@pytest.mark.parametrize(
    "section",
    [
        *[{"batch_size": 1}, {"epochs": 0}, {"val_split": 0.0}, {"val_split": 1.0}, {"val_split": NAN}],
        *[{"lr": 0.0}, {"lr": NAN}, {"lr": INF}, {"corr_lambda": NAN}, {"corr_lambda": -1.0}],
        *[{"epochs": value} for value in (10**9, 10**400, 1e30, "1e30", INF, 2.5)],
    ],
    ids=str,
)
def test_train_options_out_of_range(section):
    with pytest.raises(UserError, match=rf"^train\.{next(iter(section))}: expected .*, found"):
        options_from(TrainOptions, {"save_dir": "x", **section}, "train")


def test_data_options():
    section = {
        "csv_path_l": "data\\train\\l.csv",
        "csv_path_r": "data/train/r.csv",
        **{"valid_path_l": "v/valid_l.csv", "valid_path_r": "v_r.csv", "eval_path_l": None, "eval_path_r": None},
        **{"valid_metadata": "m\\v.json", "metadata": "data\\m.json", "feature_cols": ["tiny", "stoi"]},
    }
    options = data_options(section)
    train = (Path("data/train/l.csv"), Path("data/train/r.csv"))
    assert options.tables == {"train": train, "valid": (Path("v/valid_l.csv"), Path("v_r.csv"))}
    assert options.train_tables == (train,)
    assert (options.feature_cols, options.target) == (("tiny", "stoi"), "correctness")
    assert (options.metadata, options.prior_metadata) == ((Path("data/m.json"),), ())
    assert options.split_metadata == {"valid": Path("m/v.json")}
    several = data_options(
        {**section, "tables": [["a\\l.csv", "a/r.csv"], ["b_l.csv", "b_r.csv"]], "metadata": ["a\\m.json", "b.json"]}
    )
    assert several.train_tables == ((Path("a/l.csv"), Path("a/r.csv")), (Path("b_l.csv"), Path("b_r.csv")))
    assert several.tables["train"] == train  # for inference
    assert several.metadata == (Path("a/m.json"), Path("b.json"))
    assert data_options({"feature_cols": ["tiny"]}).train_tables == ()
    prior = {"prior_metadata": ["a.json", "b.json"], "prior_responses": [None, "c.json"]}
    assert data_options({**section, **prior}).prior_responses == (None, Path("c.json"))
    assert Path("c.json") in data_options({**section, **prior}).training_files


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"eval_path_r": "r.csv"}, "data: .*eval"),
        ({"csv_path_l": "l.csv", "csv_path_r": None}, "data: .*train"),
        *[({"feature_cols": value}, "data.feature_cols") for value in (None, [], ["tiny", 3], ["a", "b", "a"])],
        *[({"tables": value}, "data.tables") for value in (["l.csv", "r.csv"], [["l.csv"]], "l.csv")],
        ({"metadata": 5}, "data.metadata"),
        ({"prior_metadata": ["a.json", 5]}, "data.prior_metadata"),
        ({"prior_metadata": ["a.json", "b.json"], "prior_responses": "c.json"}, "data.prior_responses"),
    ],
)
def test_data_options_refuse(section, key):
    with pytest.raises(UserError, match=f"^{key}"):
        data_options({"feature_cols": ["tiny"], **section})
