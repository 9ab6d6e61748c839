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
    options = OmegaConf.structured(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in given:
            continue
        kind, value = str(field.type), given[field.name]
        if kind.startswith("Path") and isinstance(value, str):
            value = portable_path(value)
        if kind.startswith("tuple") and isinstance(value, str):
            value = [value]
        try:
            options = OmegaConf.merge(options, {field.name: value})
        except OmegaConfBaseException:
            expected = "a list of names" if kind.startswith("tuple") else kind.removesuffix(" | None")
            raise UserError(f"{where}.{field.name}: expected {expected}, found {value!r}") from None
    try:
        values = OmegaConf.to_container(options, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{where}.{error.full_key}: expected a value, found none; add it to the config") from None
    assert isinstance(values, dict)
    return cls(**{str(name): tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def as_section(section: object, where: str) -> dict[str, Any]:
    """A section of a config as a dict; no section is an empty one."""
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: expected a mapping of options, found {section!r}")
    return {str(key): value for key, value in section.items()}


def unknown_keys(cls: type, section: Mapping[str, Any] | None) -> list[str]:
    """Keys of `section` that are no field of the dataclass `cls`."""
    known = {field.name for field in dataclasses.fields(cls)}
    return [str(key) for key in (section or {}) if key not in known]
