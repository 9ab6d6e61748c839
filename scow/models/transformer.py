"""The models as torch modules: the published network, and the logistic regression of the word model.

The published network: two ears, one small transformer each, one score.

Per ear, the rows of a signal (SENTENCE_SCORE first, then its words) are projected from the features to ``d_model``
dimensions by a layer that both ears share. Two tokens stand in front: a learned CLS vector and the embedding of the
severity. Sinusoidal positions are added, and a transformer encoder of that ear (post-norm, ReLU, 2048 wide, padding
masked) makes of the CLS token what the ear has to say. Both CLS outputs, side by side, give the score by a linear
layer: correctness as a share, about 0 to 1, not clamped.

Only tensors here: no file, no table. The names of the parameters are those of the published state dict.

Reference: the system description of T045 in the Cadenza CLIP1 challenge, ICASSP 2026; Vaswani et al., "Attention Is
All You Need", 2017, for the encoder and the positions (section 3.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError

MAX_ROWS = 512  # positions, the two front tokens included
FRONT_TOKENS = 2


@dataclass(frozen=True)
class TransformerConfig:
    """Section ``model:`` of a checkpoint's config.

    Attributes
    ----------
    d_model : int
        Width of a token.
    nhead : int
        Attention heads; must divide `d_model`.
    num_layers : int
        Encoder layers per ear.
    dropout : float
        Share of activations dropped in training, 0 to 1.
    n_hearing : int
        Number of severities.
    """

    d_model: int = 64
    nhead: int = 4
    num_layers: int = 1
    dropout: float = 0.1
    n_hearing: int = 3

    def validate(self) -> None:
        """Check the ranges.

        Raises
        ------
        UserError
        """
        if self.d_model < 2 or self.d_model % 2:
            raise UserError(f"model.d_model: expected an even number from 2, found {self.d_model}; mend it")
        if self.nhead < 1 or self.d_model % self.nhead:
            raise UserError(f"model.nhead: expected a divisor of d_model {self.d_model}, found {self.nhead}; mend it")
        if self.num_layers < 1:
            raise UserError(f"model.num_layers: expected at least 1, found {self.num_layers}; mend it")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout: expected a share from 0 to below 1, found {self.dropout:g}; mend it")
        if self.n_hearing < len(HEARING_LOSSES):
            raise UserError(
                f"model.n_hearing: expected at least {len(HEARING_LOSSES)}, found {self.n_hearing}; mend it"
            )


class SinusoidalPositions(nn.Module):
    """Adds the sinusoidal position vectors (Vaswani et al., section 3.5).

    Parameters
    ----------
    d_model : int
        Even width of a token.
    dropout : float
    """

    pe: Tensor

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        position = torch.arange(MAX_ROWS).unsqueeze(1)
        rate = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
        pe = torch.zeros(1, MAX_ROWS, d_model)
        pe[0, :, 0::2] = torch.sin(position * rate)
        pe[0, :, 1::2] = torch.cos(position * rate)
        self.register_buffer("pe", pe)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of shape (n, rows, d_model), with positions added."""
        added: Tensor = self.dropout(tokens + self.pe[:, : tokens.shape[1]])
        return added


class Transformer(nn.Module):
    """The network of the published system.

    Parameters
    ----------
    n_features : int
        Features per row.
    options : TransformerConfig
    """

    def __init__(self, n_features: int, options: TransformerConfig) -> None:
        super().__init__()
        d = options.d_model
        self.cls_token = nn.Parameter(torch.randn(1, 1, d))
        self.linear_in = nn.Linear(n_features, d)
        self.hearing_embedding = nn.Embedding(options.n_hearing, d)
        self.pos_encoder = SinusoidalPositions(d, options.dropout)
        self.transformer_l = _encoder(options)
        self.transformer_r = _encoder(options)
        self.fc_out = nn.Linear(2 * d, 1)

    def forward(self, features: Tensor, n_rows: Tensor, severity: Tensor) -> Tensor:
        """Predict correctness.

        Parameters
        ----------
        features : Tensor, shape (n, 2, rows, n_features), float32
            Left and right ear; rows beyond a signal's own are padding.
        n_rows : Tensor, shape (n,), int64
            Rows of each signal, the same for both ears.
        severity : Tensor, shape (n,), int64
            Index of the severity: No Loss 0, Mild 1, Moderate 2.

        Returns
        -------
        Tensor, shape (n,), float32
            Correctness as a share, not clamped to 0-1.
        """
        n, _, rows, _ = features.shape
        padding = torch.arange(rows + FRONT_TOKENS, device=features.device) >= (n_rows + FRONT_TOKENS).unsqueeze(1)
        front = torch.stack([self.cls_token[0].expand(n, -1), self.hearing_embedding(severity)], dim=1)
        ears = []
        for ear, encoder in enumerate((self.transformer_l, self.transformer_r)):
            tokens = torch.cat([front, self.linear_in(features[:, ear])], dim=1)
            ears.append(_first_token(encoder, self.pos_encoder(tokens), padding))
        score: Tensor = self.fc_out(torch.cat(ears, dim=-1)).squeeze(-1)
        return score


def _first_token(encoder: nn.TransformerEncoder, tokens: Tensor, padding: Tensor) -> Tensor:
    """What the encoder makes of token 0, shape (n, d_model).

    Nothing else leaves the last layer, so it is computed for token 0 alone: the same numbers at a fraction of the
    work, which in this network is nearly all in the 2048-wide feed-forward part.
    """
    *before, last = encoder.layers
    for layer in before:
        tokens = layer(tokens, src_key_padding_mask=padding)
    first = tokens[:, :1]
    attended, _ = last.self_attn(first, tokens, tokens, key_padding_mask=padding, need_weights=False)
    first = last.norm1(first + last.dropout1(attended))
    widened = last.dropout(last.activation(last.linear1(first)))
    out: Tensor = last.norm2(first + last.dropout2(last.linear2(widened)))
    return out.squeeze(1)


def _encoder(options: TransformerConfig) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        d_model=options.d_model, nhead=options.nhead, dropout=options.dropout, batch_first=True
    )
    # Nested tensors would save nothing on sentences of a dozen words, and warn.
    return nn.TransformerEncoder(layer, num_layers=options.num_layers, enable_nested_tensor=False)


class WordLogistic(nn.Module):
    """Logistic regression on standardised features: the probability that a word is written down.

    Parameters
    ----------
    mean, scale, weight : Tensor, shape (p,), float64
    bias : Tensor, shape (), float64
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        for name, tensor in (("mean", mean), ("scale", scale), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, tensor)

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities, shape (n,), of words with `features` of shape (n, p)."""
        return torch.sigmoid(((features - self.mean) / self.scale) @ self.weight + self.bias)
