"""Word scores: tokens to words by hand, prompt words by hand, and the real tiny.en against a second implementation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from helpers import CLIP1, DEMO, MODELS
from scipy.signal import lfilter
from whisper.audio import log_mel_spectrogram

from scow.data.audio import MAX_DURATION_S, MODEL_RATE_HZ, read_stereo, resample_sinc
from scow.errors import UserError
from scow.features.whisper import (
    Transcriber,
    Transcript,
    TranscriptWord,
    WhisperModel,
    group_tokens,
    load_transcriber,
    prompt_word_scores,
)

# --- tokens to words ------------------------------------------------------------------------------------------------


def words_of(pieces: list[bytes], probabilities: list[float], end: float | None) -> list[tuple[str, float]]:
    return [(word.text, pytest.approx(word.probability)) for word in group_tokens(pieces, probabilities, end)]


def test_each_leading_space_begins_a_word() -> None:
    assert words_of([b" you", b" are", b" a", b"lone"], [0.1, 0.2, 0.4, 0.8], None) == [
        ("you", 0.1),
        ("are", 0.2),
        ("alone", 0.6),
    ]


def test_pieces_before_the_first_space_are_dropped() -> None:
    assert words_of([b"Y", b"ou", b" are"], [0.1, 0.2, 0.4], None) == [("are", 0.4)]
    assert words_of([b"You"], [0.1], 0.9) == []


def test_end_of_text_counts_in_the_last_word_only() -> None:
    assert words_of([b" you", b" are"], [0.2, 0.4], 0.8) == [("you", 0.2), ("are", 0.6)]
    assert words_of([b" you", b" are"], [0.2, 0.4], None) == [("you", 0.2), ("are", 0.4)]


def test_end_of_text_goes_with_a_last_word_of_only_punctuation() -> None:
    # The last word is the last group of tokens: "..." takes end-of-text along when it is dropped.
    assert words_of([b" you", b" ..."], [0.2, 0.4], 0.8) == [("you", 0.2)]


def test_punctuation_counts_in_the_mean_but_not_in_the_text() -> None:
    assert words_of([b" Hey", b",", b" You", b"!", b"?"], [0.2, 0.6, 0.3, 0.6, 0.9], None) == [
        ("hey", 0.4),
        ("you", 0.6),
    ]


def test_words_without_text_are_skipped() -> None:
    assert words_of([b" -", b" you", b" ", b" _", b" me"], [0.1, 0.2, 0.3, 0.4, 0.5], None) == [
        ("you", 0.2),
        ("me", 0.5),
    ]


def test_apostrophes_stay_and_letters_split_over_tokens_are_joined() -> None:
    assert words_of([b" I", b"'m", b" caf", b"\xc3", b"\xa9"], [0.2, 0.4, 0.3, 0.3, 0.9], None) == [
        ("i'm", 0.3),
        ("café", 0.5),
    ]


def test_nothing_emitted_gives_no_words() -> None:
    assert group_tokens([], [], 0.9) == ()


def test_pieces_and_probabilities_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        group_tokens([b" a", b" b"], [0.1], None)


# --- prompt words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "prompt", "scores"),
    [
        ("la:.1 la:.2 la:.3", "la la la la", (0.3, 0.3, 0.3, 0.3)),  # the last occurrence wins
        ("you:.9 are:.8 you:.1", "you are", (0.1, 0.8)),
        ("i'm:.5 here:.4", "i am here", (0.5, 0.5, 0.4)),  # each part gets the score
        ("i:.2 i'm:.5", "i am", (0.5, 0.5)),
        ("i'm:.5 am:.1", "i am", (0.5, 0.1)),
        ("don't:.7", "do not", (0.7, 0.7)),
        ("we'll:.6", "we will stay", (0.6, 0.6, 0.0)),
        ("it's:.3", "it is", (0.3, 0.3)),
        ("can't:.6", "cannot", (0.6,)),
        ("cannot:.6", "can't", (0.6,)),
        ("can't:.6", "can't", (0.6,)),
        ("can't:.6", "can not", (0.0, 0.0)),
        ("seattle's:.6", "seattle's rain", (0.6, 0.0)),  # a possessive is no contraction
        ("you:.9", "You! ?", (0.9, 0.0)),
        ("", "you are", (0.0, 0.0)),
        ("you:.9", "", ()),
    ],
)
def test_prompt_word_scores(heard: str, prompt: str, scores: tuple[float, ...]) -> None:
    words = tuple(TranscriptWord(text, float(p)) for text, p in (item.split(":") for item in heard.split()))
    found = prompt_word_scores(prompt.split(), Transcript("", words))
    assert found == scores


# --- the real model -------------------------------------------------------------------------------------------------


def babble(seed: int, seconds: float) -> np.ndarray:
    """Glottal pulses through the formants of changing vowels, four syllables a second, at 16 kHz."""
    rng = np.random.default_rng(seed)
    n = MODEL_RATE_HZ // 4
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]
    syllables = []
    for _ in range(int(seconds * 4)):
        phase = np.cumsum(np.full(n, 120 * (1 + 0.1 * rng.standard_normal()) / MODEL_RATE_HZ))
        voice = (np.diff(np.floor(phase), prepend=0) > 0).astype(float)
        for formant in vowels[rng.integers(5)]:
            r = np.exp(-np.pi * 80 / MODEL_RATE_HZ)
            voice = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * formant / MODEL_RATE_HZ), r * r], voice)
        syllable = voice / np.abs(voice).max() * np.hanning(n)
        syllable[: n // 5] += 0.01 * rng.standard_normal(n // 5)
        syllables.append(syllable)
    return (0.3 * np.concatenate(syllables)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tiny_en: Transcriber) -> Any:
    """The bare model, for hooks and for the second implementation (`tiny_en` says whether it is there)."""
    return whisper.load_model(str(MODELS / "tiny.en.pt"), device="cpu").eval()


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Ears with transcripts of different lengths; real singing too, where there is any."""
    found = [babble(6, 1.5), np.zeros(MODEL_RATE_HZ, np.float32)]
    real = sorted(CLIP1.glob("cadenza_data_valid/*/signals/*.flac"))
    return found + [resample_sinc(read_stereo(path).channel("left")) for path in real[1:2]]


