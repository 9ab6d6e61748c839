"""Official results of each release, for comparison. RMSE in points of 0-100; ``valid_r`` and ``eval_r`` are the NCC."""

from __future__ import annotations

CLIP1_FIELDS = ("system", "valid_rmse", "eval_rmse", "eval_r", "inputs")
CLIP1_ROWS = (
    ("T045, Stereo Chorus of Whispers", 25.89, 26.44, 0.67, "signal, unprocessed, lyrics, hearing loss"),
    ("T071a", 26.40, 26.52, 0.67, "signal, unprocessed, lyrics"),
    ("T013a", 26.61, 26.54, 0.67, "signal, lyrics"),
    ("T017", 26.82, 26.67, 0.67, "signal only"),
    ("T072a", 26.59, 26.68, 0.66, "four audio variants, text embedding"),
    ("T040 LIWhiz", 27.13, 27.07, 0.65, "signal, unprocessed"),
    ("Whisper baseline", 29.32, 29.08, 0.58, "signal, lyrics"),
    ("STOI baseline", 36.11, 34.89, 0.21, "signal, unprocessed"),
)
CLIP2_FIELDS = ("system", "valid_rmse", "valid_r", "inputs")
CLIP2_ROWS = (  # the challenge goes on: there are no results on the evaluation set
    ("Better-ear baseline", 18.34, 0.8151, "signal"),
    ("Mono baseline", 18.45, 0.8127, "signal"),
)
OFFICIAL_RESULTS = {
    "clip1": [dict(zip(CLIP1_FIELDS, row, strict=True)) for row in CLIP1_ROWS],
    "clip2": [dict(zip(CLIP2_FIELDS, row, strict=True)) for row in CLIP2_ROWS],
}
