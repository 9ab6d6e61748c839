"""Word scores from Whisper: how confidently one model recognises each prompt word in one channel.

The definition (``published``), for one channel and one model:

1. The channel at 16 kHz (`scow.data.audio.resample_sinc`), padded to Whisper's 30-s window, as log-mel spectrogram. A
   shorter window is not equivalent: it changes most transcripts of tiny.en.
2. Greedy decoding: temperature 0, English, transcribe, no timestamps; Whisper's non-speech tokens and the initial
   blank are suppressed. The transcript may fill the decoder's context of 448 tokens.
3. The probability of each emitted token, end-of-text included, as the decoder gives it after the tokens before,
   without the suppression of step 2.
4. Tokens form words at each token that begins with a space; tokens before the first such token are dropped. A word's
   text is lower-cased with everything but word characters and apostrophes removed; its score is the mean probability
   of its tokens, punctuation included. The last word's mean also includes the end-of-text token.
5. A contraction is expanded and each part gets the score.
6. A prompt word's score is that of the same word in the transcript, the last one where it repeats, 0 where absent.
7. The sentence score is the hit rate of the whole transcript (`scow.text.labels.hit_rate`).

The encoder (`scow.features.encoder`) runs once per channel, one channel at a time on a CPU; the decoder
(`scow.features.decoding`), which spends its time on reading weights, takes many channels at once. Twelve models make
the twelve columns; ``large`` is **large-v1**, although openai-whisper's own ``large`` is large-v3.

Two things depart from the published columns: a prompt word that is a contraction of one word (``can't``) is found in a
transcript, where published tables hold 0; and `scow.text` expands contractions that the published list lacks.

Reference: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from scow.data.tables import WHISPER_COLUMNS
from scow.errors import UserError, nearest
from scow.features.decoding import channels_that_fit, decode_greedily
from scow.text.normalize import bare_word, expand_contraction

if TYPE_CHECKING:
    import torch

DEFINITION = "published"
LANGUAGE = "en"
_OPENAI_NAMES = {column: column for column in WHISPER_COLUMNS} | {"large": "large-v1"}
_OTHER_SPELLINGS = {"large-v1": "large", "turbo": "large-v3-turbo"}


@dataclass(frozen=True)
class WhisperModel:
    """Which weights fill which column."""

    column: str  # of the feature table
    openai_name: str  # that openai-whisper downloads
    path: Path | None = None  # weights on disk, instead of a download


@dataclass(frozen=True)
class Transcript:
    """What a model recognised in one channel."""

    text: str
    words: tuple[tuple[str, float], ...]  # text and score of step 4, contractions not yet expanded
    embedding: np.ndarray | None = field(default=None, compare=False)  # see scow.data.embeddings


@dataclass(frozen=True)
class Segment:
    """A part of a long recording, as Whisper cuts it by its own time stamps."""

    start_s: float
    end_s: float
    text: str


def resolve_model(name: str, column: str | None = None) -> WhisperModel:
    """The model of a name (``tiny.en``, ``openai/whisper-tiny.en``, ``large-v1``) or of the path of a ``.pt`` file.

    It fills `column`; by default that of the name, or of the file's name without ``.pt``.
    """
    path = Path(name) if name.endswith(".pt") else None
    if path is not None and not path.is_file():
        raise UserError(f"whisper.models: expected the weights {path}, found no such file")
    short = path.stem if path else name.removeprefix("openai/whisper-").removeprefix("whisper-")
    named = _OTHER_SPELLINGS.get(short, short)
    found = column or named
    if found not in _OPENAI_NAMES:
        raise UserError(f"no Whisper column or model {found!r}; {nearest(found, _OPENAI_NAMES)}")
    if path is None and named != found:
        raise UserError(f"whisper.models: column {found} expects the model {found}, found {name!r}")
    return WhisperModel(found, _OPENAI_NAMES[found], path)


def prompt_word_scores(words: Sequence[str], transcript: Transcript) -> tuple[float, ...]:
    """Score of each prompt word in a transcript, in 0 to 1: steps 5 and 6 of the definition."""
    scores = {part: score for text, score in transcript.words for part in expand_contraction(text)}
    return tuple(scores.get(_as_transcribed(word), 0.0) for word in words)


def prompt_word_times(
    words: Sequence[str], timed: Sequence[tuple[str, float, float]]
) -> tuple[tuple[float, float] | None, ...]:
    """Start and end of each prompt word among the words of `Transcriber.word_times`, None where absent.

    A word is the same as in step 6; the words of both are aligned in order, as for the hit rate.
    """
    parts = [(part, (start, end)) for text, start, end in timed for part in expand_contraction(text)]
    aligned = Levenshtein.opcodes([_as_transcribed(word) for word in words], [part for part, _ in parts])
    found = {a + k: parts[b + k][1] for a, b, size in aligned.as_matching_blocks() for k in range(size)}
    return tuple(found.get(i) for i in range(len(words)))


def _as_transcribed(word: str) -> str:
    """A prompt word in the form in which transcripts hold it: ``can't`` is cannot."""
    parts = expand_contraction(bare_word(word))
    return parts[0] if len(parts) == 1 else bare_word(word)


