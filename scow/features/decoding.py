"""Whisper's greedy decoding of many channels at once, with the probability of each token.

It gives what `whisper.decode` gives for each channel alone, up to the rounding of float32 sums, but faster:

- Keys and values of earlier tokens are cached, as in openai-whisper; only the last position's logits are computed, with
  the vocabulary as the rows of the product (a BLAS may take twice as long for the few rows of the other order).
- Of the audio no keys and values are computed, which is most of a short transcript's time and memory: a head's query q
  goes through the key weights W, ``q . W e = W' q . e``, so that all heads of all layers attend to the encoder's output
  e itself (`_attend_to_audio`).
- The decoder is causal, so the probabilities of each step are those of one pass over the whole sequence. The
  suppression of tokens only sets logits to minus infinity, so the sum over all tokens is taken before it.
- Channels that have ended leave the batch when they are half of it, so that one long transcript does not keep the
  others; to copy the cache earlier would cost more than it saves.
- A channel that repeats itself leaves the batch and goes on alone by prompt lookup: tokens are guessed from where the
  same ending stood before, and verified in one causal pass. The tokens emitted are those of greedy decoding.
- `scow.features.whisper` runs it with one thread, so that sums are the same however many cores there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

REPEATED = 16  # tokens that stood before: a channel loops
ENDING = 4  # tokens by which a looping channel looks up what comes next
GUESSED = 16  # tokens verified at once
CPU_BYTES = 2**31  # for the keys and values of all channels in a batch
MAX_CHANNELS_CPU = 16
MAX_CHANNELS_CUDA = 64
CUDA_SHARE = 0.7  # of the free memory; the rest is for fragments and for what the estimate leaves out


def decode_greedily(model: Any, encoded: torch.Tensor, options: Any) -> list[tuple[list[int], list[float]]]:
    """Emitted tokens of each channel, and their probabilities; a probability more where end-of-text was emitted.

    `model` is a ``whisper.model.Whisper``, `encoded` its encoder's output, shape (n, n_audio_ctx, n_audio_state), and
    `options` are ``whisper.DecodingOptions``.
    """
    import torch
    from whisper.decoding import DecodingTask

    task = DecodingTask(model, options)
    end = task.tokenizer.eot
    emitted: list[tuple[list[int], list[float]]] = [([], []) for _ in range(len(encoded))]
    looping: dict[int, tuple[torch.Tensor, dict[Any, torch.Tensor]]] = {}  # channels that go on alone: audio, cache
    first = torch.tensor([task.initial_tokens], device=encoded.device)
    going = {row: row for row in range(len(encoded))}  # row of the batch -> channel
    tokens = first.repeat(len(encoded), 1)
    cache, hooks = model.install_kv_cache_hooks()
    try:
        for _ in range(task.sample_len):
            logits = _logits(model.decoder, tokens[:, -1:] if cache else tokens, encoded, cache, n_last=1)
            normaliser = logits.logsumexp(-1)
            for suppress in task.logit_filters:
                suppress.apply(logits, tokens)
            chosen = logits.argmax(-1, keepdim=True)
            probabilities = (logits.gather(-1, chosen).squeeze(-1) - normaliser).exp().tolist()
            for row, token in enumerate(chosen.squeeze(-1).tolist()):
                if row not in going:
                    continue
                text, found = emitted[going[row]]
                found.append(probabilities[row])
                if token == end:
                    del going[row]
                    continue
                text.append(token)
                if _lookup(text, REPEATED):
                    own = {module: kept[row : row + 1].clone() for module, kept in cache.items()}
                    looping[going.pop(row)] = encoded[row : row + 1], own
            if not going:
                break
            tokens = torch.cat([tokens, chosen], dim=-1)
            if len(going) <= len(tokens) // 2:
                remaining = torch.tensor(list(going), device=encoded.device)
                going = dict(enumerate(going.values()))
                tokens, encoded = tokens.index_select(0, remaining), encoded.index_select(0, remaining)
                for module, kept in cache.items():
                    cache[module] = kept.index_select(0, remaining)
        for channel, (audio, own) in looping.items():
            cache.clear()
            cache.update(own)
            _continue_alone(model, task, first, audio, cache, *emitted[channel])
    finally:
        for hook in hooks:
            hook.remove()
    return emitted


def _logits(
    decoder: Any, new: torch.Tensor, encoded: torch.Tensor, cache: Mapping[Any, torch.Tensor], n_last: int
) -> torch.Tensor:
    """Logits after the last `n_last` of the tokens `new`; the cache holds those before. Shape (n * n_last, n_vocab)."""
    import torch

    before, n_new = next(iter(cache.values())).shape[1] if cache else 0, new.shape[1]
    mask = torch.ones(n_new, before + n_new, dtype=torch.bool, device=new.device).tril(before) if n_new > 1 else None
    x = (decoder.token_embedding(new) + decoder.positional_embedding[before : before + n_new]).to(encoded.dtype)
    for block in decoder.blocks:
        attention, y = block.attn, block.attn_ln(x)
        # The hooks of the cache put what came before in front of keys and values.
        parts = attention.query(y), attention.key(y), attention.value(y)
        query, key, value = (part.unflatten(-1, (attention.n_head, -1)).transpose(1, 2) for part in parts)
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + attention.out(attended.transpose(1, 2).flatten(2))
        attention, y = block.cross_attn, block.cross_attn_ln(x)
        x = x + (_attend_to_audio(attention, y, encoded) if n_last == 1 else attention(y, encoded, kv_cache=cache)[0])
        x = x + block.mlp(block.mlp_ln(x))
    last = decoder.ln(x)[:, -n_last:].flatten(0, 1)
    return (decoder.token_embedding.weight.to(last.dtype) @ last.T).T.float()


def _attend_to_audio(attention: Any, x: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
    """Cross-attention of x, shape (n, t, d), to `encoded`: a head's key weights act on its queries, not on the audio.

    Likewise its value weights act on the weighted mean of the audio. Attention weights sum to 1, so the bias stays.
    """
    import torch

    (n, t, d), n_head = x.shape, attention.n_head
    of_keys, of_values = (part.weight.to(x.dtype).view(n_head, -1, d) for part in (attention.key, attention.value))
    query = torch.einsum("nthk,hkd->nhtd", attention.query(x).view(n, t, n_head, -1), of_keys)
    audio, scale = encoded[:, None], (d // n_head) ** -0.5
    mean = torch.nn.functional.scaled_dot_product_attention(query.reshape(n, 1, -1, d), audio, audio, scale=scale)
    values = torch.einsum("nhtd,hkd->nthk", mean.view(n, n_head, t, d), of_values).flatten(2)
    return attention.out(values + attention.value.bias.to(x.dtype))


def _continue_alone(
    model: Any,
    task: Any,
    first: torch.Tensor,
    encoded: torch.Tensor,
    cache: dict[Any, torch.Tensor],
    text: list[int],
    probabilities: list[float],
) -> None:
    """Decode one channel to its end, where `cache` holds all but the last token; extends `text` and `probabilities`."""
    import torch

    while len(text) < task.sample_len:
        guess = _lookup(text, ENDING)[: task.sample_len - len(text) - 1]
        new = torch.tensor([[text[-1], *guess]], device=encoded.device)
        logits = _logits(model.decoder, new, encoded, cache, n_last=new.shape[1])
        normaliser = logits.logsumexp(-1)
        # Without timestamps the filters are the same at every position after the first.
        for suppress in task.logit_filters:
            suppress.apply(logits, torch.cat([first, torch.tensor([text], device=encoded.device)], dim=-1))
        chosen = logits.argmax(-1, keepdim=True)
        found = (logits.gather(-1, chosen).squeeze(-1) - normaliser).exp().tolist()
        for token, probability, guessed in zip(chosen.squeeze(-1).tolist(), found, [*guess, None], strict=True):
            probabilities.append(probability)
            if token == task.tokenizer.eot:
                return
            text.append(token)
            if token != guessed:
                break
        n_known = len(task.initial_tokens) + len(text) - 1
        for module, kept in cache.items():
            if kept.shape[1] <= model.dims.n_text_ctx:  # of the text, not of the audio
                cache[module] = kept[:, :n_known]


def _lookup(text: Sequence[int], n: int) -> list[int]:
    """What followed where the last `n` tokens stood before, latest first, repeated to GUESSED tokens; or nothing."""
    for start in range(len(text) - n - 1, -1, -1):
        if text[start : start + n] == text[-n:]:
            period = len(text) - n - start
            return [text[start + n + i % period] for i in range(GUESSED)]
    return []


def channels_that_fit(model: Any, *, fp16: bool) -> int:
    """Channels to decode at once: on CUDA by free memory, on a CPU by a fixed measure, for the same sums anywhere."""
    import torch

    dims, n_bytes = model.dims, 2 if fp16 else 4
    # Keys and values of every layer, of the longest text; and two layers of the encoder.
    cache = (dims.n_text_layer * 2 * dims.n_text_ctx + 2 * dims.n_audio_ctx) * dims.n_text_state * n_bytes
    if model.device.type != "cuda":
        return int(np.clip(CPU_BYTES // cache, 1, MAX_CHANNELS_CPU))
    # The encoder's widest layer, input and output, and attention weights if they are materialised.
    encoding = dims.n_audio_ctx * (10 * dims.n_audio_state + dims.n_audio_head * dims.n_audio_ctx) * n_bytes
    logits = 8 * dims.n_vocab * 4  # float32, two positions at first, and copies
    free, _ = torch.cuda.mem_get_info(model.device)
    return int(np.clip(CUDA_SHARE * free // (cache + encoding + logits), 1, MAX_CHANNELS_CUDA))
