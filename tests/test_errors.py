"""The errors that a user can mend, and the names that they propose."""

from __future__ import annotations

import pytest

from scow.errors import SignalError, UserError, nearest

SEVERITIES = ("No Loss", "Mild", "Moderate")


@pytest.mark.parametrize(
    ("name", "known", "tail"),
    [
        ("Moderat", SEVERITIES, "did you mean Moderate?"),
        ("tiny.eng", ("tiny", "tiny.en", "large"), "did you mean tiny.en, tiny?"),
        ("xyz", SEVERITIES, "known: No Loss, Mild, Moderate"),
        ("", SEVERITIES, "known: No Loss, Mild, Moderate"),
    ],
)
def test_an_unknown_name_is_met_with_the_near_names_best_first_or_with_all(name, known, tail):
    assert nearest(name, known) == tail


def test_no_more_than_three_near_names_are_proposed():
    assert nearest("base", [f"base{i}" for i in range(9)]).count("base") == 3


def test_known_names_may_come_from_an_iterator():
    assert nearest("xyz", iter(SEVERITIES)) == "known: No Loss, Mild, Moderate"


def test_what_handles_user_errors_handles_signal_errors_too():
    with pytest.raises(UserError, match=r"^the left ear is silent$"):
        raise SignalError("the left ear is silent")
