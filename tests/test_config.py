"""scow.config: sections of a YAML config become frozen dataclasses, and mistakes are named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import REFUSALS

from scow.config import options_from
from scow.errors import UserError


@dataclass(frozen=True)
class Everything:
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
    save_dir: Path


def test_options_from_every_kind_of_value():
    assert options_from(Everything, None, "train") == options_from(Everything, {}, "train") == Everything()
    section = {
        **{"name": "lite", "count": 7, "rate": 2, "on": False, "folder": r"data\demo", "models": ["tiny.en", "base"]},
        **{"limit": 9, "place": r"a\b"},
    }
    options = options_from(Everything, section, "train")
    assert options == Everything("lite", 7, 2.0, False, Path("data/demo"), ("tiny.en", "base"), 9, Path("a/b"))
    assert type(options.rate) is float
    assert type(options.models) is tuple
    assert options_from(Everything, {"models": "base", "limit": None}, "train") == Everything(models=("base",))
    assert options_from(Everything, {"rate": "1e-4"}, "train").rate == 1e-4  # as YAML 1.1 reads it, without a point
    assert options_from(Demanding, {"save_dir": "x"}, "train") == Demanding(Path("x"))
    with pytest.raises(UserError, match=r"^train\.save_dir: expected Path, found none"):
        options_from(Demanding, {"epochs": 3}, "train")


@pytest.mark.parametrize("key", REFUSALS["options"])
def test_options_from_names_wrong_type(key):
    ((expected, values),) = REFUSALS["options"][key].items()
    for value in values:
        with pytest.raises(UserError) as caught:
            options_from(Everything, {key: value}, "train")
        assert str(caught.value) == f"train.{key}: expected {expected}, found {value!r}"
