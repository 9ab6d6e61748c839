"""Stereo Chorus of Whispers: predicts how many words of a sung excerpt a listener writes down correctly.

The scripts at the top of the repository are the stages, the folders of this package what they do. The names below are
the library for songs: ``from scow import predict_song``. They are imported at their first use, because torch is slow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scow.song.compare import SongComparison, compare_songs
    from scow.song.predictor import Predictor
    from scow.song.results import ExcerptPrediction, SongPrediction
    from scow.song.song import PredictOptions, predict_excerpt, predict_song

__version__ = "0.1.0"
__all__ = [
    "ExcerptPrediction",
    "PredictOptions",
    "Predictor",
    "SongComparison",
    "SongPrediction",
    "compare_songs",
    "predict_excerpt",
    "predict_song",
]

_MODULES = {
    "ExcerptPrediction": "scow.song.results",
    "PredictOptions": "scow.song.song",
    "Predictor": "scow.song.predictor",
    "SongComparison": "scow.song.compare",
    "SongPrediction": "scow.song.results",
    "compare_songs": "scow.song.compare",
    "predict_excerpt": "scow.song.song",
    "predict_song": "scow.song.song",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