def group_tokens(pieces: Sequence[bytes], probabilities: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """Words of a transcript and their scores, step 4 of the definition.

    `pieces` are the texts of the emitted tokens without end-of-text, `probabilities` theirs, and last that of
    end-of-text, unless the context ended first.
    """
    groups: list[tuple[list[bytes], list[float]]] = []
    for piece, probability in zip(pieces, probabilities, strict=False):
        if piece.startswith(b" "):
            groups.append(([], []))
        if groups:
            groups[-1][0].append(piece)
            groups[-1][1].append(probability)
    if groups:
        groups[-1][1].extend(probabilities[len(pieces) :])
    words = ((bare_word(b"".join(text).decode("utf-8", errors="replace")), float(np.mean(p))) for text, p in groups)
    return tuple((text, score) for text, score in words if text)


class Transcriber:
    """A loaded Whisper model (``whisper.model.Whisper``); half precision on CUDA only."""

    def __init__(self, model: Any, *, fp16: bool, engine: str = "torch") -> None:
        from whisper.decoding import DecodingOptions
        from whisper.tokenizer import get_tokenizer

        from scow.features.encoder import keep_middle

        self.model = model
        keep_middle(model.encoder)
        self.engine = engine  # of the encoder
        self.device: torch.device = model.device
        self.dtype = "float16" if fp16 else "float32"
        self._tokenizer = get_tokenizer(
            model.is_multilingual, num_languages=model.num_languages, language=LANGUAGE, task="transcribe"
        )
        # The published code decodes up to the model's context; openai-whisper's default is half of it.
        longest = int(model.dims.n_text_ctx) - len(self._tokenizer.sot_sequence_including_notimestamps)
        self._options = DecodingOptions(
            language=LANGUAGE, temperature=0.0, without_timestamps=True, fp16=fp16, sample_len=longest
        )
        self._at_once = channels_that_fit(model, fp16=fp16)

    def transcribe(self, channels: Sequence[np.ndarray]) -> list[Transcript]:
        """Transcribe channels, each float32 of shape (n,), at 16 kHz and at most 30 s long.

        As many are decoded at once as fit into memory; where it does not suffice, half as many are, from then on.
        """
        transcripts: list[Transcript] = []
        while len(transcripts) < len(channels):
            batch = channels[len(transcripts) : len(transcripts) + self._at_once]
            try:
                transcripts += self._transcribe_at_once(batch)
            except RuntimeError as error:  # torch.OutOfMemoryError on CUDA; on a CPU it has no type of its own
                if "out of memory" not in str(error) and "DefaultCPUAllocator" not in str(error):
                    raise
                if len(batch) == 1:
                    found = f"expected memory for one channel on {self.device}, found too little"
                    raise UserError(f"Whisper: {found}; use a smaller model or --device cpu") from error
                self._at_once = len(batch) // 2
        return transcripts

    def _transcribe_at_once(self, channels: Sequence[np.ndarray]) -> list[Transcript]:
        import torch
        from whisper.audio import N_SAMPLES_PER_TOKEN, log_mel_spectrogram, pad_or_trim

        with torch.inference_mode():
            # One by one: the loudest point of a channel sets the floor of its spectrogram.
            mels = torch.stack([log_mel_spectrogram(pad_or_trim(c), self.model.dims.n_mels) for c in channels])
            mels = mels.to(self.device, getattr(torch, self.dtype))
            # A CPU gains nothing from more than one channel in the encoder, and needs less memory with one.
            pieces = mels.split(len(channels) if self.device.type == "cuda" else 1)
            layers = [(self.model.encoder(piece), self.model.encoder.middle) for piece in pieces]
            encoded, middle = (torch.cat(of_pieces) for of_pieces in zip(*layers, strict=True))
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # small matrix products sum in another order with more
            try:
                emitted = decode_greedily(self.model, encoded, self._options)
            finally:
                torch.set_num_threads(threads)
        decode, piece_of = self._tokenizer.decode, self._tokenizer.encoding.decode_single_token_bytes
        n_frames = [-(-len(channel) // N_SAMPLES_PER_TOKEN) for channel in channels]
        embeddings = [
            torch.stack([layer[:n].float().mean(dim=0) for layer in layers]).cpu().numpy()
            for n, *layers in zip(n_frames, middle, encoded, strict=True)
        ]
        return [
            Transcript(decode(t).strip(), group_tokens([*map(piece_of, t)], p), embedding)
            for (t, p), embedding in zip(emitted, embeddings, strict=True)
        ]

    def word_times(self, channel: np.ndarray, transcript: str) -> tuple[tuple[str, float, float], ...]:
        """Words of a channel's transcript, each with start and end in s, by the decoder's attention to the encoder.

        The channel is as in `transcribe`, and goes through the encoder once more. The attention is that of all heads of
        the upper half of the layers, openai-whisper's default for weights from a file.
        """
        import torch
        from whisper.audio import HOP_LENGTH, log_mel_spectrogram, pad_or_trim
        from whisper.timing import find_alignment

        mel = log_mel_spectrogram(pad_or_trim(channel), self.model.dims.n_mels)
        mel = mel.to(self.device, getattr(torch, self.dtype))
        room = self.model.dims.n_text_ctx - len(self._tokenizer.sot_sequence_including_notimestamps) - 1
        tokens = self._tokenizer.encode(f" {transcript}")[:room]
        words: list[tuple[str, float, float]] = []
        for piece in find_alignment(self.model, self._tokenizer, tokens, mel, len(channel) // HOP_LENGTH):
            begins = piece.word.startswith(" ") or not words
            text, start, end = ("", piece.start, piece.end) if begins else words.pop()
            words.append((text + piece.word, start, piece.end if bare_word(piece.word) else end))
        return tuple((bare_word(text), float(start), float(end)) for text, start, end in words if bare_word(text))

    def segments(self, wave: np.ndarray, *, show_progress: bool = False) -> tuple[Segment, ...]:
        """Transcribe a recording of any length at 16 kHz, with times; greedy, window by window.

        Progress is openai-whisper's own display, on standard error.
        """
        from whisper.transcribe import transcribe

        options = {"language": LANGUAGE, "temperature": 0.0, "fp16": self.dtype == "float16"}
        options["verbose"] = False if show_progress else None
        # Each window by itself: the text before would lead the model to repeat it.
        found = transcribe(self.model, wave, condition_on_previous_text=False, **options)
        return tuple(Segment(float(s["start"]), float(s["end"]), s["text"].strip()) for s in found["segments"])


def weights_path(model: WhisperModel, model_dir: Path | None) -> Path:
    """Path of a model's weights, also before they are downloaded; None is openai-whisper's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper"
    return model.path or (model_dir or cache) / f"{model.openai_name}.pt"


def load_transcriber(model: WhisperModel, *, model_dir: Path | None, device: str, engine: str = "auto") -> Transcriber:
    """Load a model on ``cpu`` or ``cuda``, from its path or `model_dir`; a download is saved in `model_dir`.

    The engine of the encoder is ``auto``, ``torch`` or ``openvino`` (`scow.features.encoder`).
    """
    import whisper

    from scow.features.encoder import OpenVinoEncoder, resolve_engine

    engine = resolve_engine(engine, device)
    path = weights_path(model, model_dir)
    remedy = "download it again"
    try:
        if not path.is_file():
            remedy = f"try: python tools/offline_whisper.py {model.openai_name}"
            whisper.load_model(model.openai_name, device="cpu", download_root=str(path.parent))
        network = _load_weights(path)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be loaded as Whisper weights ({reason}); {remedy}") from error
    if engine == "openvino":
        network.encoder = OpenVinoEncoder(network.encoder, network.dims.n_mels, path)
    network = network.float().to(device).eval().requires_grad_(False)
    return Transcriber(network, fp16=network.device.type == "cuda", engine=engine)


def _load_weights(path: Path) -> Any:
    """As `whisper.load_model`, which first draws random weights and reads the whole file; of the file's precision."""
    import torch
    from torch.overrides import TorchFunctionMode
    from whisper.model import ModelDimensions, Whisper

    class WithoutRandomNumbers(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    with WithoutRandomNumbers():
        network = Whisper(ModelDimensions(**saved["dims"]))
    network.load_state_dict(saved["model_state_dict"], assign=True)
    return network
