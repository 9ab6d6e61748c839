"""What several test files need: real Whisper, real challenge excerpts, small tables, scripts run as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from scow.corpus import SignalRecord, metadata_table
from scow.tables import FEATURE_COLUMNS, order_columns, with_sentence_rows, write_table
from scow.whisper_words import Listener, load_listener, resolve_model

ROOT = Path(__file__).resolve().parent.parent
CLIP1 = ROOT.parent / "shared" / "clip1"
MODELS = ROOT / "models"
DEMO = ROOT / "data" / "cadenza_data_demo"

Script = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def clip1() -> Path:
    """Folder of real challenge data, which is never part of the project."""
    if not CLIP1.is_dir():
        pytest.skip("no challenge data at ../shared/clip1")
    return CLIP1


@pytest.fixture(scope="session")
def reference_features(clip1: Path) -> dict[str, Any]:
    """Features of the real excerpts by the published definitions: split -> signal -> ear."""
    content: dict[str, Any] = json.loads((clip1 / "reference_features.json").read_text(encoding="utf-8"))
    return content


def whisper_listener(name: str) -> Listener:
    """A real Whisper model from models/, or a skip that says how to get it."""
    if not (MODELS / f"{name}.pt").is_file():
        pytest.skip(f"no weights models/{name}.pt; get them with: python tools/offline_whisper.py {name}")
    return load_listener(resolve_model(name), model_dir=MODELS, device="cpu")


@pytest.fixture(scope="session")
def tiny_en() -> Listener:
    return whisper_listener("tiny.en")


@pytest.fixture(scope="session")
def base() -> Listener:
    return whisper_listener("base")


@pytest.fixture
def run_script_file() -> Script:
    """Run a script of the repository as a user does; returns exit code and output."""

    def run(script: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(ROOT / script), *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
            timeout=600,
            check=False,
        )

    return run


def assert_user_error(done: subprocess.CompletedProcess, *fragments: str) -> None:
    """A user error: exit code 2, one line on standard error, no traceback, and what the line must say."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0], (fragment, lines[0])


def make_records(n_signals: int = 6, *, labelled: bool = True) -> list[SignalRecord]:
    """Invented signals: each prompt at three severities."""
    prompts = [
        "do not go gentle",
        "nan and null are words",
        "la la la",
        "over the hills we ride",
        "sing",
        "out of time ?",
    ]
    severities = ("No Loss", "Mild", "Moderate")
    records = []
    for i in range(n_signals):
        prompt = prompts[i // 3 % len(prompts)]
        correctness = (i % 4) / 4 if labelled else float("nan")
        records.append(
            SignalRecord(
                signal=f"{i:04d}",
                prompt=prompt,
                hearing_loss=severities[i % 3],
                response="something" if labelled else "",
                n_words=len(prompt.split()),
                words_correct=round(correctness * len(prompt.split())) if labelled else float("nan"),
                correctness=correctness,
                track=f"track{i // 3}",
            )
        )
    return records


def make_tables(
    folder: Path, n_signals: int = 6, columns: Sequence[str] = FEATURE_COLUMNS, *, labelled: bool = True, seed: int = 0
) -> tuple[Path, Path]:
    """A left and a right table with random features, complete with sentence rows."""
    rng = np.random.default_rng(seed)
    paths = (folder / "t_l.csv", folder / "t_r.csv")
    plain = with_sentence_rows(metadata_table(make_records(n_signals, labelled=labelled)))
    for path in paths:
        features = pd.DataFrame(rng.random((len(plain), len(columns))), columns=list(columns))
        write_table(order_columns(pd.concat([plain, features], axis=1)), path)
    return paths


def write_stereo(path: Path, seconds: float = 1.0, rate_hz: int = 44_100, channels: int = 2, seed: int = 0) -> Path:
    """Noise of a few tones, different in each channel, as 16-bit FLAC."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * (220 + 110 * k) * t) * (1 + np.sin(2 * np.pi * 3 * t)) / 4 for k in range(channels)]
    samples = np.stack(tones, axis=1) + 0.02 * rng.standard_normal((len(t), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path
