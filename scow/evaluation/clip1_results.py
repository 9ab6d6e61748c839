"""What the official CLIP1 results say, for a look beside one's own. The only place where these figures stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """One system's official CLIP1 result.

    Attributes
    ----------
    system : str
    valid_rmse, eval_rmse : float
        In points of 0-100.
    eval_r : float
        NCC on the evaluation set.
    inputs : str
        What it takes.
    """

    system: str
    valid_rmse: float
    eval_rmse: float
    eval_r: float
    inputs: str

    def rmse(self, split: str) -> float | None:
        """RMSE on ``valid`` or ``eval``; None on others."""
        return {"valid": self.valid_rmse, "eval": self.eval_rmse}.get(split)


CLIP1_RESULTS = (
    PublishedResult("T045, Stereo Chorus of Whispers", 25.89, 26.44, 0.67, "signal, unprocessed, lyrics, severity"),
    PublishedResult("T071a", 26.40, 26.52, 0.67, "signal, unprocessed, lyrics"),
    PublishedResult("T013a", 26.61, 26.54, 0.67, "signal, lyrics"),
    PublishedResult("T017", 26.82, 26.67, 0.67, "signal only"),
    PublishedResult("T072a", 26.59, 26.68, 0.66, "four audio variants, text embedding"),
    PublishedResult("T040 LIWhiz", 27.13, 27.07, 0.65, "signal, unprocessed"),
    PublishedResult("Whisper baseline", 29.32, 29.08, 0.58, "signal, lyrics"),
    PublishedResult("STOI baseline", 36.11, 34.89, 0.21, "signal, unprocessed"),
)
