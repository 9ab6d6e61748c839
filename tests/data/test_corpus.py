"""Metadata to tables, ``feature_config.yaml``, datasets, model names, and ids that must stay in their folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import ROOT, make_records

from scow.data.feature_config import FeatureConfig, present_datasets, read_feature_config, select_datasets
from scow.data.metadata import (
    Conversion,
    convert_metadata,
    metadata_table,
    read_metadata,
    signal_file,
    unprocessed_file,
)
from scow.data.tables import BASE_COLUMNS, FEATURE_COLUMNS, WHISPER_COLUMNS, read_table, write_table
from scow.errors import SignalError, UserError
from scow.features.runner import configured_models, metric_options, named_models, whisper_options
from scow.text.labels import word_labels

LABELLED = {
    "signal": "0012",
    "fma": "77",
    "original_prompt": "You, and *me*",
    "prompt": "you, and *me*",
    "original_response": "You and",
    "response": "you and",
    "n_words": 3,
    "words_correct": 2,
    "correctness": 0.6666666667,
    "hearing_loss": "Mild",
}
CLIP2 = {
    "signal": "0034",
    "original_prompt": "Don’t, nan null",
    "prompt": "don’t nan null ?",
    "n_words": 4,
    "hearing_loss": "No Loss",
}


def write_json(folder: Path, content: object, name: str = "valid_metadata.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def converted(folder: Path, *records: dict[str, Any]) -> tuple[Conversion, pd.DataFrame]:
    done = convert_metadata(write_json(folder, list(records)))
    return done, read_table(done.tables[0])


# --- metadata to tables ---------------------------------------------------------------------------------------------


def test_one_row_per_word_with_the_nine_columns(tmp_path: Path) -> None:
    done, table = converted(tmp_path, LABELLED, CLIP2)
    assert done.tables == (tmp_path / "valid_metadata_l.csv", tmp_path / "valid_metadata_r.csv")
    assert done.tables[0].read_bytes() == done.tables[1].read_bytes()
    assert (done.n_signals, done.n_rows, done.miscounted) == (2, 7, ())
    assert list(table.columns) == [
        "signal", "prompt", "response", "n_words", "words_correct", "correctness", "hearing_loss", "word", "word_count",
    ]  # fmt: skip
    assert table["word"].tolist() == ["you", "and", "me", "don't", "nan", "null", "?"]
    assert table["signal"].tolist() == ["0012"] * 3 + ["0034"] * 4
    assert table["word_count"].tolist() == [1] * 7
    first = table.iloc[0]
    assert (first["response"], first["n_words"], first["words_correct"]) == ("you and", 3, 2)
    assert first["correctness"] == 0.6666666667
    assert table["hearing_loss"].tolist() == ["Mild"] * 3 + ["No Loss"] * 4


def test_clip2_record_leaves_what_it_lacks_empty(tmp_path: Path) -> None:
    _, table = converted(tmp_path, CLIP2)
    assert table["response"].tolist() == [""] * 4
    assert table[["words_correct", "correctness"]].isna().all(axis=None)
    assert table["n_words"].tolist() == [4.0] * 4
    text = (tmp_path / "valid_metadata_l.csv").read_text(encoding="utf-8").splitlines()
    assert text[1] == "0034,don’t nan null ?,,4.0,,,No Loss,don't,1"


def test_clip2_train_record_keeps_its_correctness(tmp_path: Path) -> None:
    _, table = converted(tmp_path, {**CLIP2, "correctness": 0.25, "phoneme_correctness": 0.5})
    assert table["correctness"].tolist() == [0.25] * 4
    assert "phoneme_correctness" not in table.columns


# --- responses of CLIP2 -----------------------------------------------------------------------------------------------


ANSWERS = {
    "0034": [
        {"response_id": "r1", "original_response": "Don't!", "response": "don't", "hits": 1, "correctness": 0.25},
        {"response_id": "r2", "original_response": "#", "response": "", "hits": 0, "correctness": 0.0},
        {"response_id": "r3", "original_response": "", "response": "don't | nan", "hits": 3, "correctness": 0.75},
    ],
    "elsewhere": [{"response": "of another split", "correctness": 1.0}],
}


def test_responses_give_the_mean_over_listeners(tmp_path: Path) -> None:
    answers = write_json(tmp_path, ANSWERS, "responses.json")
    path = write_json(tmp_path, [CLIP2, {**CLIP2, "signal": "unanswered"}])
    done = convert_metadata(path, responses=answers)
    assert done.unanswered == ("unanswered",)
    table = read_table(done.tables[0]).set_index("signal")
    assert table.loc["0034", "correctness"].tolist() == [1 / 3] * 4
    assert table.loc["0034", "words_correct"].tolist() == [4 / 3] * 4
    assert table.loc["0034", "response"].tolist() == ["don't |  | don't   nan"] * 4  # the bar was a listener's own
    assert word_labels(("don't", "nan", "null", "?"), table["response"].iloc[0]) == (2 / 3, 1 / 3, 0, 0)
    assert table.loc["unanswered", "correctness"].isna().all()
    assert table.loc["unanswered", "response"].tolist() == [""] * 4


def test_metadata_take_precedence_over_responses(tmp_path: Path) -> None:
    answers = write_json(tmp_path, {"0012": ANSWERS["0034"]}, "responses.json")
    assert read_metadata(write_json(tmp_path, [LABELLED]), answers) == read_metadata(write_json(tmp_path, [LABELLED]))
    clip2_train = {**CLIP2, "signal": "0012", "correctness": 0.75}
    (record,) = read_metadata(write_json(tmp_path, [clip2_train]), answers)
    assert (record.correctness, record.words_correct, record.response) == (0.75, 4 / 3, "don't |  | don't   nan")


def test_responses_without_numbers_leave_them_unknown(tmp_path: Path) -> None:
    given = [{"response": "nan"}, {"response": "null", "correctness": 0.5, "hits": 2}]
    answers = write_json(tmp_path, {"0034": given}, "responses.json")
    (record,) = read_metadata(write_json(tmp_path, [CLIP2]), answers)
    assert record.correctness == 0.5  # of the listener that has one
    assert math.isnan(record.words_correct)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected signals with lists of responses, found list"),
        ({}, "expected signals with lists of responses, found dict"),
        ({"0034": []}, r"0034: expected a list of responses, found \[\]"),
        ({"0034": {"response": "x"}}, "0034: expected a list of responses, found {"),
        ({"0034": [{"hits": 1}]}, "0034, response 1: expected a record with the field response"),
        ({"0034": [{"response": 3}]}, "0034, response 1: expected response as text, found 3"),
        ({"0034": [{"response": "", "correctness": 1.5}]}, "response 1: expected correctness in 0 to 1, found 1.5"),
        ({"other": [{"response": ""}]}, "expected responses to signals of .*valid_metadata.json, found none"),
    ],
)
def test_malformed_responses_are_refused(tmp_path: Path, content: object, message: str) -> None:
    answers = write_json(tmp_path, content, "responses.json")
    with pytest.raises(UserError, match=message) as caught:
        convert_metadata(write_json(tmp_path, [CLIP2]), responses=answers)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "valid_metadata_l.csv").exists()


def test_missing_responses_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.json: expected a responses JSON file, found none"):
        read_metadata(write_json(tmp_path, [CLIP2]), tmp_path / "nowhere.json")


def test_null_stands_for_an_absent_field(tmp_path: Path) -> None:
    _, table = converted(tmp_path, {**LABELLED, "response": None, "n_words": None, "correctness": None})
    assert table["response"].tolist() == [""] * 3
    assert table[["n_words", "correctness"]].isna().all(axis=None)


def test_byte_order_mark_in_the_json_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([LABELLED]), encoding="utf-8-sig")
    assert read_metadata(path)[0].signal == "0012"


def test_miscounted_signals_are_named(tmp_path: Path) -> None:
    without_count = {key: value for key, value in CLIP2.items() if key != "n_words"}
    done, _ = converted(tmp_path, {**LABELLED, "n_words": 9}, without_count)
    assert done.miscounted == ("0012",)


def test_quotes_inside_text_survive(tmp_path: Path) -> None:
    _, table = converted(tmp_path, {**LABELLED, "prompt": 'say "you" and', "response": '"'})
    assert table["word"].tolist() == ["say", '"you"', "and"]
    assert table["response"].tolist() == ['"'] * 3


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\0", "\x7f"])
def test_line_ends_and_control_characters_inside_text_become_spaces(tmp_path: Path, end: str) -> None:
    space = " " * len(end)
    _, table = converted(tmp_path, {**LABELLED, "prompt": f"you{end}and me", "response": f"you{end}and"})
    assert table["word"].tolist() == ["you", "and", "me"]
    assert table["prompt"].tolist() == [f"you{space}and me"] * 3
    assert table["response"].tolist() == [f"you{space}and"] * 3
    assert set(table["correctness"]) == {0.6666666667}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", r"not valid JSON at line 1, column 3"),
        ("", r"not valid JSON at line 1, column 1"),
        ("{}", r"expected a list of signal records, found dict"),
        ("[]", r"expected a list of signal records"),
        ('"text"', r"expected a list of signal records, found str"),
        ("[7]", r"record 1: expected a record with named fields, found 7"),
    ],
)
def test_malformed_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        convert_metadata(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_missing_json_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: expected a metadata JSON file, found none"):
        convert_metadata(tmp_path / "none.json")


def test_json_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.json"
    path.write_bytes('[{"signal": "é"}]'.encode("latin-1"))
    with pytest.raises(UserError, match="cannot be read as UTF-8 text"):
        convert_metadata(path)


def test_file_of_another_ending_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path, [LABELLED], "m.txt")
    with pytest.raises(UserError, match=r"expected a file that ends in \.json, found \.txt"):
        convert_metadata(path)


@pytest.mark.parametrize("field", ["signal", "prompt", "hearing_loss"])
def test_record_without_a_needed_field_is_refused(tmp_path: Path, field: str) -> None:
    raw = {key: value for key, value in LABELLED.items() if key != field}
    with pytest.raises(UserError, match=f"record 2: expected the field {field}, found only "):
        read_metadata(write_json(tmp_path, [CLIP2, raw]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("signal", 12, r'expected signal as text, found 12; write it in quotes, "12"'),
        ("signal", "", "expected signal as text, found ''"),
        ("signal", None, "expected signal as text, found None"),
        ("signal", "..", "expected a signal id that is a plain file name"),
        ("signal", ".", "expected a signal id that is a plain file name"),
        ("signal", "../x", "expected a signal id that is a plain file name"),
        ("signal", "a/b", "expected a signal id that is a plain file name"),
        ("signal", "a\\b", "expected a signal id that is a plain file name"),
        ("signal", "C:x", "expected a signal id that is a plain file name"),
        ("signal", "a\nb", "expected a signal id that is a plain file name"),
        ("signal", "a\0b", "expected a signal id that is a plain file name"),
        ("hearing_loss", "Severe", r"\(0012\): expected hearing_loss No Loss, Mild, Moderate, found 'Severe'"),
        ("hearing_loss", "mild", "expected hearing_loss No Loss, Mild, Moderate, found 'mild'"),
        ("hearing_loss", None, "expected hearing_loss No Loss, Mild, Moderate, found ''"),
        ("correctness", 1.01, r"\(0012\): expected correctness in 0 to 1, found 1.01"),
        ("correctness", -0.1, "expected correctness in 0 to 1, found -0.1"),
        ("correctness", "0.5", "expected correctness as a number, found '0.5'"),
        ("n_words", True, "expected n_words as a (finite )?number, found True"),
        ("prompt", ["you"], r"expected prompt as text, found \['you'\]"),
        ("prompt", " *, ", "expected a prompt with at least one word"),
        ("prompt", "", "expected a prompt with at least one word"),
    ],
)
def test_record_with_a_wrong_value_is_refused(tmp_path: Path, field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=f"record 2.*{message}"):
        read_metadata(write_json(tmp_path, [CLIP2, {**LABELLED, field: value}]))


def test_signal_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="signal 0012 occurs twice"):
        read_metadata(write_json(tmp_path, [LABELLED, CLIP2, {**LABELLED, "hearing_loss": "Moderate"}]))


@pytest.mark.parametrize(
    "field",
    [
        "prompt",
        "response",
        pytest.param("signal"),
    ],
)
def test_text_that_utf8_cannot_hold_is_a_user_error(tmp_path: Path, field: str) -> None:
    path = write_json(tmp_path, [{**LABELLED, field: "you \ud800"}])
    with pytest.raises(UserError, match=field):
        convert_metadata(path)


@pytest.mark.parametrize("value", [10**400, float("inf"), float("-inf")], ids=["huge", "inf", "-inf"])
def test_number_beyond_float_is_a_user_error(tmp_path: Path, value: float) -> None:
    path = write_json(tmp_path, [{**LABELLED, "n_words": value}])
    with pytest.raises(UserError, match=r"expected n_words as a (finite )?number"):
        convert_metadata(path)


def test_refuses_to_lose_features_and_touches_nothing(tmp_path: Path) -> None:
    done, table = converted(tmp_path, LABELLED)
    write_table(table.assign(**{"tiny.en": 0.5, "pesq": 2.0}), done.tables[1])  # only the right ear's
    before = [path.read_bytes() for path in done.tables]
    with pytest.raises(UserError, match=r"_r\.csv already holds the features tiny\.en, pesq, .*--force"):
        convert_metadata(tmp_path / "valid_metadata.json")
    assert [path.read_bytes() for path in done.tables] == before
    again = convert_metadata(tmp_path / "valid_metadata.json", force=True)
    assert list(read_table(again.tables[1]).columns) == list(BASE_COLUMNS)


def test_table_without_features_is_replaced_silently(tmp_path: Path) -> None:
    converted(tmp_path, LABELLED)
    _, table = converted(tmp_path, CLIP2)
    assert set(table["signal"]) == {"0034"}


def test_refuses_to_lose_a_column_of_the_user(tmp_path: Path) -> None:
    done, table = converted(tmp_path, LABELLED)
    write_table(table.assign(my_feature=0.5), done.tables[0])
    with pytest.raises(UserError, match=r"my_feature.*--force"):
        convert_metadata(tmp_path / "valid_metadata.json")


def test_refuses_to_replace_what_is_no_table(tmp_path: Path) -> None:
    path = write_json(tmp_path, [LABELLED])
    notes = tmp_path / "valid_metadata_l.csv"
    notes.write_text("my notes\n1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"valid_metadata_l\.csv: expected the columns"):
        convert_metadata(path)
    assert notes.read_text(encoding="utf-8") == "my notes\n1\n"


def test_metadata_table_of_records_in_their_order() -> None:
    records = make_records(6)
    table = metadata_table(list(reversed(records)))
    assert table["signal"].drop_duplicates().tolist() == [record.signal for record in reversed(records)]
    assert len(table) == sum(len(record.prompt.split()) for record in records)
    assert math.isnan(metadata_table(make_records(1, labelled=False))["correctness"].iloc[0])


@pytest.mark.parametrize("ear", ["l", "r"])
def test_real_metadata_give_the_published_base_columns(clip1: Path, tmp_path: Path, ear: str) -> None:
    folder = clip1 / "cadenza_data_valid" / "metadata"
    table = metadata_table(read_metadata(folder / "valid_metadata.json"))
    published = read_table(folder / f"valid_metadata_{ear}.csv")
    published = published[published["word_count"] == 1].reset_index(drop=True)
    assert len(table) == len(published) == 8_623
    write_table(table, tmp_path / "t.csv")
    written = read_table(tmp_path / "t.csv")
    for column in BASE_COLUMNS:
        if column == "correctness":
            # The metadata hold ten decimals, the published tables nine: they differ by half a unit of the ninth.
            np.testing.assert_allclose(written[column], published[column], rtol=0, atol=5.1e-10)
        else:
            pd.testing.assert_series_equal(written[column], published[column], check_dtype=False)


# --- ids and files --------------------------------------------------------------------------------------------------


def test_files_of_a_signal(tmp_path: Path) -> None:
    assert signal_file(tmp_path, "0012") == tmp_path / "0012.flac"
    assert unprocessed_file(tmp_path, "0012") == tmp_path / "0012_unproc.flac"


@pytest.mark.parametrize("function", [signal_file, unprocessed_file])
@pytest.mark.parametrize("signal", ["../x", "a/../../x", "/x", "..\\x", "a\0"])
def test_id_that_leads_out_of_its_folder_is_refused(tmp_path: Path, function: Any, signal: str) -> None:
    with pytest.raises(SignalError, match="expected a signal id that is a plain file name"):
        function(tmp_path, signal)


# --- feature_config.yaml --------------------------------------------------------------------------------------------


def entry(name: str = "eval_left", **changes: Any) -> dict[str, Any]:
    split, channel = name.rsplit("_", 1)
    plain = {"name": name, "split": split, "channel": channel, "csv_path": f"{name}.csv", "signal_dir": "signals"}
    return {**plain, **changes}


def write_config(folder: Path, datasets: object = None, **sections: Any) -> Path:
    path = folder / "feature_config.yaml"
    content = {"datasets": [entry()] if datasets is None else datasets, **sections}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def config_of(folder: Path, datasets: object = None, **sections: Any) -> FeatureConfig:
    return read_feature_config(write_config(folder, datasets, **sections))


@pytest.fixture(scope="module")
def shipped() -> FeatureConfig:
    return read_feature_config(ROOT / "feature_config.yaml")


def test_shipped_config_has_both_ears_of_the_three_splits(shipped: FeatureConfig) -> None:
    assert not shipped.unknown
    names = [dataset.name for dataset in shipped.datasets]
    assert set(names) >= {f"{split}_{ear}" for split in ("train", "valid", "eval") for ear in ("left", "right")}
    for dataset in shipped.datasets:
        base = ROOT / f"data/cadenza_data_{dataset.split}"
        assert dataset.name == f"{dataset.split}_{dataset.channel}"
        ear = dataset.channel[0]
        assert dataset.csv_path == base / "metadata" / f"{dataset.split}_metadata_{ear}.csv"
        assert dataset.signal_dir == base / dataset.split / "signals"
        assert dataset.reference_dir == base / dataset.split / "unprocessed"
        assert dataset.is_train == (dataset.split == "train")


def test_shipped_config_names_all_models_and_metrics(shipped: FeatureConfig) -> None:
    assert tuple(model.column for model in configured_models(shipped)) == WHISPER_COLUMNS
    assert whisper_options(shipped).splits == ("train", "valid", "eval")
    assert whisper_options(shipped).model_dir == ROOT / "models"
    options = metric_options(shipped)
    assert (options.quality, options.dns, options.dnsmos_model, options.default_datasets) == (True, True, None, ())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("eval_left", "eval_left"), ("signal_eval_left", "eval_left"), ("signal_train_right", "train_right")],
)
def test_both_spellings_of_a_dataset(shipped: FeatureConfig, name: str, expected: str) -> None:
    assert [dataset.name for dataset in select_datasets(shipped, names=[name])] == [expected]


def test_select_by_split_and_ear(shipped: FeatureConfig) -> None:
    chosen = select_datasets(shipped, splits=["valid", "train"], channel="right")
    assert [dataset.name for dataset in chosen] == ["train_right", "valid_right"]
    assert select_datasets(shipped) == shipped.datasets


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"names": ["evl_left"]}, r"no dataset 'evl_left' in .*did you mean eval_left"),
        ({"names": ["eval_left", "signal_vaild_right"]}, r"no dataset 'signal_vaild_right'.*valid_right"),
        ({"splits": ["vald"]}, r"no split 'vald' in .*did you mean valid"),
        ({"splits": ["zzz"]}, r"no split 'zzz' in .*known: train, valid, eval"),
        ({"names": ["eval_left"], "channel": "right"}, "no dataset of .* fits all of --datasets, --splits"),
    ],
)
def test_unknown_dataset_or_split_is_named_with_the_nearest(
    shipped: FeatureConfig, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        select_datasets(shipped, **asked)


def test_backslash_paths_are_taken_for_slashes(tmp_path: Path) -> None:
    raw = entry(csv_path="data\\eval\\e_l.csv", signal_dir=".\\data\\s", reference_dir="data\\u", audio_dir="d\\a")
    dataset = config_of(tmp_path, [raw]).datasets[0]
    assert dataset.csv_path == tmp_path / "data" / "eval" / "e_l.csv"
    assert dataset.signal_dir == tmp_path / "data" / "s"
    assert dataset.reference_dir == tmp_path / "data" / "u"
    assert dataset.audio_dir == tmp_path / "d" / "a"
    assert dataset.degraded_dir is None


def test_backslashes_in_the_sections(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny.en.pt").touch()
    config = config_of(
        tmp_path,
        whisper={"model_dir": "my\\models", "models": ["weights\\tiny.en.pt"]},
        metrics={"dnsmos_model": "onnx\\m.onnx"},
    )
    assert whisper_options(config).model_dir == tmp_path / "my" / "models"
    assert metric_options(config).dnsmos_model == tmp_path / "onnx" / "m.onnx"
    assert configured_models(config)[0].path == tmp_path / "weights" / "tiny.en.pt"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    table = tmp_path / "elsewhere" / "t.csv"
    assert config_of(tmp_path, [entry(csv_path=str(table))]).datasets[0].csv_path == table


def test_keys_that_nothing_reads_are_noted(tmp_path: Path) -> None:
    assert config_of(tmp_path, [entry(chanel="left")]).unknown == ("eval_left.chanel",)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([entry(), entry()], "dataset eval_left is defined twice"),
        ([], "expected a list `datasets:`"),
        ({"a": 1}, "expected a list `datasets:`"),
        (["eval_left"], r"datasets\[0\]: expected an entry with name, split, csv_path, found 'eval_left'"),
        ([entry(), entry("eval_right", channel="middle")], r"datasets\[1\]: expected channel left or right"),
        ([{k: v for k, v in entry().items() if k != "csv_path"}], r"datasets\[0\]\.csv_path: expected a value"),
        ([{**entry(), "name": 7}], r"datasets\[0\]\.name: expected str, found 7"),
        ([entry(is_train="yes")], r"datasets\[0\]\.is_train: expected bool, found 'yes'"),
    ],
)
def test_wrong_dataset_entries_are_refused(tmp_path: Path, datasets: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_of(tmp_path, datasets)


def test_missing_or_malformed_config_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: expected a YAML config, found no such file"):
        read_feature_config(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_text("datasets: [\n", encoding="utf-8")
    with pytest.raises(UserError, match="not valid YAML at line 2"):
        read_feature_config(tmp_path / "b.yaml")
    with pytest.raises(UserError, match="expected a mapping `whisper:`"):
        config_of(tmp_path, whisper=["tiny"])


def test_missing_table_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, [entry(csv_path="eval_metadata_l.csv"), entry("eval_right")])
    (tmp_path / "eval_right.csv").touch()
    for asked in ({"names": ["eval_left"]}, {"splits": ["eval"]}):
        with pytest.raises(
            UserError,
            match=r"dataset eval_left: expected its table .*eval_metadata_l\.csv, found none; "
            r"make it with: python metadata_to_csv\.py --json .*eval_metadata\.json$",
        ):
            present_datasets(config, **asked)


def test_what_is_absent_is_passed_over_unless_asked_for(tmp_path: Path) -> None:
    config = config_of(tmp_path, [entry(), entry("eval_right"), entry("train_left")])
    with pytest.raises(UserError, match="expected its table"):  # nothing at all is there
        present_datasets(config)
    (tmp_path / "eval_right.csv").touch()
    (tmp_path / "train_left.csv").touch()
    assert [d.name for d in present_datasets(config)] == ["eval_right", "train_left"]
    assert [d.name for d in present_datasets(config, default_splits=["eval"])] == ["eval_right"]
    assert [d.name for d in present_datasets(config, default_names=["train_left"])] == ["train_left"]
    assert [d.name for d in present_datasets(config, splits=["train"], default_splits=["eval"])] == ["train_left"]
    assert [d.name for d in present_datasets(config, channel="right")] == ["eval_right"]


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", WHISPER_COLUMNS)
@pytest.mark.parametrize("spelling", ["{}", "openai/whisper-{}", "whisper-{}"])
def test_model_names_either_way(tmp_path: Path, column: str, spelling: str) -> None:
    (model,) = configured_models(config_of(tmp_path, whisper={"models": [spelling.format(column)]}))
    assert model.column == column
    # openai-whisper's own "large" is v3: the column is v1.
    assert model.openai_name == ("large-v1" if column == "large" else column)
    assert model.path is None


@pytest.mark.parametrize(
    ("name", "column", "openai_name"),
    [
        ("large-v1", "large", "large-v1"),
        ("openai/whisper-large", "large", "large-v1"),
        ("turbo", "large-v3-turbo", "large-v3-turbo"),
    ],
)
def test_aliases(tmp_path: Path, name: str, column: str, openai_name: str) -> None:
    (model,) = named_models([name])
    assert (model.column, model.openai_name) == (column, openai_name)
    (mapped,) = configured_models(config_of(tmp_path, whisper={"models": {column: name}}))
    assert mapped == model


def test_paths_in_list_and_mapping(tmp_path: Path) -> None:
    for name in ("tiny.en.pt", "mine.pt", "large-v1.pt"):
        (tmp_path / name).touch()
    listed = configured_models(config_of(tmp_path, whisper={"models": ["tiny.en.pt", "large-v1.pt"]}))
    assert [(m.column, m.path) for m in listed] == [
        ("tiny.en", tmp_path / "tiny.en.pt"),
        ("large", tmp_path / "large-v1.pt"),
    ]
    (mapped,) = configured_models(config_of(tmp_path, whisper={"models": {"small": "mine.pt"}}))
    assert (mapped.column, mapped.path) == ("small", tmp_path / "mine.pt")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["tiny.eng"], r"no Whisper column or model 'tiny\.eng'; did you mean .*tiny\.en"),
        (["openai/whisper-mediun"], "no Whisper column or model 'mediun'; did you mean medium"),
        (["large-v4"], "did you mean .*large-v3"),
        (["xyz"], "no Whisper column or model 'xyz'; known: tiny, tiny.en"),
        (["tiny", "openai/whisper-tiny"], "expected each model once, found tiny twice"),
        (["large", "large-v1"], "expected each model once, found large twice"),
        ([], "expected at least one of tiny"),
        (None, "expected whisper.models as a list of names, found None"),
        ("tiny", "expected whisper.models as a list of names, found 'tiny'"),
        ([3], "expected a model name, found 3"),
        ({"tiny": "base"}, "column tiny expects the model tiny, found 'base'"),
        ({"large": "large-v3"}, "column large expects the model large, found 'large-v3'"),
        (["gone.pt"], r"expected the weights .*gone\.pt, found no such file"),
        ({"my_column": "tiny"}, "no Whisper column or model 'my_column'"),
    ],
)
def test_wrong_models_are_refused(tmp_path: Path, models: object, message: str) -> None:
    config = config_of(tmp_path, whisper={"models": models})
    with pytest.raises(UserError, match=message):
        configured_models(config)


def test_options_of_the_wrong_type_are_named(tmp_path: Path) -> None:
    config = config_of(tmp_path, whisper={"batch_size": "many"}, metrics={"quality": "no"})
    with pytest.raises(UserError, match=r"whisper\.batch_size: expected int, found 'many'"):
        whisper_options(config)
    with pytest.raises(UserError, match=r"metrics\.quality: expected bool, found 'no'"):
        metric_options(config)
    config = config_of(tmp_path, metrics={"default_datasets": "eval_left"})
    assert metric_options(config).default_datasets == ("eval_left",)


def test_feature_columns_are_the_nineteen_less_the_word_count() -> None:
    # The published feature_cols are n_words and these eighteen.
    assert len(FEATURE_COLUMNS) == 18