@pytest.fixture(scope="module")
def heard_alone(tiny_en: Transcriber, clips: list[np.ndarray]) -> list[Transcript]:
    return [tiny_en.listen([clip])[0] for clip in clips]


def by_hand(model: Any, ear: np.ndarray) -> tuple[list[str], list[float]]:
    """Texts and probabilities of the words, the decoder run anew for every token, without `whisper.decode`."""
    tokenizer = whisper.tokenizer.get_tokenizer(multilingual=False, language="en", task="transcribe")
    special = {tokenizer.sot, tokenizer.sot_prev, tokenizer.sot_lm, tokenizer.no_speech}
    forbidden = sorted({*tokenizer.non_speech_tokens, tokenizer.translate, tokenizer.transcribe, *special})
    first = [*tokenizer.encode(" "), tokenizer.eot]
    padded = np.zeros(int(MAX_DURATION_S * MODEL_RATE_HZ), np.float32)
    padded[: len(ear)] = ear
    tokens, probabilities = [tokenizer.sot, tokenizer.no_timestamps], []
    with torch.inference_mode():
        encoded = model.encoder(log_mel_spectrogram(padded, model.dims.n_mels)[None])
        while tokens[-1] != tokenizer.eot:
            logits = model.decoder(torch.tensor([tokens]), encoded)[0, -1].double()
            allowed = logits.clone()
            allowed[forbidden + (first if len(tokens) == 2 else [])] = -np.inf
            tokens.append(int(allowed.argmax()))
            probabilities.append(float(torch.softmax(logits, -1)[tokens[-1]]))
            assert len(tokens) < 100
    texts: list[str] = []
    groups: list[list[float]] = []
    for token, probability in zip(tokens[2:], probabilities, strict=True):
        piece = "" if token == tokenizer.eot else tokenizer.decode([token])
        if piece.startswith(" "):
            texts.append("")
            groups.append([])
        if texts:
            texts[-1] += piece
            groups[-1].append(probability)
    bare = [re.sub(r"[^a-z0-9']", "", text.lower()) for text in texts]
    return [t for t in bare if t], [sum(g) / len(g) for t, g in zip(bare, groups, strict=True) if t]


