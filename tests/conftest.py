"""Fixtures: real Whisper, real challenge excerpts."""

import signal
from pathlib import Path

import pytest
import torch
from helpers import MODELS, ROOT, load_whisper, start_fork_server
from hypothesis import settings

from scow import Predictor
from scow.features.whisper import Transcriber

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the fork server import while the first tests run, unless there are only a few."""
    if len(session.items) > 100:
        start_fork_server()


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_default_sigint() -> None:
    torch.set_num_threads(1)  # tensors of tests gain nothing from threads, and lose much where the cores are busy
    # A shell starts background jobs with SIGINT ignored, and their children inherit that; tests send it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def clip1() -> Path:
    """Folder of real challenge data, which is never part of the project."""
    folder = ROOT.parent / "shared" / "clip1"
    if not folder.is_dir():
        pytest.skip("no challenge data at ../shared/clip1")
    return folder


@pytest.fixture(scope="session")
def tiny_en() -> Transcriber:
    return load_whisper("tiny.en")


@pytest.fixture(scope="session")
def base() -> Transcriber:
    return load_whisper("base")


@pytest.fixture(scope="session")
def lite() -> Predictor:
    """The checkpoint lite with a real Whisper tiny.en, ready to predict."""
    load_whisper("tiny.en")  # skips where the weights are missing
    return Predictor.load("lite", model_dir=MODELS, device="cpu")
