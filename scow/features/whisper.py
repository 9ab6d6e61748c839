"""Word scores from Whisper: how surely one model hears each prompt word in one ear.

The definition (``published``), for one ear and one model:

1. The ear at 16 kHz (`scow.data.audio.resample_sinc`), padded to Whisper's 30-s window, as log-mel spectrogram. Shortening the
   window is not equivalent: it changes most transcripts of tiny.en.
2. Greedy decoding: temperature 0, English, transcribe, no timestamps; Whisper's non-speech tokens and the initial
   blank are suppressed. The transcript may fill the decoder's context of 448 tokens.
3. The probability of each emitted token, end-of-text included, as the decoder gives it after the tokens before,
   without the suppression of step 2.
4. Tokens form words at each token that begins with a space; whatever stands before the first such token is dropped.
   A word's text is lower-cased with everything but word characters and apostrophes removed; its score is the mean
   probability of its tokens, punctuation included. The last word's mean also includes the end-of-text token.
5. A contraction is expanded and each part gets the score.
6. A prompt word's score is that of the same word in the transcript, the last one where it repeats, 0 where absent.
7. The sentence score is the hit rate of the whole transcript (`scow.text.labels.hit_rate`).

The encoder runs once per ear, one ear at a time on a CPU; the decoder, which spends its time on reading weights, takes
many ears at once. Twelve models make the twelve columns; ``large`` is **large-v1**, although openai-whisper's own
``large`` is large-v3.

Reference: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scow.data.tables import WHISPER_COLUMNS
from scow.errors import UserError, nearest
from scow.text.normalize import bare_word, expand_contraction

if TYPE_CHECKING:
    import torch

DEFINITION = "published"
LANGUAGE = "en"
CPU_BYTES = 2**31  # for what the decoder keeps of the ears of a batch
MOST_EARS_CPU = 16
MOST_EARS_CUDA = 64
CUDA_SHARE = 0.7  # of the free memory; the rest is for fragments and for what the estimate leaves out
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
class TranscriptWord:
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
    words : tuple of TranscriptWord
        Its words in order, contractions not yet expanded.
    """

    text: str
    words: tuple[TranscriptWord, ...]


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


def group_tokens(
    pieces: Sequence[bytes], probabilities: Sequence[float], end: float | None
) -> tuple[TranscriptWord, ...]:
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
    tuple of TranscriptWord
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
    return tuple(TranscriptWord(text, probability) for text, probability in words if text)


