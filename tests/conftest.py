"""Fixtures: real Whisper, real challenge excerpts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import CLIP1, MODELS, ROOT, Script, whisper_listener

from scow import Predictor
from scow.features.whisper import Transcriber


@pytest.fixture(scope="session", autouse=True)
def _hears_ctrl_c() -> None:
    """A shell starts background jobs deaf to Ctrl-C, and their children inherit that; tests that send it need ears."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def tiny_en() -> Transcriber:
    return whisper_listener("tiny.en")


@pytest.fixture(scope="session")
def base() -> Transcriber:
    return whisper_listener("base")


@pytest.fixture(scope="session")
def lite() -> Predictor:
    """The checkpoint lite with a real Whisper tiny.en, ready to predict."""
    whisper_listener("tiny.en")  # skips where the weights are missing
    return Predictor.load("lite", model_dir=MODELS, device="cpu")


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
