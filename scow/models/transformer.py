"""The transformer: two channels, one small encoder each, one score.

Per channel, the rows of a signal (SENTENCE_SCORE first, then its words) are projected from the features to ``d_model``
dimensions by a layer that both channels share. Two tokens come first: a learned CLS vector and the embedding of the
hearing loss. Sinusoidal positions are added, and a transformer encoder of that channel (post-norm, ReLU, 2048 wide,
padding masked) turns the CLS token into a summary of the channel. Both summaries, side by side, give the score by a
linear layer: correctness as a share, about 0 to 1, not clamped. The names of the parameters are those of the published
state dict. With ``without: [hearing_loss]`` all signals count as of one hearing loss.

Training is as published: the loss of a batch is MSE + `corr_lambda` * (1 - Pearson), on correctness in 0-1; the
optimiser is AdamW; the signals are split 80/20 into training and validation by prompt, so that no lyrics are on both
sides; the epoch with the lowest validation RMSE is kept. Everything random follows from the seed: a second run on the
same machine with the same number of threads is identical to the bit.

Two things depart from the published code, in training alone: the CLS vector starts from a normal draw (there, from
zeros), and dropout follows the positions (there, none). A published state dict predicts the same.

Reference: the system description of T045 in the Cadenza CLIP1 challenge, ICASSP 2026; Vaswani et al., "Attention Is
All You Need", 2017, for the encoder and the positions (section 3.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from scow.errors import expect
from scow.metrics import agreement
from scow.models.config import TransformerConfig
from scow.models.groups import split_by_group
from scow.models.inputs import FRONT_TOKENS, MAX_ROWS, ModelInput
from scow.models.model import PERCENT, Epoch, FitSetup, Model, Prediction, StateDict, seen_by, to_scores

SIGNALS_PER_FORWARD = 1024


class SinusoidalPositions(nn.Module):
    """Adds the sinusoidal position vectors (Vaswani et al., section 3.5)."""

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


class Transformer(nn.Module, Model):
    """The network of the published system."""

    def __init__(self, config: TransformerConfig, feature_cols: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.feature_cols = tuple(feature_cols)
        d = config.d_model
        self.cls_token = nn.Parameter(torch.randn(1, 1, d))
        self.linear_in = nn.Linear(len(feature_cols), d)
        self.hearing_embedding = nn.Embedding(config.n_hearing, d)
        self.pos_encoder = SinusoidalPositions(d, config.dropout)
        self.transformer_l, self.transformer_r = _encoder(config), _encoder(config)
        self.fc_out = nn.Linear(2 * d, 1)

    def forward(self, features: Tensor, n_rows: Tensor, hearing_loss: Tensor) -> Tensor:
        """Correctness, shape (n,), not clamped; the arguments are tensors of `ModelInput`."""
        n, _, rows, _ = features.shape
        padding = torch.arange(rows + FRONT_TOKENS, device=features.device) >= (n_rows + FRONT_TOKENS).unsqueeze(1)
        front = torch.stack([self.cls_token[0].expand(n, -1), self.hearing_embedding(hearing_loss)], dim=1)
        summaries = []
        for channel, encoder in enumerate((self.transformer_l, self.transformer_r)):
            tokens = torch.cat([front, self.linear_in(features[:, channel])], dim=1)
            summaries.append(_first_token(encoder, self.pos_encoder(tokens), padding))
        score: Tensor = self.fc_out(torch.cat(summaries, dim=-1)).squeeze(-1)
        return score

    def predict(self, inputs: ModelInput, device: str = "cpu") -> Prediction:
        """Predicted correctness of many signals, without dropout."""
        self.to(device).eval()
        with torch.inference_mode():
            parts = [inputs.take(index) for index in torch.arange(len(inputs)).split(SIGNALS_PER_FORWARD)]
            predicted = [self._on(device, part).cpu().numpy().astype(np.float64) for part in parts]
        return Prediction(np.concatenate(predicted))

    @classmethod
    def fit(cls, inputs: ModelInput, config: TransformerConfig, setup: FitSetup) -> Transformer:
        """Train on labelled signals; the seed decides split, initial weights, order of the signals and dropout."""
        assert setup.train is not None
        options, device = setup.train, setup.device
        rng = np.random.default_rng(setup.seed)
        split = split_by_group(inputs.prompts, options.val_split, rng)
        train, val = (inputs.take(torch.from_numpy(index)) for index in split)
        val_scores = to_scores(val.target.double().numpy())
        log: list[Epoch] = []
        best: dict[str, Tensor] = {}
        devices = [torch.cuda.current_device()] if device == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # weights and dropout draw from torch's global generator
            torch.manual_seed(int(rng.integers(2**31)))
            model = cls(config, inputs.feature_cols).to(device)
            optimiser = AdamW(model.parameters(), lr=options.lr)
            for number in range(1, options.epochs + 1):
                loss, train_rmse = model._train_epoch(train, optimiser, rng, setup)
                predicted = model.predict(val, device).correctness
                finite = math.isfinite(loss) and np.isfinite(predicted).all()
                expect(finite, f"training diverged in epoch {number}", "a finite loss", "none; lower train.lr")
                score = agreement(to_scores(predicted), val_scores)
                epoch = Epoch(number, loss, train_rmse, score.rmse, score.r)
                if not log or epoch.val_rmse < min(earlier.val_rmse for earlier in log):
                    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                log.append(epoch)
                if setup.on_epoch is not None:
                    setup.on_epoch(epoch)
        model.load_state_dict(best)
        model.log = tuple(log)
        return model.eval()

    @classmethod
    def from_state_dict(cls, config: TransformerConfig, feature_cols: Sequence[str], state: StateDict) -> Transformer:
        """The network with these weights, in evaluation mode."""
        width = state["linear_in.weight"].shape[-1]
        expect(width == len(feature_cols), "data.feature_cols", f"{width} features", len(feature_cols))
        last = state[f"transformer_l.layers.{config.num_layers - 1}.self_attn.in_proj_weight"]
        size = (3 * config.d_model, config.d_model)  # looked at first, so that a wrong config does not fill the memory
        expect(last.shape == size, "model.d_model", f"weights of {size}", tuple(last.shape))
        model = cls(config, feature_cols)
        model.load_state_dict(state)
        return model.eval()

    def _on(self, device: str, inputs: ModelInput) -> Tensor:
        """Predicted correctness of a few signals, on the device."""
        inputs = seen_by(self.config, inputs)
        predicted: Tensor = self(inputs.features.to(device), inputs.n_rows.to(device), inputs.hearing_loss.to(device))
        return predicted

    def _train_epoch(
        self, train: ModelInput, optimiser: AdamW, rng: np.random.Generator, setup: FitSetup
    ) -> tuple[float, float]:
        """One pass over the training signals; mean loss, and RMSE in points of the predictions on the way."""
        assert setup.train is not None
        self.train()
        losses, squares = [], 0.0
        for index in torch.from_numpy(rng.permutation(len(train))).split(setup.train.batch_size):
            part = train.take(index)
            predicted, target = self._on(setup.device, part), part.target.to(setup.device)
            loss = correlation_loss(predicted, target, setup.train.corr_lambda)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            squares += float(((predicted.detach() - target) ** 2).sum())
        return float(np.mean(losses)), PERCENT * math.sqrt(squares / len(train))


def correlation_loss(predicted: Tensor, target: Tensor, corr_lambda: float) -> Tensor:
    """MSE + corr_lambda * (1 - Pearson) over a batch; the second term is left out for a batch of one signal."""
    mse = torch.mean((predicted - target) ** 2)
    if len(predicted) < 2:
        return mse
    x, y = predicted - predicted.mean(), target - target.mean()
    pearson = (x * y).sum() / (x.norm() * y.norm()).clamp_min(1e-8)
    return mse + corr_lambda * (1.0 - pearson)


def _first_token(encoder: nn.TransformerEncoder, tokens: Tensor, padding: Tensor) -> Tensor:
    """Output of the encoder at token 0, shape (n, d_model): the last layer is computed for that token alone."""
    *before, last = encoder.layers
    for layer in before:
        tokens = layer(tokens, src_key_padding_mask=padding)
    first = tokens[:, :1]
    attended, _ = last.self_attn(first, tokens, tokens, key_padding_mask=padding, need_weights=False)
    first = last.norm1(first + last.dropout1(attended))
    widened = last.dropout(last.activation(last.linear1(first)))
    out: Tensor = last.norm2(first + last.dropout2(last.linear2(widened)))
    return out.squeeze(1)


def _encoder(config: TransformerConfig) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(config.d_model, config.nhead, dropout=config.dropout, batch_first=True)
    # Nested tensors would save nothing on sentences of a dozen words, and warn.
    return nn.TransformerEncoder(layer, num_layers=config.num_layers, enable_nested_tensor=False)
