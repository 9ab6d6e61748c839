"""Word scores: tokens to words by hand, prompt words by hand, and the real tiny.en against `whisper.decode`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from helpers import DEMO, MODELS, load_whisper
from whisper.audio import log_mel_spectrogram

from scow.data.audio import MODEL_RATE_HZ, read_stereo, resample_sinc
from scow.errors import UserError
from scow.features.whisper import (
    Transcriber,
    Transcript,
    group_tokens,
    load_transcriber,
    prompt_word_scores,
    prompt_word_times,
    resolve_model,
)


@pytest.mark.parametrize(
    ("tokens", "end", "words"),
    [
        (" you:.1| are:.2| a:.4|lone:.8", [], "you:.1 are:.2 alone:.6"),  # a leading space begins a word
        ("Y:.1|ou:.2| are:.4", [], "are:.4"),  # what is before the first one is dropped
        (" you:.2| are:.4", [0.8], "you:.2 are:.6"),  # end-of-text counts in the last word only
        (" you:.2| ...:.4", [0.8], "you:.2"),  # also where the last word is only punctuation, and dropped
        (" Hey:.2|,:.6| You:.3|!:.6|?:.9", [], "hey:.4 you:.6"),  # punctuation counts in the mean
        (" -:.1| you:.2| :.3| _:.4| me:.5", [], "you:.2 me:.5"),  # a word without text is skipped
        (" I:.2|'m:.4| caf:.3|é:.9", [], "i'm:.3 café:.6"),
        ("", [0.9], ""),
    ],
)
def test_group_tokens(tokens: str, end: list[float], words: str) -> None:
    pairs = [token.rsplit(":", 1) for token in tokens.split("|") if token]
    found = group_tokens([text.encode() for text, _ in pairs], [*(float(p) for _, p in pairs), *end])
    expected = [word.split(":") for word in words.split()]
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [score for _, score in found] == pytest.approx([float(score) for _, score in expected])


@pytest.mark.parametrize(
    ("transcript", "prompt", "scores"),
    [
        ("la:.1 la:.2 la:.3", "la la la la", (0.3, 0.3, 0.3, 0.3)),  # the last occurrence wins
        ("you:.9 are:.8 you:.1", "you are", (0.1, 0.8)),
        ("i'm:.5 here:.4", "i am here", (0.5, 0.5, 0.4)),  # each part gets the score
        ("can't:.6 cannot:.7", "cannot", (0.7,)),
        ("cannot:.6", "can't", (0.6,)),
        ("can't:.6", "can not", (0.0, 0.0)),
        ("seattle's:.6", "seattle's rain", (0.6, 0.0)),  # a possessive is no contraction
        ("you:.9", "You! ?", (0.9, 0.0)),
        ("", "you are", (0.0, 0.0)),
    ],
)
def test_prompt_word_scores(transcript: str, prompt: str, scores: tuple[float, ...]) -> None:
    words = tuple((text, float(score)) for text, score in (word.split(":") for word in transcript.split()))
    assert prompt_word_scores(prompt.split(), Transcript("", words)) == scores


@pytest.mark.parametrize(
    ("transcript", "prompt", "places"),
    [
        ("la you la", "la la la", (0, None, 2)),  # each once, in order
        ("are you", "you are you", (None, 0, 1)),
        ("i'm here", "i am near here", (0, 0, None, 1)),  # parts of a contraction share its time
        ("", "you are", (None, None)),
    ],
)
def test_prompt_word_times(transcript: str, prompt: str, places: tuple[int | None, ...]) -> None:
    timed = [(word, i, i + 0.5) for i, word in enumerate(transcript.split())]
    expected = tuple(None if i is None else (i, i + 0.5) for i in places)
    assert prompt_word_times(prompt.split(), timed) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_word_times_move_with_the_audio(name: str) -> None:
    transcriber = load_whisper(name)
    wave = resample_sinc(read_stereo(DEMO / "demo" / "signals" / "twinkle_none.flac").mono)
    text = "Twinkle, twinkle, little star, how I wonder what you are."
    early, late = (transcriber.word_times(np.pad(wave, (n, 0)), text) for n in (0, 2 * MODEL_RATE_HZ))
    assert [word for word, _, _ in early] == "twinkle twinkle little star how i wonder what you are".split()
    times = np.array([(start, end) for _, start, end in early])
    assert (np.diff(times.flatten()) >= 0).all()
    assert times[0, 0] >= 0
    assert times[-1, 1] <= len(wave) / MODEL_RATE_HZ
    assert np.median(np.array([(start, end) for _, start, end in late]) - times) == pytest.approx(2, abs=0.1)
    assert transcriber.word_times(wave, "la " * 1000)[0][0] == "la"  # as a model that repeats itself writes


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.en.pt"
    path.write_bytes(b"no weights")
    for model in (resolve_model(str(path)), resolve_model("tiny.en")):
        with pytest.raises(UserError, match=r"tiny\.en\.pt: cannot be loaded as Whisper weights"):
            load_transcriber(model, model_dir=tmp_path, device="cpu")


@pytest.fixture(scope="module")
def weights(tiny_en: Transcriber) -> Any:
    """The bare model, for hooks and for the second implementation (`tiny_en` skips where it is not there)."""
    return whisper.load_model(str(MODELS / "tiny.en.pt"), device="cpu").eval()


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Channels at 16 kHz whose transcripts have different lengths: a sung line, a part of it, silence."""
    line = resample_sinc(read_stereo(DEMO / "demo" / "signals" / "twinkle_none.flac").channel("left"))
    return [line, line[: 2 * MODEL_RATE_HZ], np.zeros(MODEL_RATE_HZ, np.float32)]


