"""What several test files need: small tables and metadata, invented signals, scripts run as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from scow.data.metadata import SignalRecord, metadata_table
from scow.data.tables import FEATURE_COLUMNS, HEARING_LOSSES, order_columns, with_sentence_rows, write_table
from scow.features.whisper import Transcriber, load_transcriber, resolve_model
from scow.models.inputs import DataOptions

ROOT = Path(__file__).resolve().parent.parent
CLIP1 = ROOT.parent / "shared" / "clip1"
MODELS = ROOT / "models"
DEMO = ROOT / "data" / "cadenza_data_demo"

Script = Callable[..., subprocess.CompletedProcess]


def whisper_listener(name: str) -> Transcriber:
    """A real Whisper model from models/, or a skip that says how to get it."""
    if not (MODELS / f"{name}.pt").is_file():
        pytest.skip(f"no weights models/{name}.pt; get them with: python tools/offline_whisper.py {name}")
    return load_transcriber(resolve_model(name), model_dir=MODELS, device="cpu")


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a program in a process of its own, because it will be killed or have its disk taken away."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


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


def training_data(columns: Sequence[str], tables: tuple[Path, Path], **changes: Any) -> DataOptions:
    """The section data of a config whose training tables are `tables`."""
    return DataOptions(tuple(columns), {"train": tables}, train_tables=(tables,), **changes)


HEARD_COLUMNS = ("tiny.en", "base", "dns_sig", "dns_bak", "dns_ovrl")
EASY_WORDS = tuple("baby love tonight dancing summer heart river music golden morning".split())
HARD_WORDS = tuple("thither quell gossamer umbra wrought sepulchre lattice ague turret brine".split())


def heard_records(n_signals: int = 36, seed: int = 0, prefix: str = "") -> tuple[list[SignalRecord], dict[str, list]]:
    """Invented signals whose responses are words of the prompt, and how likely each word was to be heard.

    A word is likelier where its signal is clear, and where it is one of `EASY_WORDS`. Words differ within a prompt and
    a response keeps their order, so that there is only one alignment. Three severities of a prompt, two prompts of a
    track.
    """
    rng = np.random.default_rng(seed)
    records, chances = [], {}
    for i in range(n_signals):
        if i % 3 == 0:
            words = rng.permutation(EASY_WORDS + HARD_WORDS)[: rng.integers(3, 8)].tolist()
        clear = rng.uniform(-2.5, 2.5)
        logits = clear + np.array([1.5 if word in EASY_WORDS else -1.5 for word in words]) + rng.normal(size=len(words))
        chance = 1 / (1 + np.exp(-logits))
        hit = rng.random(len(words)) < chance
        record = SignalRecord(
            signal=f"{prefix}{i:04d}",
            prompt=" ".join(words),
            hearing_loss=HEARING_LOSSES[i % 3],
            response=" ".join(word for word, heard in zip(words, hit, strict=True) if heard),
            n_words=len(words),
            words_correct=int(hit.sum()),
            correctness=float(hit.mean()),
            track=f"{prefix}track{i // 6}",
        )
        records.append(record)
        chances[record.signal] = chance.tolist()
    return records, chances


def make_heard_tables(
    folder: Path, n_signals: int = 36, columns: Sequence[str] = HEARD_COLUMNS, *, seed: int = 0, prefix: str = ""
) -> tuple[tuple[Path, Path], Path]:
    """Tables of `heard_records` whose word and sentence scores follow the chances, and their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    records, chances = heard_records(n_signals, seed, prefix)
    rng = np.random.default_rng(seed + 1)
    plain = with_sentence_rows(metadata_table(records))
    place = plain.groupby("signal").cumcount()  # the sentence row is the last of its signal
    clean = [
        chances[signal][i] if is_word else float(np.mean(chances[signal]))
        for signal, i, is_word in zip(plain["signal"], place, plain["word_count"], strict=True)
    ]
    paths = (folder / "t_l.csv", folder / "t_r.csv")
    for path in paths:
        noisy = np.array(clean)[:, None] + 0.1 * rng.normal(size=(len(plain), len(columns)))
        features = pd.DataFrame(noisy.clip(0, 1), columns=list(columns))
        write_table(order_columns(pd.concat([plain, features], axis=1)), path)
    return paths, write_metadata(folder / "metadata.json", records)


def write_metadata(path: Path, records: Sequence[SignalRecord]) -> Path:
    """Metadata as the challenge writes it."""
    content = [
        {
            "signal": record.signal,
            "fma": record.track,
            "original_prompt": record.prompt,
            "prompt": record.prompt,
            "original_response": record.response,
            "response": record.response,
            "n_words": record.n_words,
            "words_correct": record.words_correct,
            "correctness": record.correctness,
            "hearing_loss": record.hearing_loss,
        }
        for record in records
    ]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_stereo(path: Path, seconds: float = 1.0, rate_hz: int = 44_100, channels: int = 2, seed: int = 0) -> Path:
    """Noise of a few tones, different in each channel, as 16-bit FLAC."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * (220 + 110 * k) * t) * (1 + np.sin(2 * np.pi * 3 * t)) / 4 for k in range(channels)]
    samples = np.stack(tones, axis=1) + 0.02 * rng.standard_normal((len(t), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path
