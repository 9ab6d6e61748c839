"""Stereo Chorus of Whispers: predicts how many words of a sung excerpt a listener writes down correctly.

Each file of this package is one concept; the scripts at the top of the repository are the stages. What most users of
the library need is here by name, ``from scow import predict_song``, and loaded when it is asked for, so that a script
only pays for what it uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scow.song.predictor import Predictor
    from scow.song.results import ExcerptPrediction, SongPrediction
    from scow.song.song import PredictOptions, predict_excerpt, predict_song

__version__ = "0.1.0"
__all__ = [
    "ExcerptPrediction",
    "PredictOptions",
    "Predictor",
    "SongPrediction",
    "predict_excerpt",
    "predict_song",
]

_HOMES = {
    "ExcerptPrediction": "scow.song.results",
    "PredictOptions": "scow.song.song",
    "Predictor": "scow.song.predictor",
    "SongPrediction": "scow.song.results",
    "predict_excerpt": "scow.song.song",
    "predict_song": "scow.song.song",
}


def __getattr__(name: str) -> object:
    """Find a public name in the module that it lives in (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
