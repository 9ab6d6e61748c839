"""The names that an error message proposes."""

from __future__ import annotations

import pytest

from scow.errors import nearest


@pytest.mark.parametrize(
    ("name", "known", "end"),
    [
        ("tiny.eng", ("tiny", "tiny.en", "large"), "did you mean tiny.en, tiny?"),
        ("xyz", iter(("No Loss", "Mild")), "known: No Loss, Mild"),
        ("base", [f"base{i}" for i in range(9)], "did you mean base8, base7, base6?"),
    ],
)
def test_nearest_names_three_near_ones_or_all(name, known, end):
    assert nearest(name, known) == end
