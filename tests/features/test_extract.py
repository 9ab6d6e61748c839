"""From audio and words to features: identical channels once, and what fails costs only what needs it."""

from pathlib import Path

import numpy as np
import pytest
from corpus import Corpus, edit_channels, make_corpus

from scow.data.audio import read_stereo, resample_poly, resample_sinc
from scow.data.tables import METRIC_COLUMNS
from scow.features.dnsmos import Dnsmos
from scow.features.extract import Task, metric_results, read_audio, transcribe_channels
from scow.features.intrusive import intrusive_metrics
from scow.features.partial import ChannelResult
from scow.features.whisper import Transcriber


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Signal 0001 has two different channels, 0002 two identical ones and a silent unprocessed file."""
    corpus = make_corpus(tmp_path / "c", dict.fromkeys(["0001", "0002"], "you know you"))
    edit_channels(corpus.signal("0002"), lambda samples: samples[:, [0, 0]])
    edit_channels(corpus.unprocessed("0002"), np.zeros_like)
    return corpus


def measure(corpus: Corpus, name: str) -> list[ChannelResult]:
    task = Task(name, dict.fromkeys(("left", "right"), METRIC_COLUMNS), {}, corpus.datasets("mini_left")[0])
    return metric_results(None, read_audio([task]))


@pytest.mark.slow
def test_identical_channels_are_transcribed_once(corpus: Corpus, tiny_en: Transcriber) -> None:
    left, right = read_stereo(corpus.signal("0001")).samples
    encoded: list[int] = []
    hook = tiny_en.model.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(output)))
    found = transcribe_channels(tiny_en, {"a": left, ("b", 1): right, "c": left.copy()})
    hook.remove()
    assert sum(encoded) == 2
    assert found["a"] == found["c"]
    (alone,) = tiny_en.transcribe([resample_sinc(right)])
    assert found["b", 1].text == alone.text


@pytest.mark.slow
def test_metric_results_are_those_of_the_channel(corpus: Corpus) -> None:
    reference = resample_poly(read_stereo(corpus.unprocessed("0001")).mono)
    for result in measure(corpus, "0001"):
        samples = read_stereo(corpus.signal("0001")).channel(result.channel)
        expected = intrusive_metrics(reference, resample_poly(samples)) | Dnsmos()(samples)
        assert result.values == pytest.approx(expected, abs=1e-12)  # with several threads, sums have another order
    left, right = measure(corpus, "0002")
    assert left.values == right.values
    assert list(left.failures) == list(right.failures) == ["stoi", "estoi", "pesq"], "the unprocessed file is silent"