def greedy(model: Any, clip: np.ndarray, **options: Any) -> Transcript:
    """Tokens of `whisper.decode`, and their probabilities from one pass of the decoder over all of them."""
    tokenizer = whisper.tokenizer.get_tokenizer(model.is_multilingual, language="en", task="transcribe")
    start = list(tokenizer.sot_sequence_including_notimestamps)
    mel = log_mel_spectrogram(whisper.pad_or_trim(clip), model.dims.n_mels)
    fixed = {"language": "en", "temperature": 0.0, "without_timestamps": True, "fp16": False}
    decoded = whisper.decode(model, mel, whisper.DecodingOptions(**fixed, **options))
    emitted = [*decoded.tokens, tokenizer.eot]
    with torch.inference_mode():
        logits = model(mel[None], torch.tensor([start + emitted[:444]]))[0, len(start) - 1 :].double()
    probabilities = logits.softmax(-1)[range(len(emitted)), emitted].tolist()
    pieces = [tokenizer.encoding.decode_single_token_bytes(token) for token in decoded.tokens]
    return Transcript(decoded.text, group_tokens(pieces, probabilities[:444]))


@pytest.fixture(scope="module")
def expected(weights: Any, clips: list[np.ndarray]) -> list[Transcript]:
    return [greedy(weights, clip) for clip in clips]


def assert_alike(found: list[Transcript], expected: list[Transcript]) -> None:
    """Equal but for scores, because float32 sums in another order with another batch."""
    assert [transcript.text for transcript in found] == [transcript.text for transcript in expected]
    scores = [[score for t in transcripts for _, score in t.words] for transcripts in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.slow
def test_channels_together_are_as_each_alone_in_one_pass(
    weights: Any, clips: list[np.ndarray], expected: list[Transcript]
) -> None:
    assert len(expected[0].words) > 2 * len(expected[2].words)
    encoded: list[int] = []
    decoded: list[int] = []
    hooks = [
        weights.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(output))),
        weights.decoder.ln.register_forward_hook(lambda module, inputs, output: decoded.append(len(output))),
    ]
    order = [2, 1, 0, 2]
    found = Transcriber(weights, fp16=False).transcribe([clips[i] for i in order])
    for hook in hooks:
        hook.remove()
    assert_alike(found, [expected[i] for i in order])
    assert encoded == [1] * 4
    assert (decoded[0], decoded[-1]) == (4, 1), "channels that have ended must leave the batch"


