"""``feature_config.yaml``: the shipped file, the choice of datasets, and what is refused."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import REFUSALS, ROOT, golden, refusal

from scow.data.feature_config import FeatureConfig, present_datasets, read_feature_config
from scow.errors import UserError


def entry(name: str = "eval_left", **changes: Any) -> dict[str, Any]:
    split, channel = name.rsplit("_", 1)
    return {"name": name, "split": split, "channel": channel, "csv_path": f"{name}.csv", "signal_dir": "s", **changes}


def config_of(folder: Path, datasets: object, **sections: Any) -> FeatureConfig:
    path = folder / "feature_config.yaml"
    path.write_text(yaml.safe_dump({"datasets": datasets, **sections}), encoding="utf-8")
    return read_feature_config(path)


def test_read_feature_config_of_the_shipped_file():
    shipped = read_feature_config(ROOT / "feature_config.yaml")
    by_name = {dataset.name: dataset for dataset in shipped.datasets}
    of_clip1 = [f"{split}_{channel}" for split in ("train", "valid", "eval", "demo") for channel in ("left", "right")]
    assert list(by_name) == [*(f"clip2_{name}" for name in of_clip1[:6]), *of_clip1]
    for name, tables, audio in (
        ("valid_right", "data/cadenza_data_valid/metadata", "data/cadenza_data_valid/valid"),
        ("clip2_valid_right", "cadenza_data/clip2/metadata", "cadenza_data/clip2/valid"),
    ):
        found = by_name[name]
        assert found.csv_path == ROOT / tables / "valid_metadata_r.csv"
        assert (found.signal_dir, found.reference_dir) == (ROOT / audio / "signals", ROOT / audio / "unprocessed")
    assert not shipped.unknown


def test_releases_of_which_one_has_a_split(tmp_path):
    releases = [{"name": "clip2", "root": "new"}, {"name": "clip1", "root": "data", "layout": "clip1", "rot": 1}]
    mine = entry("valid_left", csv_path="data/cadenza_data_valid/metadata/valid_metadata_l.csv") | {"name": "mine"}
    for table in ("data/cadenza_data_valid/metadata/valid_metadata_l.csv", "new/metadata/extra_metadata_r.csv"):
        (tmp_path / table).parent.mkdir(parents=True)
        (tmp_path / table).touch()
    (tmp_path / "new" / "metadata" / "extra_metadata.json").touch()
    config = config_of(tmp_path, [mine], releases=releases)
    assert config.unknown == ("clip1.rot",)

    def names(**asked: Any) -> list[str]:
        return [dataset.name for dataset in present_datasets(config, **asked)]

    assert names() == ["mine", "clip2_extra_right", "valid_left"]
    assert names(splits=["valid"]) == ["mine", "valid_left"]
    assert names(splits=["extra"]) == ["clip2_extra_right"]
    for asked in ({"names": ["clip2_valid_left"]}, {"splits": ["valid", "eval"]}):
        with pytest.raises(UserError, match=r"expected the table of clip2_(valid|eval)_left, found none.*--json .*new"):
            names(**{key: [*value] for key, value in asked.items()})
    with pytest.raises(UserError, match="found valid_left twice"):
        config_of(tmp_path, [entry("valid_left")], releases=releases)


def test_read_feature_config_resolves_paths_and_notes_unknown_keys(tmp_path):
    raw = entry(csv_path="data\\e_l.csv", signal_dir=str(tmp_path / "s"), audio_dir="..\\a", chanel="left")
    config = config_of(tmp_path, [raw], whisper={"jobs": 2})
    (dataset,) = config.datasets
    assert (dataset.csv_path, dataset.signal_dir) == (tmp_path / "data" / "e_l.csv", tmp_path / "s")
    assert (dataset.audio_dir, dataset.degraded_dir) == (tmp_path / ".." / "a", None)
    assert (config.unknown, config.whisper, config.metrics) == (("eval_left.chanel",), {"jobs": 2}, {})


@pytest.mark.parametrize(("message", "content"), REFUSALS["feature_config"])
def test_read_feature_config_refuses_what_is_malformed_in_one_line(tmp_path, message, content):
    with refusal(message):
        config_of(tmp_path, **content)


@pytest.mark.parametrize(("asked", "expected"), golden("present_datasets.yaml"), ids=str)
def test_present_datasets(tmp_path, asked, expected):
    config = config_of(tmp_path, [entry(csv_path="eval_l.csv"), entry("eval_right"), entry("train_left")])
    for name in ("eval_right.csv", "train_left.csv"):
        (tmp_path / name).touch()
    with refusal(expected) if isinstance(expected, str) else nullcontext():
        assert [dataset.name for dataset in present_datasets(config, **asked)] == expected