def test_probabilities_agree_with_a_token_by_token_decoder(
    weights: Any, clips: list[np.ndarray], heard_alone: list[Transcript]
) -> None:
    # One pass over all tokens and one pass per token sum in another order: they agree to about 1e-6.
    for i in (0, len(clips) - 1):
        texts, probabilities = by_hand(weights, clips[i])
        assert texts
        assert [word.text for word in heard_alone[i].words] == texts
        assert [word.probability for word in heard_alone[i].words] == pytest.approx(probabilities, abs=1e-4)


@pytest.fixture(scope="module")
def heard_together(weights: Any, clips: list[np.ndarray]) -> tuple[list[Transcript], int]:
    """All clips as one batch, and how many ears went through the encoder for that."""
    rows: list[int] = []
    hook = weights.encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    try:
        return Transcriber(weights, fp16=False).listen(clips), sum(rows)
    finally:
        hook.remove()


def test_batch_gives_what_each_ear_gives_alone(
    heard_alone: list[Transcript], heard_together: tuple[list[Transcript], int]
) -> None:
    lengths = {len(transcript.text) for transcript in heard_alone}
    assert len(lengths) > 1, "the shorter transcripts must be padded for this test to mean anything"
    for alone, together in zip(heard_alone, heard_together[0], strict=True):
        assert together.text == alone.text
        assert [word.text for word in together.words] == [word.text for word in alone.words]
        # A matrix product of another batch size sums in another order: 1e-3 is well above float32's share of it.
        assert [w.probability for w in together.words] == pytest.approx([w.probability for w in alone.words], abs=1e-3)


def test_encoder_runs_once_per_ear(clips: list[np.ndarray], heard_together: tuple[list[Transcript], int]) -> None:
    assert heard_together[1] == len(clips)


@pytest.mark.parametrize(
    "ear",
    [
        pytest.param(np.eye(1, 8_000, 4_000, dtype=np.float32)[0], id="one click in half a second"),
        pytest.param(np.ones(int(MAX_DURATION_S * MODEL_RATE_HZ), np.float32), id="thirty seconds of full scale"),
        pytest.param(np.zeros(1, np.float32), id="one silent sample"),
    ],
)
def test_ears_without_words_do_not_crash(tiny_en: Transcriber, ear: np.ndarray) -> None:
    (transcript,) = tiny_en.listen([ear])
    assert all(word.text and 0 <= word.probability <= 1 for word in transcript.words)
    assert len(prompt_word_scores(["you", "me"], transcript)) == 2


def test_transcript_that_fills_the_context_has_no_end_of_text(
    clips: list[np.ndarray], heard_alone: list[Transcript]
) -> None:
    model = whisper.load_model(str(MODELS / "tiny.en.pt"), device="cpu").eval()
    model.dims.n_text_ctx = 3  # start of transcript, no timestamps, and room for one token
    (cut,) = Transcriber(model, fp16=False).listen([clips[1]])
    whole = heard_alone[1]
    assert len(cut.words) == len(whole.words) == 1
    texts, (both,) = by_hand(model, clips[1])
    assert texts == [cut.words[0].text]
    assert whole.words[0].probability == pytest.approx(both, abs=1e-4)
    assert cut.words[0].probability != pytest.approx(both, abs=1e-3)  # the mean lacks the end-of-text


def test_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.en.pt"
    path.write_bytes(b"no weights")
    for model in (WhisperModel("tiny.en", "tiny.en", path), WhisperModel("tiny.en", "tiny.en")):
        with pytest.raises(UserError, match=r"tiny\.en\.pt: cannot be loaded as Whisper weights"):
            load_transcriber(model, model_dir=tmp_path, device="cpu")


# --- memory, threads, and rows that leave the batch -----------------------------------------------------------------


class Narrow(Transcriber):
    """A listener whose memory holds only some ears, with a count of what was tried."""

    def __init__(self, model: Any, room_for: int) -> None:
        super().__init__(model, fp16=False)
        self.room_for = room_for
        self.tried: list[int] = []

    def _listen_at_once(self, ears: Sequence[np.ndarray]) -> list[Transcript]:
        self.tried.append(len(ears))
        if len(ears) > self.room_for:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super()._listen_at_once(ears)


