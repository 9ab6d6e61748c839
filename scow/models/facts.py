"""What a ``model.pt`` holds, and the facts about its training; the facts are had without torch, whose import is slow.

``model.json`` beside ``model.pt`` holds a copy of the facts in ``model.pt``, and the SHA-256 of that file. Where it is
missing, damaged or of another file, the facts are read from ``model.pt`` itself.

Files are read with ``weights_only=True``: a checkpoint from anywhere can hold tensors and plain values, no code. torch
does not look at the checksums in a file; here they are verified.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scow.data.provenance import SOURCE
from scow.errors import UserError, expect
from scow.io import read_json, sha256_of


def fingerprint(signals: Iterable[str]) -> str:
    """Tells whether a checkpoint was trained on just these signals, without naming one."""
    return hashlib.sha256("\n".join(sorted(signals)).encode()).hexdigest()


def is_trained_on(facts: Mapping[str, Any], signals: Iterable[str]) -> bool:
    """Whether a checkpoint was trained on just these signals, or on them and those of other tables."""
    return fingerprint(signals) in (facts.get("trained_on"), *facts.get("trained_on_tables", ()))


def read_facts(model: Path) -> dict[str, Any]:
    """Facts about a checkpoint; none where it is missing, damaged, or not self-describing."""
    if not model.is_file():
        return {}
    with suppress(UserError, KeyError, TypeError):
        copy = read_json(model.with_suffix(".json"), "facts about a checkpoint")
        if copy["sha256"] == sha256_of(model):
            return checked_facts(copy["facts"])
    with suppress(UserError):
        return checked_facts(read_model(model).get("facts", {}))
    return {}


def checked_facts(facts: Any) -> dict[str, Any]:
    """Facts of the kinds that `scow.training.train` writes; other facts are refused."""
    try:
        figures = [*dict(facts.get("out_of_fold", {})).values(), *facts.get("val_rmse", []), *facts.get("val_r", [])]
        right = all(isinstance(figure, float | None) for figure in figures)
        sources = [known[key] for known in facts.get("features", {}).values() for key in SOURCE]
        right &= all(isinstance(text, str | None) for text in (*sources, *facts.get("trained_on_tables", [])))
    except (AttributeError, KeyError, TypeError, ValueError):
        right = False
    expect(right, "facts", "facts about a training", "something else")
    return dict(facts)


def read_model(path: Path) -> dict[str, Any]:
    """The content of a ``model.pt``: parts of a self-describing one, or tensors by name."""
    import torch

    try:
        with path.open("rb") as handle:
            is_zip = handle.read(2) == b"PK"
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                stored = all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
                expect(stored and archive.testzip() is None, path, "whole members", "damaged ones")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"expected the checkpoint {path}, found none; train it, or choose another -cp") from None
    except Exception as error:  # what torch raises for a damaged file is of any kind
        found = "a damaged or another file"
        raise UserError(f"{path}: expected a checkpoint of tensors and plain values, found {found}") from error
    return content if isinstance(content, dict) else {}
