"""Word scores from Whisper: how surely one model hears each prompt word in one ear.

The definition (``published``), for one ear and one model:

1. The ear at 16 kHz (`scow.audio.to_16_khz`), padded to Whisper's 30-s window, as log-mel spectrogram. Shortening the
   window is not equivalent: it changes most transcripts of tiny.en.
2. Greedy decoding: temperature 0, English, transcribe, no timestamps; Whisper's non-speech tokens and the initial
   blank are suppressed. The transcript may fill the decoder's context of 448 tokens.
3. The probability of each emitted token, end-of-text included, from one teacher-forced pass of the decoder over the
   whole emitted sequence, without the suppression of step 2.
4. Tokens form words at each token that begins with a space; whatever stands before the first such token is dropped.
   A word's text is lower-cased with everything but word characters and apostrophes removed; its score is the mean
   probability of its tokens, punctuation included. The last word's mean also includes the end-of-text token.
5. A contraction is expanded and each part gets the score.
6. A prompt word's score is that of the same word in the transcript, the last one where it repeats, 0 where absent.
7. The sentence score is the hit rate of the whole transcript (`scow.lyrics.hit_rate`).

The encoder runs once per ear: `whisper.decode` takes its output, and so does the teacher-forced pass. Twelve models
make the twelve columns; ``large`` is **large-v1**, although openai-whisper's own ``large`` is large-v3.

Reference: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scow.errors import UserError, nearest
from scow.lyrics import bare_word, expand_contraction
from scow.tables import WHISPER_COLUMNS

if TYPE_CHECKING:
    import torch

LANGUAGE = "en"
_OPENAI_NAMES = {column: column for column in WHISPER_COLUMNS} | {"large": "large-v1"}
_OTHER_SPELLINGS = {"large-v1": "large", "turbo": "large-v3-turbo"}


@dataclass(frozen=True)
class WhisperModel:
    """Which weights fill which column.

    Attributes
    ----------
    column : str
        Column of the feature table.
    openai_name : str
        Name that openai-whisper downloads.
    path : Path or None
        Weights on disk, instead of a download.
    """

    column: str
    openai_name: str
    path: Path | None = None


@dataclass(frozen=True)
class HeardWord:
    """A word of a transcript.

    Attributes
    ----------
    text : str
        Lower case, word characters and apostrophes.
    probability : float
        Mean probability of its tokens, in 0 to 1.
    """

    text: str
    probability: float


@dataclass(frozen=True)
class Transcript:
    """What a model heard in one ear.

    Attributes
    ----------
    text : str
        The whole transcript.
    words : tuple of HeardWord
        Its words in order, contractions not yet expanded.
    """

    text: str
    words: tuple[HeardWord, ...]


@dataclass(frozen=True)
class Segment:
    """A stretch of a long recording, as Whisper cuts it by its own time stamps.

    Attributes
    ----------
    start_s, end_s : float
    text : str
    """

    start_s: float
    end_s: float
    text: str


def resolve_model(name: str, column: str | None = None) -> WhisperModel:
    """Find the model that a config means.

    Parameters
    ----------
    name : str
        ``tiny.en``, ``openai/whisper-tiny.en``, ``large-v1``, or the path of a ``.pt`` file.
    column : str, optional
        The column to fill; by default that of the name, or of the file's name without ``.pt``.

    Raises
    ------
    UserError
        No such model, or a path where no file is.
    """
    path = Path(name) if name.endswith(".pt") else None
    if path is not None and not path.is_file():
        raise UserError(f"whisper.models: expected the weights {path}, found no such file; check the path")
    short = path.stem if path else name.removeprefix("openai/whisper-").removeprefix("whisper-")
    found = column or _OTHER_SPELLINGS.get(short, short)
    if found not in _OPENAI_NAMES:
        raise UserError(f"no Whisper column or model {found!r}; {nearest(found, _OPENAI_NAMES)}")
    if path is None and _OTHER_SPELLINGS.get(short, short) != found:
        raise UserError(f"whisper.models: column {found} expects the model {found}, found {name!r}; mend the config")
    return WhisperModel(column=found, openai_name=_OPENAI_NAMES[found], path=path)


def prompt_word_scores(words: Sequence[str], transcript: Transcript) -> tuple[float, ...]:
    """Score of each prompt word in a transcript, steps 5 and 6 of the definition.

    Parameters
    ----------
    words : sequence of str
        The prompt's words, as in the rows of a feature table.
    transcript : Transcript

    Returns
    -------
    tuple of float
        One score per prompt word, in 0 to 1.
    """
    heard = {part: word.probability for word in transcript.words for part in expand_contraction(word.text)}
    return tuple(heard.get(_as_heard(word), 0.0) for word in words)


def group_tokens(pieces: Sequence[bytes], probabilities: Sequence[float], end: float | None) -> tuple[HeardWord, ...]:
    """Words of a transcript from its tokens, step 4 of the definition.

    Parameters
    ----------
    pieces : sequence of bytes
        Text of each emitted token, without end-of-text.
    probabilities : sequence of float
        Probability of each of them.
    end : float or None
        Probability of end-of-text; None where the context ended first.

    Returns
    -------
    tuple of HeardWord
    """
    groups: list[tuple[list[bytes], list[float]]] = []
    for piece, probability in zip(pieces, probabilities, strict=True):
        if piece.startswith(b" "):
            groups.append(([], []))
        if groups:
            groups[-1][0].append(piece)
            groups[-1][1].append(probability)
    if groups and end is not None:
        groups[-1][1].append(end)
    words = ((bare_word(b"".join(text).decode("utf-8", errors="replace")), float(np.mean(p))) for text, p in groups)
    return tuple(HeardWord(text, probability) for text, probability in words if text)


class Listener:
    """One Whisper model, loaded, that listens to ears.

    Parameters
    ----------
    model : whisper.model.Whisper
        Loaded weights.
    fp16 : bool
        Half precision, on CUDA only.
    """

    def __init__(self, model: Any, *, fp16: bool) -> None:
        from whisper.decoding import DecodingOptions
        from whisper.tokenizer import get_tokenizer

        self._model = model
        self._fp16 = fp16
        self._tokenizer = get_tokenizer(
            model.is_multilingual, num_languages=model.num_languages, language=LANGUAGE, task="transcribe"
        )
        self._start = tuple(self._tokenizer.sot_sequence_including_notimestamps)
        # The published code decodes up to the model's context; openai-whisper's default is half of it.
        self._longest = int(model.dims.n_text_ctx) - len(self._start)
        self._options = DecodingOptions(
            language=LANGUAGE, temperature=0.0, without_timestamps=True, fp16=fp16, sample_len=self._longest
        )

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        device: torch.device = self._model.device
        return device

    def listen(self, ears: Sequence[np.ndarray]) -> list[Transcript]:
        """Transcribe a batch of ears; each gives what it would give alone.

        Parameters
        ----------
        ears : sequence of ndarray, shape (n,), float32
            At 16 kHz, at most 30 s.

        Returns
        -------
        list of Transcript
            In the order given.
        """
        import torch
        from whisper.audio import log_mel_spectrogram, pad_or_trim
        from whisper.decoding import decode

        with torch.inference_mode():
            # One by one: the loudest point of a clip sets the floor of its own spectrogram.
            mels = torch.stack([log_mel_spectrogram(pad_or_trim(ear), self._model.dims.n_mels) for ear in ears])
            mels = mels.to(self._model.device, torch.float16 if self._fp16 else torch.float32)
            encoded = self._model.encoder(mels)
            emitted = [result.tokens for result in decode(self._model, encoded, self._options)]
            probabilities = self._teacher_forced(encoded, emitted)
        return [self._transcript(tokens, p) for tokens, p in zip(emitted, probabilities, strict=True)]

    def segments(self, wave: np.ndarray) -> tuple[Segment, ...]:
        """Transcribe a recording of any length, with times; greedy, window by window.

        Parameters
        ----------
        wave : ndarray, shape (n,), float32
            At 16 kHz.
        """
        from whisper.transcribe import transcribe

        # Each window by itself: what was heard before would lead the model to repeat it.
        heard = transcribe(
            self._model, wave, language=LANGUAGE, temperature=0.0, condition_on_previous_text=False, fp16=self._fp16
        )
        return tuple(Segment(float(s["start"]), float(s["end"]), s["text"].strip()) for s in heard["segments"])

    def _teacher_forced(self, encoded: torch.Tensor, emitted: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Probability of each emitted token and then of end-of-text, where it was emitted."""
        import torch

        end = self._tokenizer.eot
        sequences = [[*self._start, *tokens] + [end] * (len(tokens) < self._longest) for tokens in emitted]
        # The decoder is causal, so what pads a shorter sequence at its end changes nothing before it.
        longest = max(map(len, sequences))
        padded = torch.tensor([s + [end] * (longest - len(s)) for s in sequences], device=encoded.device)
        logits = self._model.logits(padded[:, :-1], encoded).float()
        taken = padded[:, 1:].unsqueeze(-1)
        log_p = (logits.gather(-1, taken) - logits.logsumexp(-1, keepdim=True)).squeeze(-1)
        p = log_p.exp().cpu().numpy()
        first = len(self._start) - 1
        return [row[first : len(s) - 1] for row, s in zip(p, sequences, strict=True)]

    def _transcript(self, tokens: Sequence[int], probabilities: np.ndarray) -> Transcript:
        pieces = [self._tokenizer.encoding.decode_single_token_bytes(token) for token in tokens]
        end = float(probabilities[len(tokens)]) if len(probabilities) > len(tokens) else None
        words = group_tokens(pieces, [float(p) for p in probabilities[: len(tokens)]], end)
        return Transcript(text=self._tokenizer.decode(list(tokens)).strip(), words=words)


