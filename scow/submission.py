"""What the challenge takes: a file for its e-mail form, and one for its leaderboard.

The form's file has the header ``signal_id,intelligibility_score`` and the name ``ICASSP2026_<split>_<team>.csv``; the
leaderboard takes the same scores without a header, as inference writes them anyway. Nothing is written unless every
signal of the split's metadata has just one score, finite and in 0-100, and no other signal has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scow.data.metadata import read_metadata
from scow.data.scores import FORM_HEADER, write_rows
from scow.errors import UserError, nearest

# What a track's file is called, and the splits that it takes.
FORM_NAMES = {"clip1": "ICASSP2026_{split}_{team}.csv"}
FORM_SPLITS = ("valid", "eval")


@dataclass(frozen=True)
class SubmissionOptions:
    """Section ``infer.submission:`` of a checkpoint's config.

    Attributes
    ----------
    track : str or None
        Whose form, one of `FORM_NAMES`; None for no submission.
    team : str or None
        Team id as the challenge gave it: T and three digits, and a letter where a team has several systems.
    """

    track: str | None = None
    team: str | None = None

    def validate(self, splits: Sequence[str]) -> None:
        """Check options and splits, before anything is computed.

        Raises
        ------
        UserError
        """
        if self.track is None and self.team is None:
            return
        for name, other, value in (("track", "team", self.track), ("team", "track", self.team)):
            if value is None:
                raise UserError(f"infer.submission.{name}: expected a value beside infer.submission.{other}; add it")
        if self.track not in FORM_NAMES:
            raise UserError(f"infer.submission.track: no track {self.track!r}; {nearest(str(self.track), FORM_NAMES)}")
        if not re.fullmatch(r"T\d{3}[a-z]?", str(self.team)):
            raise UserError(
                f"infer.submission.team: expected a team id such as T045 or T071a, found {self.team!r}; mend it"
            )
        for split in splits:
            if split not in FORM_SPLITS:
                raise UserError(
                    f"infer.submission: expected the splits valid and eval, found {split}; say infer.splits=[eval]"
                )


def check_submission(metadata: Path, signals: Sequence[str], scores: np.ndarray) -> dict[str, float]:
    """Scores in the order of the metadata.

    Parameters
    ----------
    metadata : Path
        Of the split.
    signals : sequence of str, length n
    scores : ndarray, shape (n,)
        As they would be written.

    Raises
    ------
    UserError
        A signal without a score, or twice, or that the metadata lacks; a score that is not finite or not in 0-100.
    """
    wanted = [record.signal for record in read_metadata(metadata)]
    if len(set(signals)) < len(signals):
        twice = next(signal for signal in signals if list(signals).count(signal) > 1)
        raise UserError(f"submission: signal {twice} has more than one score; expected one for each of {metadata}")
    by_signal: Mapping[str, float] = dict(zip(signals, scores.tolist(), strict=True))
    missing = [signal for signal in wanted if signal not in by_signal]
    strange = sorted(by_signal.keys() - set(wanted))
    if missing or strange:
        what = (
            f"no score for {len(missing)}, for instance {missing[0]}"
            if missing
            else f"{len(strange)} scores of others, for instance {strange[0]}"
        )
        raise UserError(
            f"submission: expected a score for each of the {len(wanted)} signals of {metadata} and no other, found "
            f"{what}; make the tables from this metadata"
        )
    for signal, score in by_signal.items():
        if not 0.0 <= score <= 100.0:  # neither is NaN
            raise UserError(f"submission: signal {signal}: expected a score in 0 to 100, found {score:g}")
    return {signal: by_signal[signal] for signal in wanted}


def write_form(folder: Path, options: SubmissionOptions, split: str, scores: Mapping[str, float]) -> Path:
    """Write the file for the e-mail form and return its path."""
    path = folder / FORM_NAMES[str(options.track)].format(split=split, team=options.team)
    write_rows(path, [FORM_HEADER, *((signal, f"{score:.6f}") for signal, score in scores.items())])
    return path
