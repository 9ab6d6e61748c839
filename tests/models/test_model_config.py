"""scow.models.config: the sections model, train and data, and values out of range."""

from pathlib import Path

import pytest
from helpers import REFUSALS, refusal

from scow.config import options_from
from scow.models.config import TrainOptions, TransformerConfig, WordModelConfig, data_options, model_config

HUGE = 10**400  # more than a float holds


def test_model_config():
    assert model_config(None) == model_config({"name": "published"}) == TransformerConfig()
    word = model_config({"name": "word", "c": "1e-2", "ear": "left", "without": ["dns", "severity", "hinge"]})
    assert word == WordModelConfig(0.01, ear="left", without=("dns", "hearing_loss", "knots"))  # today's block names


@pytest.mark.parametrize("section", [*REFUSALS["model"], {"nhead": HUGE}, {"dropout": HUGE}])
def test_model_config_out_of_range(section):
    with refusal(rf"^model\.{next(iter(section))}: expected .*, found"):
        model_config(section)


@pytest.mark.parametrize("key", REFUSALS["train"])
def test_train_options_out_of_range(key):
    for value in [*REFUSALS["train"][key], *([HUGE] if key == "epochs" else [])]:
        with refusal(rf"^train\.{key}: expected .*, found"):
            options_from(TrainOptions, {"save_dir": "x", key: value}, "train")


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


@pytest.mark.parametrize(("message", "section"), REFUSALS["data"])
def test_data_options_refuse(message, section):
    with refusal(f"^{message}"):
        data_options({"feature_cols": ["tiny"], **section})
