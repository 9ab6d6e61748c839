"""Invented signals, and scores that are near their labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import records_with_responses, write_metadata

from scow.data.metadata import SignalRecord
from scow.data.scores import write_scores


@pytest.fixture
def records() -> list[SignalRecord]:
    return records_with_responses(60, seed=3)[0]


@pytest.fixture
def files(tmp_path: Path, records: Sequence[SignalRecord]) -> dict[str, Any]:
    """Options of `evaluate`."""
    metadata = write_metadata(tmp_path / "valid_metadata.json", records)
    rng = np.random.default_rng(0)
    scores = np.clip([100 * r.correctness for r in records] + rng.normal(5, 20, len(records)), 0, 100)
    path = tmp_path / "valid_inference.csv"
    write_scores(path, [r.signal for r in records][::-1], scores[::-1])  # pairing is by signal
    return {"scores": path, "metadata": metadata, "resamples": 50}
