"""From audio and words to features: identical channels once, files once, and what fails costs only what needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from corpus import Corpus, edit_channels, make_corpus, write_signal
from helpers import MODELS, write_stereo

from scow.data.audio import FILE_RATE_HZ, read_stereo, resample_poly, resample_sinc
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, METRIC_COLUMNS
from scow.features.dnsmos import Dnsmos
from scow.features.extract import (
    Task,
    metric_results,
    read_audio,
    transcribe_channels,
    whisper_results,
    word_and_sentence_scores,
)
from scow.features.intrusive import intrusive_metrics
from scow.features.partial import SignalResult
from scow.features.whisper import Transcriber, WhisperModel


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Signal 0001 has two different channels, 0002 two identical ones, half a silent right one."""
    corpus = make_corpus(
        tmp_path_factory.mktemp("extract") / "c", dict.fromkeys(["0001", "0002", "half"], "you know you")
    )
    for i, name in enumerate(["0001", "0002", "half"]):
        write_signal(corpus, name, seed=i)
    edit_channels(corpus.signal("0002"), lambda samples: samples[:, [0, 0]])
    edit_channels(corpus.signal("half"), lambda samples: samples * [1, 0])
    return corpus


def task(corpus: Corpus, name: str, columns: Sequence[str], channels: Sequence[str] = ("left", "right")) -> Task:
    words = dict.fromkeys(channels, ("you", "know", "you"))
    return Task(name, dict.fromkeys(channels, tuple(columns)), words, corpus.datasets("mini_left")[0])


def measure(corpus: Corpus, name: str, columns: Sequence[str] = METRIC_COLUMNS) -> SignalResult:
    return metric_results(None, read_audio([task(corpus, name, columns)]))[0]


@pytest.mark.slow
def test_transcribe_channels_runs_identical_channels_once(corpus: Corpus, tiny_en: Transcriber) -> None:
    encoded: list[int] = []
    hook = tiny_en.model.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(output)))
    left, right = read_stereo(corpus.signal("0001")).samples
    found = transcribe_channels(tiny_en, {"a": left, ("b", 1): right, "c": left.copy()})
    hook.remove()
    assert sum(encoded) == 2
    assert found["a"] == found["c"]
    (alone,) = tiny_en.transcribe([resample_sinc(right)])
    assert found["b", 1].text == alone.text
    scores, sentence = word_and_sentence_scores(["you", "know"], alone)
    assert len(scores) == 2
    assert 0 <= sentence <= 1


@pytest.mark.slow
def test_whisper_results(corpus: Corpus, tiny_en: Transcriber) -> None:
    model = WhisperModel("tiny.en", "tiny.en", MODELS / "tiny.en.pt")
    chunk = read_audio([task(corpus, name, ["tiny.en"]) for name in ("0001", "half", "gone")])
    one, half, gone = whisper_results(model, None, "cpu", chunk)
    (transcript,) = tiny_en.transcribe([resample_sinc(read_stereo(corpus.signal("0001")).channel("right"))])
    cell = one.values["right tiny.en"]
    expected = word_and_sentence_scores(["you", "know", "you"], transcript)
    assert cell["transcript"] == transcript.text
    assert cell["scores"] == pytest.approx(
        [*expected[0], expected[1]], abs=1e-3
    )  # another batch: another order of sums
    assert (one.made_with["device"], one.made_with["dtype"]) == ("cpu", "float32")
    assert list(half.values) == ["left tiny.en"]
    assert "silent" in half.failures["right tiny.en"]
    assert (gone.values, list(gone.failures)) == ({}, ["left tiny.en", "right tiny.en"])
    assert "gone.flac, found none" in gone.failures["left tiny.en"]


@pytest.mark.slow
def test_metric_results_are_those_of_the_channel(corpus: Corpus) -> None:
    found = measure(corpus, "0001").values
    reference = resample_poly(read_stereo(corpus.unprocessed("0001")).mono)
    for channel in ("left", "right"):
        samples = read_stereo(corpus.signal("0001")).channel(channel)
        expected = {**intrusive_metrics(reference, resample_poly(samples)), **Dnsmos()(samples, FILE_RATE_HZ)}
        assert {key.split()[1]: value for key, value in found.items() if key.startswith(channel)} == expected
    assert found["left stoi"] != found["right stoi"]
    same = measure(corpus, "0002").values
    assert all(same[f"left {column}"] == same[f"right {column}"] for column in METRIC_COLUMNS)


def test_only_the_wanted_metrics_of_the_wanted_channel_are_computed(corpus: Corpus) -> None:
    wanted = Task("0001", {"left": ("estoi",), "right": ("dns_bak", "stoi")}, {}, corpus.datasets("mini_left")[0])
    (found,) = metric_results(None, read_audio([wanted]))
    assert sorted(found.values) == ["left estoi", "right dns_bak", "right stoi"]


@pytest.mark.slow
def test_bad_unprocessed_file_costs_only_the_intrusive_metrics(corpus: Corpus, tmp_path: Path) -> None:
    mine = corpus.copy(tmp_path / "c")
    write_stereo(mine.unprocessed("0001"), channels=1)
    found = measure(mine, "0001")
    assert sorted(found.values) == sorted(f"{c} {column}" for c in ("left", "right") for column in DNSMOS_COLUMNS)
    assert {key.split()[1] for key in found.failures} == set(INTRUSIVE_COLUMNS)
    assert set(found.failures.values()) == {"expected 2 channels, found 1"}
    edit_channels(mine.unprocessed("0002"), np.zeros_like)
    assert set(measure(mine, "0002").failures) == {"left pesq", "right pesq"}
