"""From a section of a YAML config to a frozen dataclass of options, by way of OmegaConf structured configs.

A value of the wrong type is an error that names section, key, type expected and value found; values out of range are
refused by the dataclass, in ``__post_init__``. Unknown keys are passed over, because published configs hold others;
`unknown_keys` finds them. A backslash in a path is read as a slash, and a single name as a list of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from scow.errors import UserError
from scow.io import portable_path

Options = TypeVar("Options")


def options_from(cls: type[Options], section: object, where: str) -> Options:
    """The options `cls` that a section holds, defaults filled in; `where` names the section in errors."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = as_section(section, where)
    kinds = {field.name: str(field.type) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known = {key: _prepared(value, kinds[key]) for key, value in given.items() if key in kinds}
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
