"""From a section of a YAML config to a frozen dataclass of options, by way of OmegaConf structured configs.

A value of the wrong type is an error that names section, key, type expected and value found; values out of range are
refused by the dataclass, in ``__post_init__``; whole numbers have at most 64 bits. Unknown keys are passed over,
because published configs hold others; `unknown_keys` finds them. A backslash in a path is read as a slash, and a single
name as a list of one.

A checkpoint's config comes from anywhere, so `read_config` takes it as data: it may not name code, read the environment
or choose where hydra looks. Names in it stay in their folder (`plain_name`, `folder_inside`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from scow.errors import UserError, expect
from scow.io import portable_path, read_yaml

Options = TypeVar("Options")
REFERENCE = re.compile(r"\$\{[\w.\[\]]+\}")  # ${key}, without a resolver
MAX_REFERENCES = 16  # ${key} in a config: references to references could make it grow without bounds
HYDRA_SWEEP = {  # what configs of this project hold, or held, under ``hydra.sweep``
    "dir": "checkpoints/${exp_name}_sweep",
    "subdir": "${swept:${hydra.sweep.dir},${hydra.overrides.task}}",
}


def read_config(path: Path) -> dict[str, Any]:
    """The content of a checkpoint's config, as plain values, without ``hydra:``."""
    content = read_yaml(path)
    hydra = as_section(content.pop("hydra", None), f"{path}: hydra")
    shipped = hydra.keys() <= {"sweep"} and as_section(hydra.get("sweep"), "hydra.sweep").items() <= HYDRA_SWEEP.items()
    expect(shipped, path, "no settings of hydra but those shipped; give them on the command line", f"hydra: {hydra}")
    keys, texts = _keys_and_texts(content)
    for key in keys:
        special = key == "defaults" or re.fullmatch(r"_\w+_", key)
        expect(not special, path, "options of this project", f"{key}, with which hydra would read or call something")
    for text in texts:
        expect("${" not in REFERENCE.sub("", text), path, "plain values and references ${key}", f"{text!r}")
    n_references = sum(text.count("${") for text in texts)
    expect(n_references <= MAX_REFERENCES, path, f"at most {MAX_REFERENCES} references ${{key}}", n_references)
    return content


def _keys_and_texts(node: object) -> tuple[list[str], list[str]]:
    """All keys and all text values of nested values."""
    keys: list[str] = []
    texts: list[str] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            keys += map(str, node)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
        elif isinstance(node, str):
            texts.append(node)
    return keys, texts


def plain_name(name: object, where: str) -> str:
    """A name that becomes a file or folder, or part of its name: it may not lead out of the folder."""
    plain = isinstance(name, str | int) and re.fullmatch(r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]{0,199}", str(name))
    expect(plain, where, "a plain file name", repr(name))
    return str(name)


def folder_inside(path: Path, where: str) -> Path:
    """A folder of outputs that a config chooses: inside the folder that the user works in."""
    inside = not path.is_absolute() and ".." not in path.parts and ":" not in str(path)
    expect(inside, where, "a folder inside this one, or one that the command line gives", path)
    return path


def options_from(cls: type[Options], section: object, where: str) -> Options:
    """The options `cls` that a section holds, defaults filled in; `where` names the section in errors."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = as_section(section, where)
    kinds = {field.name: str(field.type) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known = {key: _prepared(value, kinds[key]) for key, value in given.items() if key in kinds}
    for key, value in known.items():
        small = not isinstance(value, int) or abs(value) < 2**63
        expect(small, f"{where}.{key}", "a number of at most 64 bits", "a larger one")
    try:
        options = OmegaConf.merge(OmegaConf.structured(cls), known)
        values = OmegaConf.to_container(options, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key).partition("[")[0]
        kind = "a list of names" if kinds[key].startswith("tuple") else kinds[key].removesuffix(" | None")
        found = repr(given[key]) if key in given else "none; add it to the config"
        raise UserError(f"{where}.{key}: expected {kind}, found {found}") from None
    assert isinstance(values, dict)
    return cls(**{str(name): tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _prepared(value: Any, kind: str) -> Any:
    if kind.startswith("tuple") and not isinstance(value, list):
        return [value]
    return portable_path(value) if kind.startswith("Path") and isinstance(value, str) else value


def as_section(section: object, where: str) -> dict[str, Any]:
    """A section of a config as a dict; no section is an empty one."""
    if not isinstance(section, Mapping | None):
        raise UserError(f"{where}: expected a mapping of options, found {section!r}")
    return {str(key): value for key, value in (section or {}).items()}


def unknown_keys(cls: type, section: Mapping[str, Any] | None) -> list[str]:
    """Keys of `section` that are no field of the dataclass `cls`."""
    known = {field.name for field in dataclasses.fields(cls)}
    return [str(key) for key in (section or {}) if key not in known]