def load_listener(model: WhisperModel, *, model_dir: Path | None, device: str) -> Listener:
    """Load a model: from its path, else from `model_dir`, else by openai-whisper's download.

    Parameters
    ----------
    model : WhisperModel
    model_dir : Path or None
        Folder of ``<openai name>.pt``; a download lands there too. None: openai-whisper's own cache folder.
    device : str
        ``cpu`` or ``cuda``; on CUDA the model listens in half precision.

    Raises
    ------
    UserError
        The weights cannot be downloaded or read.
    """
    import whisper

    path = model.path or (model_dir / f"{model.openai_name}.pt" if model_dir else None)
    on_disk = path is not None and path.is_file()
    try:
        weights = whisper.load_model(
            str(path) if on_disk else model.openai_name,
            device=device,
            download_root=str(model_dir) if model_dir else None,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if on_disk:
            raise UserError(f"{path}: cannot be loaded as Whisper weights ({reason}); fetch the file again") from error
        raise UserError(
            f"Whisper {model.openai_name}: expected to download its weights, found {reason}; "
            f"try: python tools/offline_whisper.py {model.openai_name}"
        ) from error
    return Listener(weights.eval(), fp16=weights.device.type == "cuda")


def _as_heard(word: str) -> str:
    """A prompt word in the form in which transcripts hold it: ``can't`` is cannot."""
    parts = expand_contraction(bare_word(word))
    return parts[0] if len(parts) == 1 else bare_word(word)