class Transcriber:
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

        self.model = model
        self._fp16 = fp16
        self._tokenizer = get_tokenizer(
            model.is_multilingual, num_languages=model.num_languages, language=LANGUAGE, task="transcribe"
        )
        # The published code decodes up to the model's context; openai-whisper's default is half of it.
        longest = int(model.dims.n_text_ctx) - len(self._tokenizer.sot_sequence_including_notimestamps)
        self._options = DecodingOptions(
            language=LANGUAGE, temperature=0.0, without_timestamps=True, fp16=fp16, sample_len=longest
        )
        self._at_once = self._ears_that_fit()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> str:
        """Number format of the computation: ``float32``, or ``float16`` on CUDA."""
        return "float16" if self._fp16 else "float32"

    def listen(self, ears: Sequence[np.ndarray]) -> list[Transcript]:
        """Transcribe ears; each gives what it would give alone, up to the rounding of float32 sums.

        They are decoded as many at once as fit into memory. Where the memory does not suffice after all, half as
        many are tried, from then on.

        Parameters
        ----------
        ears : sequence of ndarray, shape (n,), float32
            At 16 kHz, at most 30 s.

        Returns
        -------
        list of Transcript
            In the order given.

        Raises
        ------
        UserError
            The memory does not suffice for a single ear.
        """
        import torch

        heard: list[Transcript] = []
        while len(heard) < len(ears):
            some = ears[len(heard) : len(heard) + self._at_once]
            try:
                heard += self._listen_at_once(some)
            except RuntimeError as error:  # torch.OutOfMemoryError on CUDA; on a CPU it has no type of its own
                if not (isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)):
                    raise
                if len(some) == 1:
                    raise UserError(
                        f"Whisper: expected memory for one ear on {self.device}, found too little; "
                        "use a smaller model or --device cpu"
                    ) from error
                self._at_once = len(some) // 2
            else:
                continue
            if self.device.type == "cuda":  # outside the except clause, where the failed batch is still held
                torch.cuda.empty_cache()
        return heard

    def _ears_that_fit(self) -> int:
        """Ears to decode at once: on CUDA by free memory, on a CPU by a fixed measure, for the same sums anywhere."""
        import torch

        dims = self.model.dims
        number = 2 if self._fp16 else 4  # bytes
        # What the decoder keeps of an ear: keys and values of every layer, of the audio and of the longest text.
        kept = dims.n_text_layer * 2 * (dims.n_audio_ctx + dims.n_text_ctx) * dims.n_text_state * number
        if self.device.type != "cuda":
            return int(np.clip(CPU_BYTES // kept, 1, MOST_EARS_CPU))
        # While the encoder runs: its widest layer, input and output, and attention weights if they are spelt out.
        encoding = dims.n_audio_ctx * (10 * dims.n_audio_state + dims.n_audio_head * dims.n_audio_ctx) * number
        logits = 8 * dims.n_vocab * 4  # float32, two positions at first, and copies
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(np.clip(CUDA_SHARE * free // (kept + encoding + logits), 1, MOST_EARS_CUDA))

    def _listen_at_once(self, ears: Sequence[np.ndarray]) -> list[Transcript]:
        import torch
        from whisper.audio import log_mel_spectrogram, pad_or_trim

        with torch.inference_mode():
            # One by one: the loudest point of a clip sets the floor of its own spectrogram.
            mels = torch.stack([log_mel_spectrogram(pad_or_trim(ear), self.model.dims.n_mels) for ear in ears])
            mels = mels.to(self.device, torch.float16 if self._fp16 else torch.float32)
            # A CPU gains nothing from more than one clip in the encoder, and needs less memory with one.
            pieces = mels.split(len(ears) if self.device.type == "cuda" else 1)
            encoded = torch.cat([self.model.encoder(piece) for piece in pieces])
            with _one_thread():  # so that the sums are the same however many cores there are
                return [self._transcript(*emitted) for emitted in self._greedy(encoded)]

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
            self.model, wave, language=LANGUAGE, temperature=0.0, condition_on_previous_text=False, fp16=self._fp16
        )
        return tuple(Segment(float(s["start"]), float(s["end"]), s["text"].strip()) for s in heard["segments"])

    def _greedy(self, encoded: torch.Tensor) -> list[tuple[list[int], list[float]]]:
        """Steps 2 and 3 of the definition at once: emitted tokens, and their probabilities (and end-of-text's).

        The decoder is causal, so the probabilities of each step are those of one pass over the whole sequence. The
        suppression only sets other tokens to minus infinity, so the sum over all tokens is taken before it. Clips that
        have ended leave the batch when they are half of it, so that one long transcript does not keep the others;
        earlier, copying the rest would cost more than it saves.
        """
        import torch
        from whisper.decoding import DecodingTask

        task = DecodingTask(self.model, self._options)
        end = self._tokenizer.eot
        emitted: list[tuple[list[int], list[float]]] = [([], []) for _ in range(len(encoded))]
        going = {row: row for row in range(len(encoded))}  # row of the batch -> clip
        tokens = torch.tensor([task.initial_tokens], device=encoded.device).repeat(len(encoded), 1)
        cache, hooks = self.model.install_kv_cache_hooks()
        try:
            for _ in range(task.sample_len):
                logits = self._next_logits(tokens[:, -1:] if cache else tokens, encoded, cache)
                normaliser = logits.logsumexp(-1)
                for suppress in task.logit_filters:
                    suppress.apply(logits, tokens)
                chosen = logits.argmax(-1, keepdim=True)
                probabilities = (logits.gather(-1, chosen).squeeze(-1) - normaliser).exp().tolist()
                new = chosen.squeeze(-1).tolist()
                for row, token, probability in zip(range(len(new)), new, probabilities, strict=True):
                    if row in going:
                        emitted[going[row]][1].append(probability)
                        if token == end:
                            del going[row]
                        else:
                            emitted[going[row]][0].append(token)
                if not going:
                    break
                tokens = torch.cat([tokens, chosen], dim=-1)
                if len(going) <= len(tokens) // 2:
                    rest = torch.tensor(list(going), device=encoded.device)
                    going = dict(enumerate(going.values()))
                    tokens, encoded = tokens.index_select(0, rest), encoded.index_select(0, rest)
                    for module, kept in cache.items():
                        cache[module] = kept.index_select(0, rest)
        finally:
            for hook in hooks:
                hook.remove()
        return emitted

    def _next_logits(self, new: torch.Tensor, encoded: torch.Tensor, cache: Mapping[Any, torch.Tensor]) -> torch.Tensor:
        """Logits of the token that follows, shape (n, n_vocab), after tokens that the cache does not hold yet.

        As whisper's own decoder, but for the last position only, and with the vocabulary as the rows of the product: a
        BLAS may take twice as long for the few rows of the other order.
        """
        decoder = self.model.decoder
        before = next(iter(cache.values())).shape[1] if cache else 0
        x = decoder.token_embedding(new) + decoder.positional_embedding[before : before + new.shape[1]]
        x = x.to(encoded.dtype)
        for block in decoder.blocks:
            x = block(x, encoded, mask=decoder.mask, kv_cache=cache)
        last = decoder.ln(x)[:, -1]
        return (decoder.token_embedding.weight.to(last.dtype) @ last.T).T.float()

    def _transcript(self, tokens: Sequence[int], probabilities: Sequence[float]) -> Transcript:
        pieces = [self._tokenizer.encoding.decode_single_token_bytes(token) for token in tokens]
        end = probabilities[len(tokens)] if len(probabilities) > len(tokens) else None
        words = group_tokens(pieces, probabilities[: len(tokens)], end)
        return Transcript(text=self._tokenizer.decode(list(tokens)).strip(), words=words)


def weights_path(model: WhisperModel, model_dir: Path | None) -> Path:
    """Where a model's weights lie, or will lie once they are downloaded; None: openai-whisper's own cache folder."""
    if model.path is not None:
        return model.path
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper"
    return (model_dir or cache) / f"{model.openai_name}.pt"


def fetch_weights(model: WhisperModel, *, model_dir: Path | None) -> None:
    """Download the weights of a model where they are not there yet.

    Raises
    ------
    UserError
        They cannot be downloaded.
    """
    if not weights_path(model, model_dir).is_file():
        _load_weights(model, model_dir, "cpu")


def load_transcriber(model: WhisperModel, *, model_dir: Path | None, device: str) -> Transcriber:
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
    weights = _load_weights(model, model_dir, device)
    return Transcriber(weights.eval(), fp16=weights.device.type == "cuda")


def _load_weights(model: WhisperModel, model_dir: Path | None, device: str) -> Any:
    import whisper

    path = weights_path(model, model_dir)
    on_disk = path.is_file()
    try:
        return whisper.load_model(
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread: its small matrix products sum in another order with more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _as_heard(word: str) -> str:
    """A prompt word in the form in which transcripts hold it: ``can't`` is cannot."""
    parts = expand_contraction(bare_word(word))
    return parts[0] if len(parts) == 1 else bare_word(word)
