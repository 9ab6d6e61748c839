"""Fitting the word model with its text prior, so that no word's label ever stands behind a feature of its own.

The prior is fitted to a corpus of prompts and responses. Where signals of the corpus are those that the word model is
fitted to, their prior logits come from priors of other folds (by group). Where a cross-validation holds out groups,
the prior does not see them either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from scow.data.metadata import SignalRecord
from scow.errors import UserError
from scow.models.checkpoint import Checkpoint
from scow.models.inputs import ModelInput
from scow.models.text_prior import PriorText, TextPrior, fit_text_prior
from scow.models.word_features import prior_texts
from scow.models.word_model import WordModelConfig, check_word_columns, fit_word_model
from scow.text.labels import word_labels
from scow.text.normalize import prompt_words
from scow.training.groups import group_folds

PRIOR_FOLDS = 5
WITHOUT_RESPONSES = (
    "the word model learns from responses: join them with metadata_to_csv.py --responses, or train a model that "
    "needs none, -cp checkpoints/published"
)


class WordFitter:
    """Fits word models to labelled signals.

    Parameters
    ----------
    corpus : sequence of SignalRecord
        Prompts and responses for the text prior; empty for a model without one.
    options : WordModelConfig

    Raises
    ------
    UserError
        An option out of range.
    """

    def __init__(self, corpus: Sequence[SignalRecord], options: WordModelConfig) -> None:
        options.validate()
        self._options = options
        self._corpus = tuple(corpus)
        self._labels = [word_labels(prompt_words(record.prompt), record.response) for record in self._corpus]
        self._priors: dict[frozenset[int], TextPrior] = {}

    def __call__(self, batch: ModelInput, groups: Sequence[str], held: frozenset[str], seed: int) -> Checkpoint:
        """Fit to `batch`, blind to the groups `held`.

        Raises
        ------
        UserError
            Columns that the model does not take, or no responses.
        """
        check_word_columns(batch.feature_cols)
        if not any(batch.responses):
            raise UserError(f"expected responses in the training tables, found none; {WITHOUT_RESPONSES}")
        lost = [bool(share > 0) and not text for share, text in zip(batch.target, batch.responses, strict=True)]
        if any(lost):
            raise UserError(
                f"{sum(lost)} of {len(batch)} training signals, for instance {batch.signals[lost.index(True)]}, have "
                f"correctness above 0 but no response; {WITHOUT_RESPONSES}"
            )
        prior = self._prior(held) if self._corpus else None
        logits = self._logits(batch, groups, held, seed) if prior else None
        model = fit_word_model(batch, prior, logits, self._options)
        return Checkpoint(self._options, batch.feature_cols, model.state())

    def _prior(self, held: Iterable[str]) -> TextPrior:
        """The prior of the corpus without the tracks, prompts or signals `held`; each is fitted once."""
        without = frozenset(held)
        kept = frozenset(
            i
            for i, record in enumerate(self._corpus)
            if without.isdisjoint((record.track, record.prompt, record.signal))
        )
        if kept not in self._priors:
            if not kept:
                raise UserError("data.prior_metadata: expected prompts beyond held-out groups, found none; add some")
            index = sorted(kept)
            self._priors[kept] = fit_text_prior(
                [PriorText(self._corpus[i].prompt, self._corpus[i].hearing_loss) for i in index],
                np.array([label for i in index for label in self._labels[i]], dtype=np.float64),
                [self._corpus[i].track or self._corpus[i].prompt for i in index],
                self._options.prior_c,
            )
        return self._priors[kept]

    def _logits(self, batch: ModelInput, groups: Sequence[str], held: frozenset[str], seed: int) -> np.ndarray:
        """Prior logits of the batch's words, of priors that saw none of the responses to them."""
        known = {record.signal for record in self._corpus}
        inside = [i for i, signal in enumerate(batch.signals) if signal in known]
        logits = self._prior(held).logits(prior_texts(batch))
        if not inside:
            return logits
        owner = np.repeat(np.arange(len(batch)), [len(words) for words in batch.words])
        of_inside = [groups[i] for i in inside]
        n_folds = min(PRIOR_FOLDS, len(set(of_inside)))
        rng = np.random.default_rng(seed)
        folds = group_folds(of_inside, n_folds, rng) if n_folds > 1 else [np.arange(len(inside))]
        for fold in folds:
            index = np.array([inside[i] for i in fold])
            own = {name for i in index for name in (groups[i], batch.prompts[i], batch.signals[i])}
            prior = self._prior(held | own)
            logits[np.isin(owner, index)] = prior.logits(prior_texts(batch.take(torch.from_numpy(index))))
        return logits