def assert_heard_alike(found: Sequence[Transcript], expected: Sequence[Transcript]) -> None:
    assert [transcript.text for transcript in found] == [transcript.text for transcript in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert [word.text for word in mine.words] == [word.text for word in theirs.words]
        # 1e-3: another batch size sums in another order, see above.
        assert [w.probability for w in mine.words] == pytest.approx([w.probability for w in theirs.words], abs=1e-3)


def test_too_little_memory_halves_the_ears_and_carries_on(
    weights: Any, clips: list[np.ndarray], heard_alone: list[Transcript]
) -> None:
    listener = Narrow(weights, room_for=1)
    five = [0, 1, 0, 1, 0]
    found = listener.listen([clips[i] for i in five])
    assert listener.tried == [5, 2, 1, 1, 1, 1, 1]
    assert_heard_alike(found, [heard_alone[i] for i in five])
    listener.listen([clips[1]] * 2)
    assert listener.tried[7:] == [1, 1], "what was too much once is not tried again"


def test_memory_for_no_ear_at_all_is_one_line(weights: Any, clips: list[np.ndarray]) -> None:
    listener = Narrow(weights, room_for=0)
    with pytest.raises(UserError, match=r"^Whisper: expected memory for one ear on cpu, found too little; .*smaller"):
        listener.listen(clips[:2])
    assert listener.tried == [2, 1]


def test_threads_do_not_change_a_bit(weights: Any, clips: list[np.ndarray]) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(Transcriber(weights, fp16=False).listen(clips))
            assert torch.get_num_threads() == threads, "the number of threads is put back"
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def long_clip(tiny_en: Transcriber) -> tuple[np.ndarray, Transcript]:
    """A sung line, whose transcript is several times as long as those of `clips`."""
    ear = resample_sinc(read_stereo(DEMO / "demo" / "signals" / "twinkle_none.flac").channel("left"))
    (transcript,) = tiny_en.listen([ear])
    return ear, transcript


def test_a_long_transcript_among_short_ones_is_what_it_is_alone(
    weights: Any, clips: list[np.ndarray], heard_alone: list[Transcript], long_clip: tuple[np.ndarray, Transcript]
) -> None:
    ear, alone = long_clip
    assert len(alone.words) > 2 * max(len(transcript.words) for transcript in heard_alone[:2])
    sizes: list[int] = []
    hook = weights.decoder.ln.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    try:
        found = Transcriber(weights, fp16=False).listen([clips[0], clips[1], ear, clips[1], clips[0]])
    finally:
        hook.remove()
    assert sizes[0] == 5
    assert sizes[-1] == 1, "rows that have ended must have left for this test to mean anything"
    assert_heard_alike(found, [heard_alone[0], heard_alone[1], alone, heard_alone[1], heard_alone[0]])


def test_probabilities_are_those_of_one_pass_over_the_whole_sequence(
    weights: Any, long_clip: tuple[np.ndarray, Transcript]
) -> None:
    ear, alone = long_clip
    listener = Transcriber(weights, fp16=False)
    tokenizer = whisper.tokenizer.get_tokenizer(multilingual=False, language="en", task="transcribe")
    with torch.inference_mode():
        encoded = weights.encoder(log_mel_spectrogram(whisper.pad_or_trim(ear), weights.dims.n_mels)[None])
        ((tokens, probabilities),) = listener._greedy(encoded)
        start = [tokenizer.sot, tokenizer.no_timestamps]
        sequence = [*start, *tokens, tokenizer.eot]
        logits = weights.logits(torch.tensor([sequence]), encoded)[0].double()
        wanted = torch.softmax(logits, -1)[range(len(start) - 1, len(sequence) - 1), sequence[len(start) :]]
    assert len(tokens) > 8
    assert alone.text == tokenizer.decode(tokens).strip()
    # One pass and one per token sum in another order: they agree to about 1e-6.
    assert probabilities == pytest.approx(wanted.tolist(), abs=1e-4)


def test_half_precision_hears_the_same(weights: Any, long_clip: tuple[np.ndarray, Transcript]) -> None:
    """The CUDA path's number format, here on the CPU."""
    ear, alone = long_clip
    (found,) = Transcriber(weights, fp16=True).listen([ear])
    assert found.text == alone.text
    # float16 has 11 bits, 5e-4 of a value, and loses some through the layers.
    assert [w.probability for w in found.words] == pytest.approx([w.probability for w in alone.words], abs=0.02)
    assert [w.probability for w in found.words] != [w.probability for w in alone.words]
