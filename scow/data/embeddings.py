"""Embeddings of excerpts: means of a Whisper model's encoder, as a frozen feature extractor.

An embedding of one channel is two vectors, the output of the encoder's middle block (layer n/2 of n) and its last layer
(after the final normalisation), each averaged over the frames of the excerpt itself (50 per second), not over those of
the padding to 30 s.

Stage 2 writes them with ``--embeddings`` beside a table, a file per model: ``valid_metadata_l.tiny.en.embeddings.npz``
of ``valid_metadata_l.csv``, with the arrays `signals`, text, shape (n,); `embeddings`, float32, shape (n, 2, width);
and `sha256`, the hash of the weights. A signal that is not in the file could not be computed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scow.errors import UserError, expect
from scow.io import atomic_write


def embeddings_path(table: Path, column: str) -> Path:
    """The embeddings of the model of a Whisper column, for the signals of a table."""
    return table.with_name(f"{table.stem}.{column}.embeddings.npz")


def read_embeddings(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Hash of the weights, and the embedding of each signal, shape (2, width)."""
    expected = "embeddings of stage 2 (whisper_inference.py --embeddings)"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            signals, embeddings, sha256 = (arrays[name] for name in ("signals", "embeddings", "sha256"))
    except (OSError, ValueError, TypeError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        found = "none" if isinstance(error, FileNotFoundError) else f"another file ({type(error).__name__})"
        raise UserError(f"{path}: expected {expected}, found {found}") from error
    right = embeddings.ndim == 3 and embeddings.shape[:2] == (*signals.shape, 2) and signals.dtype.kind == "U"
    right = right and embeddings.dtype == np.float32 and bool(np.isfinite(embeddings).all())
    expect(right and 0 < len({*signals}) == len(signals), path, expected, "other arrays")
    return str(sha256), dict(zip(signals.tolist(), embeddings, strict=True))


def write_embeddings(path: Path, sha256: str, embeddings: Mapping[str, np.ndarray]) -> None:
    """Write embeddings by signal, at least one; the file is whole at all times."""
    signals, stacked = np.array([*embeddings]), np.stack([*embeddings.values()])
    with atomic_write(path) as temporary, temporary.open("wb") as handle:  # a path would get another ending
        np.savez(handle, signals=signals, embeddings=stacked, sha256=np.array(sha256))