@pytest.mark.slow
def test_too_little_memory_halves_the_batch(weights: Any, clips: list[np.ndarray], expected: list[Transcript]) -> None:
    tried: list[int] = []

    def limit(module: Any, inputs: Any, output: torch.Tensor) -> None:
        tried.append(len(output))
        if len(output) > room:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate" if room else "CUDA out of memory. Tried to allocate"
            )

    transcriber, room = Transcriber(weights, fp16=False), 1
    hook = weights.decoder.ln.register_forward_hook(limit)
    try:
        assert_alike(transcriber.transcribe([clips[2]] * 4), [expected[2]] * 4)
        assert [n for n in tried if n > 1] == [4, 2]
        room = 0
        with pytest.raises(UserError, match="expected memory for one channel on cpu, found too little"):
            transcriber.transcribe([clips[2]])
    finally:
        hook.remove()


def load(name: str, engine: str) -> Transcriber:
    load_whisper(name)  # skips where the weights are missing
    return load_transcriber(resolve_model(name), model_dir=MODELS, device="cpu", engine=engine)


@pytest.mark.slow
def test_looping_channel_in_a_batch_is_greedy() -> None:
    paths = sorted((DEMO / "demo" / "signals").glob("twinkle_*.flac"))
    waves = [resample_sinc(read_stereo(path).channel("left")) for path in paths]
    transcriber = load("base", "torch")
    passes: list[int] = []
    hook = transcriber.model.decoder.ln.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    found = transcriber.transcribe(waves)
    hook.remove()
    assert len(passes) < 150, "guessed tokens are verified many at a time"
    (loop,) = (i for i, transcript in enumerate(found) if len(transcript.words) > 50)
    assert_alike([found[loop]], [greedy(transcriber.model, waves[loop], sample_len=444)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_engines_agree_also_on_hard_cuts(name: str) -> None:
    """40 channels of the demo and, where they are, the challenge's excerpts; hard cuts begin and end inside words."""
    pytest.importorskip("openvino")
    paths = sorted((DEMO / "demo" / "signals").glob("*.flac"))[-2:]
    paths += sorted((Path(__file__).parents[3] / "shared" / "clip1").glob("cadenza_data_*/*/signals/*.flac"))
    whole = [resample_sinc(read_stereo(path).channel(c)) for path in paths for c in ("left", "right")]
    cuts = [wave[MODEL_RATE_HZ * k // 2 : MODEL_RATE_HZ * (k + 3) // 2] for wave in whole[1::2] for k in (1, 2, 4)]
    waves = [wave for wave in whole + cuts if len(wave)]
    assert_alike(load(name, "openvino").transcribe(waves), load(name, "torch").transcribe(waves))


@pytest.mark.slow
def test_damaged_converted_encoder_is_converted_again(tmp_path: Path, clips: list[np.ndarray]) -> None:
    pytest.importorskip("openvino")
    load_whisper("tiny.en")
    (tmp_path / "tiny.en.pt").symlink_to((MODELS / "tiny.en.pt").resolve())
    kept = tmp_path / "tiny.en.openvino"
    kept.write_bytes(b"damaged")
    transcriber = load_transcriber(resolve_model("tiny.en"), model_dir=tmp_path, device="cpu", engine="openvino")
    first, content = transcriber.transcribe(clips[:1]), kept.read_bytes()
    assert len(content) > 1e6
    kept.write_bytes(content[:1000] + b"?" * 1000 + content[2000:])
    transcriber = load_transcriber(resolve_model("tiny.en"), model_dir=tmp_path, device="cpu", engine="openvino")
    assert transcriber.transcribe(clips[:1]) == first
    assert zipfile.ZipFile(kept).testzip() is None
