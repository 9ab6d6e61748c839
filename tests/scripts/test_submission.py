"""What is checked before a submission is written, and what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import make_records, write_metadata

from scow.data.scores import read_scores
from scow.errors import UserError
from scow.submission import SubmissionOptions, check_submission, write_form

SIGNALS = ["0000", "0001", "0002"]


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    return write_metadata(tmp_path / "eval_metadata.json", make_records(3))


def test_form_is_as_the_challenge_wants_it(metadata: Path, tmp_path: Path) -> None:
    scores = check_submission(metadata, ["0002", "0000", "0001"], np.array([0.0, 100.0, 33.3333333]))
    path = write_form(tmp_path, SubmissionOptions("clip1", "T045"), "eval", scores)
    assert path.name == "ICASSP2026_eval_T045.csv"
    assert path.read_bytes() == (b"signal_id,intelligibility_score\n0000,100.000000\n0001,33.333333\n0002,0.000000\n")
    assert read_scores(path).header


@pytest.mark.parametrize(
    ("signals", "scores", "message"),
    [
        (SIGNALS[:2], [1, 2], "found no score for 1, for instance 0002"),
        ([*SIGNALS, "x"], [1, 2, 3, 4], "found 1 scores of others, for instance x"),
        ([*SIGNALS, "0001"], [1, 2, 3, 4], "signal 0001 has more than one score"),
        (SIGNALS, [1, np.nan, 3], "signal 0001: expected a score in 0 to 100, found nan"),
        (SIGNALS, [1, 2, np.inf], "signal 0002: expected a score in 0 to 100, found inf"),
        (SIGNALS, [-0.001, 2, 3], "signal 0000: expected a score in 0 to 100, found -0.001"),
        (SIGNALS, [0, 2, 100.001], "signal 0002: expected a score in 0 to 100, found 100.001"),
    ],
)
def test_what_must_not_be_submitted(metadata: Path, signals: list[str], scores: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_submission(metadata, signals, np.array(scores, dtype=float))


@pytest.mark.parametrize(
    ("track", "team", "splits", "message"),
    [
        ("clip9", "T045", ["eval"], r"infer.submission.track: no track 'clip9'; did you mean clip1\?"),
        ("clip1", "045", ["eval"], r"infer.submission.team: expected a team id such as T045 or T071a, found '045'"),
        ("clip1", "T045/../x", ["eval"], "infer.submission.team"),
        ("clip1", "T045\n", ["eval"], "infer.submission.team"),
        ("clip1", None, ["eval"], "infer.submission.team: expected a value beside infer.submission.track"),
        (None, "T045", ["eval"], "infer.submission.track: expected a value beside infer.submission.team"),
        ("clip1", "T045", ["eval", "demo"], "expected the splits valid and eval, found demo"),
    ],
)
def test_options_are_checked(track: str | None, team: str | None, splits: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SubmissionOptions(track, team).validate(splits)


def test_no_submission_no_check() -> None:
    SubmissionOptions().validate(["demo"])
    SubmissionOptions("clip1", "T071a").validate(["valid", "eval"])
