"""Official CLIP1 results, for comparison. RMSE in points of 0-100; eval_r is the NCC on the evaluation set."""

from __future__ import annotations

CLIP1_FIELDS = ("system", "valid_rmse", "eval_rmse", "eval_r", "inputs")
CLIP1_RESULTS = (
    ("T045, Stereo Chorus of Whispers", 25.89, 26.44, 0.67, "signal, unprocessed, lyrics, hearing loss"),
    ("T071a", 26.40, 26.52, 0.67, "signal, unprocessed, lyrics"),
    ("T013a", 26.61, 26.54, 0.67, "signal, lyrics"),
    ("T017", 26.82, 26.67, 0.67, "signal only"),
    ("T072a", 26.59, 26.68, 0.66, "four audio variants, text embedding"),
    ("T040 LIWhiz", 27.13, 27.07, 0.65, "signal, unprocessed"),
    ("Whisper baseline", 29.32, 29.08, 0.58, "signal, lyrics"),
    ("STOI baseline", 36.11, 34.89, 0.21, "signal, unprocessed"),
)
