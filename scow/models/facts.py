"""Facts about the training of a checkpoint, readable without torch, which takes seconds to import.

``model.json`` beside ``model.pt`` holds a copy of the facts in ``model.pt``, and the SHA-256 of that file. Where it is
missing, damaged or of another file, the facts are read from ``model.pt`` itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scow.data.provenance import SOURCE
from scow.errors import UserError, expect
from scow.io import read_json, sha256_of, write_json


def fingerprint(signals: Iterable[str]) -> str:
    """Tells whether a checkpoint was trained on just these signals, without naming one."""
    return hashlib.sha256("\n".join(sorted(signals)).encode()).hexdigest()


def is_trained_on(facts: Mapping[str, Any], signals: Iterable[str]) -> bool:
    """Whether a checkpoint was trained on just these signals, or on them and those of other tables."""
    return fingerprint(signals) in (facts.get("trained_on"), *facts.get("trained_on_tables", ()))


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


def write_facts(model: Path, facts: dict[str, Any]) -> None:
    """Write ``model.json`` for a ``model.pt`` that is written."""
    write_json(model.with_suffix(".json"), {"sha256": sha256_of(model), "facts": facts})


def read_facts(model: Path) -> dict[str, Any]:
    """Facts about a checkpoint; none where it is missing, or not self-describing."""
    if not model.is_file():
        return {}
    try:
        copy = read_json(model.with_suffix(".json"), "facts about a checkpoint")
        if copy["sha256"] == sha256_of(model):
            return checked_facts(copy["facts"])
    except (UserError, KeyError, TypeError):
        pass
    from scow.models.checkpoint import checkpoint_facts

    return checkpoint_facts(model)
