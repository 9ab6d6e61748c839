"""From a section of a YAML config to a frozen dataclass of options, with the user's typos named.

Every option object of this project is a frozen dataclass whose fields have types and defaults; the config files
are sections of the same names. `options_from` brings the two together: a wrong type is an error that names
section, key, type expected and value found; an unknown key is returned to the caller, because published configs may
hold keys of their own. This file stands below the ground floor.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from scow.errors import UserError
from scow.io import portable_path

Options = TypeVar("Options")


def options_from(cls: type[Options], section: Mapping[str, Any] | None, where: str) -> Options:
    """Build the frozen dataclass `cls` from a mapping.

    Parameters
    ----------
    cls : type
        A dataclass. Fields may be ``str, int, float, bool, Path, tuple[str, ...]``, or one of these or None.
    section : mapping or None
        What the config says; None stands for an empty section. Keys that `cls` lacks are passed over.
    where : str
        Name of the section in error messages, for instance ``"train"``.

    Returns
    -------
    Options
        The options, defaults filled in.

    Raises
    ------
    UserError
        A value of the wrong type, or a key without default that is missing.
    """
    given = as_section(section, where)
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in given:
            values[field.name] = _converted(given[field.name], hints[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}.{field.name}: expected a value, found none; add it to the config")
    return cls(**values)


def as_section(section: object, where: str) -> dict[str, Any]:
    """A section of a config as a dict; nothing at all is an empty one.

    Raises
    ------
    UserError
        It is no mapping.
    """
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: expected a mapping of options, found {section!r}; see the shipped config")
    return {str(key): value for key, value in section.items()}


def unknown_keys(cls: type, section: Mapping[str, Any] | None) -> list[str]:
    """Keys of `section` that are no field of the dataclass `cls`."""
    names = {field.name for field in dataclasses.fields(cls)}
    return [str(key) for key in (section or {}) if key not in names]


def _converted(value: Any, hint: Any, where: str) -> Any:
    """Check and convert one value to the field's type."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        members = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return None if value is None else _converted(value, members[0], where)
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise UserError(f"{where}: expected a list of names, found {value!r}; write [a, b]")
        return tuple(items)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-4 as text
        except ValueError:
            pass
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, (str, Path)):
        return portable_path(str(value))
    raise UserError(
        f"{where}: expected {getattr(hint, '__name__', hint)}, found {value!r}; mend the config or override"
    )
