"""Word scores: tokens to words by hand, prompt words by hand, and the real tiny.en against `whisper.decode`."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from helpers import DEMO, MODELS, ROOT, golden, load_whisper
from whisper.audio import log_mel_spectrogram

from scow.data.audio import MODEL_RATE_HZ, read_stereo, resample_sinc
from scow.errors import UserError
from scow.features import whisper as features
from scow.features.whisper import Transcriber, Transcript, group_tokens, load_transcriber, resolve_model

GOLDEN = golden("word_scores.yaml")
SIGNALS = DEMO / "demo" / "signals"


def scored(text: str, separator: str | None = None) -> list[tuple[str, float]]:
    """Words or tokens and their scores."""
    return [(word, float(score)) for word, _, score in (pair.rpartition(":") for pair in text.split(separator) if pair)]


@pytest.mark.parametrize(("tokens", "after", "words"), GOLDEN["words_of_tokens"])
def test_group_tokens(tokens: str, after: list[float], words: str) -> None:
    pieces = scored(tokens, "|")
    found = group_tokens([text.encode() for text, _ in pieces], [*(p for _, p in pieces), *after])
    assert list(found) == [(text, pytest.approx(score)) for text, score in scored(words)]


@pytest.mark.parametrize(("transcript", "prompt", "scores"), GOLDEN["scores_of_prompts"])
def test_prompt_word_scores(transcript: str, prompt: str, scores: list[float]) -> None:
    assert list(features.prompt_word_scores(prompt.split(), Transcript("", tuple(scored(transcript))))) == scores


@pytest.mark.parametrize(("transcript", "prompt", "places"), GOLDEN["times_of_prompts"])
def test_prompt_word_times(transcript: str, prompt: str, places: list[int | None]) -> None:
    timed = [(word, i, i + 0.5) for i, word in enumerate(transcript.split())]
    expected = tuple(None if i is None else (i, i + 0.5) for i in places)
    assert features.prompt_word_times(prompt.split(), timed) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_word_times_move_with_the_audio(name: str) -> None:
    transcriber = load_whisper(name)
    wave = resample_sinc(read_stereo(SIGNALS / "twinkle_none.flac").mono)
    text = "Twinkle, twinkle, little star, how I wonder what you are."
    early, late = (transcriber.word_times(np.pad(wave, (n, 0)), text) for n in (0, 2 * MODEL_RATE_HZ))
    assert [word for word, _, _ in early] == "twinkle twinkle little star how i wonder what you are".split()
    times = np.array([(start, end) for _, start, end in early])
    assert (np.diff(times.flatten()) >= 0).all()
    assert times[0, 0] >= 0
    assert times[-1, 1] <= len(wave) / MODEL_RATE_HZ
    assert np.median(np.array([(start, end) for _, start, end in late]) - times) == pytest.approx(2, abs=0.1)
    if name == "tiny.en":
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
    line = resample_sinc(read_stereo(SIGNALS / "twinkle_none.flac").channel("left"))
    return [line, line[: 2 * MODEL_RATE_HZ], np.zeros(MODEL_RATE_HZ, np.float32)]


def greedy(model: Any, clip: np.ndarray) -> Transcript:
    """Tokens of `whisper.decode`, and their probabilities from one pass of the decoder over all of them."""
    tokenizer = whisper.tokenizer.get_tokenizer(model.is_multilingual, language="en", task="transcribe")
    start = list(tokenizer.sot_sequence_including_notimestamps)
    mel, room = log_mel_spectrogram(whisper.pad_or_trim(clip), model.dims.n_mels), model.dims.n_text_ctx - len(start)
    options = {"language": "en", "temperature": 0.0, "without_timestamps": True, "fp16": False, "sample_len": room}
    decoded = whisper.decode(model, mel, whisper.DecodingOptions(**options))
    emitted = [*decoded.tokens, tokenizer.eot]
    with torch.inference_mode():
        logits = model(mel[None], torch.tensor([start + emitted[:room]]))[0, len(start) - 1 :].double()
    probabilities = logits.softmax(-1)[range(len(emitted)), emitted].tolist()
    pieces = [tokenizer.encoding.decode_single_token_bytes(token) for token in decoded.tokens]
    return Transcript(decoded.text, group_tokens(pieces, probabilities[:room]))


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


def with_openvino(model_dir: Path) -> Transcriber:
    pytest.importorskip("openvino")
    return load_transcriber(resolve_model("tiny.en"), model_dir=model_dir, device="cpu", engine="openvino")


@pytest.fixture(scope="module")
def fast(tiny_en: Transcriber) -> Transcriber:
    return with_openvino(MODELS)


@pytest.mark.slow
def test_looping_channel_in_a_batch_is_greedy(weights: Any, clips: list[np.ndarray]) -> None:
    """A cut in which a word is repeated, so that Whisper repeats it to the end of its context."""
    loop = resample_sinc(read_stereo(SIGNALS / "row_mild.flac").mono)[MODEL_RATE_HZ : MODEL_RATE_HZ * 5 // 2]
    passes: list[int] = []
    hook = weights.decoder.ln.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    found = Transcriber(weights, fp16=False).transcribe([clips[2], loop, clips[0]])
    hook.remove()
    assert len(passes) < 150, "guessed tokens are verified many at a time"
    assert len(found[1].words) > 200
    assert_alike([found[1]], [greedy(weights, loop)])


@pytest.mark.slow
def test_engines_agree_also_on_hard_cuts(weights: Any, fast: Transcriber) -> None:
    """Channels of the demo and, where they are, the challenge's excerpts; hard cuts begin and end inside words."""
    paths = sorted(SIGNALS.glob("*.flac"))[-2:]
    paths += sorted((ROOT.parent / "shared" / "clip1").glob("cadenza_data_*/*/signals/*.flac"))
    whole = [resample_sinc(read_stereo(path).channel(("left", "right")[i % 2])) for i, path in enumerate(paths)]
    cuts = [wave[MODEL_RATE_HZ * k // 2 : MODEL_RATE_HZ * (k + 3) // 2] for wave in whole[1::2] for k in (1, 2, 4)]
    waves = [wave for wave in whole + cuts if len(wave)]
    assert_alike(fast.transcribe(waves), Transcriber(weights, fp16=False).transcribe(waves))


@pytest.mark.slow
def test_damaged_converted_encoder_is_converted_again(
    tmp_path: Path, fast: Transcriber, clips: list[np.ndarray]
) -> None:
    (tmp_path / "tiny.en.pt").symlink_to((MODELS / "tiny.en.pt").resolve())
    content, kept = (MODELS / "tiny.en.openvino").read_bytes(), tmp_path / "tiny.en.openvino"
    assert len(content) > 1e6
    kept.write_bytes(content[:1000] + b"?" * 1000 + content[2000:])
    assert with_openvino(tmp_path).transcribe(clips[2:]) == fast.transcribe(clips[2:])
    assert zipfile.ZipFile(kept).testzip() is None
