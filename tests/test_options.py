"""Sections of a YAML config become frozen dataclasses, and typos are named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from scow.config import options_from, unknown_keys
from scow.errors import UserError
from scow.io import portable_path, read_yaml


@dataclass(frozen=True)
class Everything:
    """One field of each kind that options may have."""

    name: str = "final"
    count: int = 3
    rate: float = 0.5
    on: bool = True
    folder: Path = Path("data")
    models: tuple[str, ...] = ("tiny",)
    limit: int | None = None
    place: Path | None = None


@dataclass(frozen=True)
class Demanding:
    """A field without default."""

    save_dir: Path
    epochs: int = 100


@pytest.mark.parametrize("section", [None, {}])
def test_an_empty_section_means_the_defaults(section):
    assert options_from(Everything, section, "train") == Everything()


def test_every_kind_of_value_arrives_as_its_field_says():
    section = {
        "name": "lite",
        "count": 7,
        "rate": 2,
        "on": False,
        "folder": r"data\cadenza_data_demo\demo",
        "models": ["tiny.en", "base"],
        "limit": 9,
        "place": "here",
    }
    options = options_from(Everything, section, "train")
    assert options == Everything(
        "lite", 7, 2.0, False, Path("data/cadenza_data_demo/demo"), ("tiny.en", "base"), 9, Path("here")
    )
    assert type(options.rate) is float
    assert section["models"] == ["tiny.en", "base"]  # the caller's mapping is left as it was


@pytest.mark.parametrize(
    ("text", "rate"),
    [("rate: 1e-4", 1e-4), ("rate: 1.0e-4", 1e-4), ("rate: 1", 1.0), ("rate: '0.25'", 0.25)],
)
def test_a_float_may_be_written_in_every_way_that_yaml_half_understands(tmp_path, text, rate):
    path = tmp_path / "c.yaml"  # YAML 1.1 takes 1e-4, without a point, for text
    path.write_text(text)
    assert options_from(Everything, read_yaml(path), "train").rate == rate


def test_one_name_stands_for_a_list_of_one():
    assert options_from(Everything, {"models": "base"}, "whisper").models == ("base",)


def test_null_is_a_value_where_the_field_allows_it():
    assert options_from(Everything, {"limit": None, "place": None}, "train") == Everything()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("count", 7.5, r"^train\.count: expected int, found 7\.5"),
        ("count", True, r"^train\.count: expected int, found True"),
        ("count", None, r"^train\.count: expected int, found None"),
        ("rate", "fast", r"^train\.rate: expected float, found 'fast'"),
        ("rate", False, r"^train\.rate: expected float, found False"),
        ("rate", [1], r"^train\.rate: expected float, found \[1\]"),
        ("folder", 5, r"^train\.folder: expected Path, found 5"),
        ("models", {"a": 1}, r"^train\.models: expected a list of names, found \{'a': 1\}"),
        ("models", 3, r"^train\.models: expected a list of names, found 3"),
        ("limit", "many", r"^train\.limit: expected int, found 'many'"),
    ],
)
def test_a_wrong_type_names_section_key_type_and_value(key, value, message):
    with pytest.raises(UserError, match=message):
        options_from(Everything, {key: value}, "train")


@pytest.mark.parametrize("section", [["epochs"], "epochs", 3])
def test_a_section_that_is_no_mapping_is_refused(section):
    with pytest.raises(UserError, match=r"^train: expected a mapping of options, found .*$"):
        options_from(Everything, section, "train")


def test_a_value_without_default_must_be_given():
    with pytest.raises(UserError, match=r"^train\.save_dir: expected a value, found none; add it to the config$"):
        options_from(Demanding, {"epochs": 3}, "train")
    assert options_from(Demanding, {"save_dir": "x"}, "train") == Demanding(Path("x"))


def test_unknown_keys_are_passed_over_but_can_be_asked_for():
    section = {"nmae": "typo", "count": 4, 7: "seven"}
    assert options_from(Everything, section, "train") == Everything(count=4)
    assert unknown_keys(Everything, section) == ["nmae", "7"]
    assert unknown_keys(Everything, None) == []


@pytest.mark.parametrize("text", [r"data\x\y.csv", "data/x/y.csv", r"data\x/y.csv"])
def test_a_path_from_windows_is_the_same_path(text):
    assert portable_path(text) == Path("data") / "x" / "y.csv"


def test_a_yaml_file_is_read_with_byte_order_mark_and_beyond_ascii(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes("\ufeffname: Größe\nlist: [1, 2]\n".encode())
    assert read_yaml(path) == {"name": "Größe", "list": [1, 2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: [1, 2\n", r"c\.yaml: not valid YAML at line 3: expected ',' or '\]', but got .*; mend it$"),
        (b"a: 1\n b: 2\n", r"c\.yaml: not valid YAML at line 2: mapping values are not allowed here; mend it$"),
        (b"a: *x\n", r"c\.yaml: not valid YAML at line 1: found undefined alias 'x'; mend it$"),
        (b"a: !!python/object:os.system {}\n", r"not valid YAML at line 1: could not determine a constructor"),
        (b"", r"c\.yaml: expected a mapping at the top, found NoneType; see the shipped file$"),
        (b"- 1\n- 2\n", r"c\.yaml: expected a mapping at the top, found list; see the shipped file$"),
        (b"a: \xff\n", r"c\.yaml: cannot be read \('utf-8' codec .*\); expected UTF-8 YAML$"),
    ],
)
def test_a_yaml_file_that_cannot_be_used_says_where_and_why(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_yaml(path)


def test_a_yaml_file_with_control_characters_is_refused_in_one_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"a: \x00\n")
    with pytest.raises(UserError, match=r"not valid YAML at .*special characters are not allowed") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_config_names_the_option_that_gives_it(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: expected a YAML config, found no such file; give .* --config$"):
        read_yaml(tmp_path / "none.yaml")


def test_a_folder_in_place_of_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(.*Is a directory.*\); expected UTF-8 YAML$"):
        read_yaml(tmp_path)
