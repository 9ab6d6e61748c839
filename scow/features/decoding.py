"""Whisper's greedy decoding of many channels at once, with the probability of each token.

It gives what `whisper.decode` gives for each channel alone, up to the rounding of float32 sums, but faster:

- Keys and values of earlier tokens are cached, as in openai-whisper; only the last position's logits are computed, with
  the vocabulary as the rows of the product (a BLAS may take twice as long for the few rows of the other order).
- The decoder is causal, so the probabilities of each step are those of one pass over the whole sequence. The
  suppression of tokens only sets logits to minus infinity, so the sum over all tokens is taken before it.
- Channels that have ended leave the batch when they are half of it, so that one long transcript does not keep the
  others; to copy the cache earlier would cost more than it saves.
- `scow.features.whisper` runs it with one thread, so that sums are the same however many cores there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

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
    going = {row: row for row in range(len(encoded))}  # row of the batch -> channel
    tokens = torch.tensor([task.initial_tokens], device=encoded.device).repeat(len(encoded), 1)
    cache, hooks = model.install_kv_cache_hooks()
    try:
        for _ in range(task.sample_len):
            logits = _next_logits(model.decoder, tokens[:, -1:] if cache else tokens, encoded, cache)
            normaliser = logits.logsumexp(-1)
            for suppress in task.logit_filters:
                suppress.apply(logits, tokens)
            chosen = logits.argmax(-1, keepdim=True)
            probabilities = (logits.gather(-1, chosen).squeeze(-1) - normaliser).exp().tolist()
            for row, token in enumerate(chosen.squeeze(-1).tolist()):
                if row in going:
                    emitted[going[row]][1].append(probabilities[row])
                    if token == end:
                        del going[row]
                    else:
                        emitted[going[row]][0].append(token)
            if not going:
                break
            tokens = torch.cat([tokens, chosen], dim=-1)
            if len(going) <= len(tokens) // 2:
                remaining = torch.tensor(list(going), device=encoded.device)
                going = dict(enumerate(going.values()))
                tokens, encoded = tokens.index_select(0, remaining), encoded.index_select(0, remaining)
                for module, kept in cache.items():
                    cache[module] = kept.index_select(0, remaining)
    finally:
        for hook in hooks:
            hook.remove()
    return emitted


def _next_logits(
    decoder: Any, new: torch.Tensor, encoded: torch.Tensor, cache: Mapping[Any, torch.Tensor]
) -> torch.Tensor:
    """Logits of the token that follows, shape (n, n_vocab), where `new` are the tokens that the cache does not hold."""
    before = next(iter(cache.values())).shape[1] if cache else 0
    x = decoder.token_embedding(new) + decoder.positional_embedding[before : before + new.shape[1]]
    x = x.to(encoded.dtype)
    for block in decoder.blocks:
        x = block(x, encoded, mask=decoder.mask, kv_cache=cache)
    last = decoder.ln(x)[:, -1]
    return (decoder.token_embedding.weight.to(last.dtype) @ last.T).T.float()


def channels_that_fit(model: Any, *, fp16: bool) -> int:
    """Channels to decode at once: on CUDA by free memory, on a CPU by a fixed measure, for the same sums anywhere."""
    import torch

    dims, n_bytes = model.dims, 2 if fp16 else 4
    # Keys and values of every layer, of the audio and of the longest text.
    cache = dims.n_text_layer * 2 * (dims.n_audio_ctx + dims.n_text_ctx) * dims.n_text_state * n_bytes
    if model.device.type != "cuda":
        return int(np.clip(CPU_BYTES // cache, 1, MAX_CHANNELS_CPU))
    # The encoder's widest layer, input and output, and attention weights if they are materialised.
    encoding = dims.n_audio_ctx * (10 * dims.n_audio_state + dims.n_audio_head * dims.n_audio_ctx) * n_bytes
    logits = 8 * dims.n_vocab * 4  # float32, two positions at first, and copies
    free, _ = torch.cuda.mem_get_info(model.device)
    return int(np.clip(CUDA_SHARE * free // (cache + encoding + logits), 1, MAX_CHANNELS_CUDA))
