"""scow.training.fit_word_model: whose responses stand behind a prior logit. Responses are changed, and logits must or must not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import HEARD_COLUMNS, heard_records, make_heard_tables

import scow.training.fit_word_model
from scow.data.metadata import SignalRecord
from scow.errors import UserError
from scow.models.inputs import ModelInput, load_input
from scow.models.text_prior import PriorText, fit_text_prior
from scow.models.word_model import WordModelConfig, fit_word_model
from scow.text.labels import word_labels
from scow.training.fit_word_model import WordFitter

OPTIONS = WordModelConfig(c=0.1)
N = 60  # signals of ten tracks


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> ModelInput:
    return load_input(*make_heard_tables(tmp_path_factory.mktemp("tables"), N)[0], ("tiny.en",))


def same_signals() -> list[SignalRecord]:
    """A corpus of just the signals of the batch."""
    return heard_records(N)[0]


def tracks(records: list[SignalRecord]) -> list[str]:
    return [record.track for record in records]


class Seen:
    """Prior and logits that a fitter hands to fit_word_model."""

    def __init__(self, monkeypatch, corpus, batch, groups, held=frozenset(), seed=0) -> None:
        def spy(fitted_to, prior, logits, options):
            self.prior, self.logits = prior, logits
            return fit_word_model(fitted_to, prior, logits, options)

        monkeypatch.setattr(scow.training.fit_word_model, "fit_word_model", spy)
        self.checkpoint = WordFitter(corpus, OPTIONS)(batch, groups, held, seed)
        owner = np.repeat(np.arange(len(batch)), [len(words) for words in batch.words])
        self.of_signal = [] if self.logits is None else [self.logits[owner == i] for i in range(len(batch))]


def answered(record: SignalRecord, response: str) -> SignalRecord:
    return dataclasses.replace(record, response=response)


@pytest.mark.parametrize("changed", [0, 17, 59])
@pytest.mark.parametrize("by", ["track", "prompt"])
def test_own_response_never_stands_behind_an_own_logit(monkeypatch, batch, changed, by):
    """Nor one of the same group: the corpus overlaps with the batch, and one response in it is turned around."""
    corpus = same_signals()
    groups = tracks(corpus) if by == "track" else list(batch.prompts)
    before = Seen(monkeypatch, corpus, batch, groups)
    record = corpus[changed]
    other = " ".join(word for word in record.prompt.split() if word not in record.response.split())
    turned = [answered(r, other) if r is record else r for r in corpus]
    after = Seen(monkeypatch, turned, batch, groups)
    moved = [not np.array_equal(a, b) for a, b in zip(before.of_signal, after.of_signal, strict=True)]
    mates = [i for i, group in enumerate(groups) if group == groups[changed]]
    assert len(mates) == (6 if by == "track" else 3)
    assert not any(moved[i] for i in mates)
    assert sum(moved) > N / 2  # others do learn from it
    # The prior that is kept for new signals learns from everybody.
    texts = [PriorText(record.prompt, record.hearing_loss)]
    assert not np.array_equal(before.prior.logits(texts), after.prior.logits(texts))


def test_other_prompts_of_the_track_are_of_the_fold_too(monkeypatch, batch):
    """An excerpt of a track that the batch does not have says what its other excerpts are like."""
    extra = SignalRecord("extra", "baby umbra tonight", "Mild", "baby umbra tonight", 3, 3, 1.0, "track0")
    seen = [
        Seen(monkeypatch, [*same_signals(), answered(extra, says)], batch, tracks(same_signals()))
        for says in ("baby umbra tonight", "")
    ]
    moved = [not np.array_equal(a, b) for a, b in zip(seen[0].of_signal, seen[1].of_signal, strict=True)]
    assert moved[:6] == 6 * [False]
    assert sum(moved) > N / 2


def test_groups_that_the_corpus_does_not_know(monkeypatch, batch):
    """Then the prompts keep a response from its own logits."""
    groups = [f"mine{i // 6}" for i in range(N)]
    corpus = same_signals()
    turned = [answered(corpus[0], "" if corpus[0].response else corpus[0].prompt), *corpus[1:]]
    before, after = (Seen(monkeypatch, records, batch, groups) for records in (corpus, turned))
    for i in range(3):
        np.testing.assert_array_equal(before.of_signal[i], after.of_signal[i])
    assert not np.array_equal(before.logits, after.logits)


def test_a_table_by_prompt_does_not_see_its_prompt_in_the_corpus(monkeypatch, batch):
    """The corpus may know the signals by other tracks than the groups are: then the prompts keep them apart."""
    corpus = [dataclasses.replace(record, track=f"other{i}") for i, record in enumerate(same_signals())]
    before = Seen(monkeypatch, corpus, batch, list(batch.prompts))
    turned = [answered(r, "" if r.response else r.prompt) if i < 3 else r for i, r in enumerate(corpus)]
    after = Seen(monkeypatch, turned, batch, list(batch.prompts))
    for i in range(3):
        np.testing.assert_array_equal(before.of_signal[i], after.of_signal[i])
    assert any(not np.array_equal(a, b) for a, b in zip(before.of_signal[3:], after.of_signal[3:], strict=True))


@pytest.mark.parametrize("by", ["track", "prompt"])
def test_held_groups_are_not_seen_at_all(monkeypatch, batch, by):
    """Neither by the logits of the rest, nor by the prior that predicts the held-out signals."""
    corpus = same_signals()
    groups = tracks(corpus) if by == "track" else list(batch.prompts)
    held = frozenset(groups[:12])
    rest = [i for i, group in enumerate(groups) if group not in held]
    part = batch.take(torch.tensor(rest))
    of_rest = [groups[i] for i in rest]
    before = Seen(monkeypatch, corpus, part, of_rest, held)
    turned = [
        answered(r, "" if r.response else r.prompt) if group in held else r
        for r, group in zip(corpus, groups, strict=True)
    ]
    assert turned != corpus
    after = Seen(monkeypatch, turned, part, of_rest, held)
    np.testing.assert_array_equal(before.logits, after.logits)
    for name, tensor in before.checkpoint.state.items():
        assert torch.equal(tensor, after.checkpoint.state[name]), name
    seeing = Seen(monkeypatch, turned, part, of_rest)
    assert not np.array_equal(seeing.logits, after.logits)


def test_a_corpus_of_other_signals_gives_one_prior_to_all(monkeypatch, batch):
    corpus = heard_records(90, 70, "p")[0]
    seen = Seen(monkeypatch, corpus, batch, tracks(same_signals()))
    labels = [label for record in corpus for label in word_labels(record.prompt.split(), record.response)]
    expected = fit_text_prior(
        [PriorText(record.prompt, record.hearing_loss) for record in corpus],
        np.array(labels, dtype=np.float64),
        tracks(corpus),
        OPTIONS.prior_c,
    )
    texts = [PriorText(record.prompt, record.hearing_loss) for record in same_signals()]
    np.testing.assert_array_equal(seen.logits, expected.logits(texts))
    np.testing.assert_array_equal(seen.prior.logits(texts), expected.logits(texts))


def test_signals_outside_the_corpus_take_the_prior_of_all(monkeypatch, batch):
    """Half of the batch is in the corpus: only that half has priors of other folds."""
    corpus = [*same_signals()[:30], *heard_records(60, 70, "p")[0]]
    seen = Seen(monkeypatch, corpus, batch, tracks(same_signals()))
    texts = [PriorText(record.prompt, record.hearing_loss) for record in same_signals()]
    everybody = [seen.prior.logits([text]) for text in texts]
    differs = [not np.allclose(a, b, rtol=0, atol=1e-9) for a, b in zip(seen.of_signal, everybody, strict=True)]
    assert differs[30:] == 30 * [False]
    assert sum(differs[:30]) > 20


def test_no_corpus_no_prior(monkeypatch, batch):
    seen = Seen(monkeypatch, [], batch, tracks(same_signals()))
    assert seen.prior is None
    assert seen.logits is None
    assert not any(name.startswith("prior.") for name in seen.checkpoint.state)


def test_same_seed_same_tensors(batch):
    corpus, groups = same_signals(), tracks(same_signals())
    states = [WordFitter(corpus, OPTIONS)(batch, groups, frozenset(), 3).state for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    fitter = WordFitter(corpus, OPTIONS)  # what it fitted before must not matter
    fitter(batch, groups, frozenset(groups[:1]), 8)
    third = fitter(batch, groups, frozenset(), 3).state
    assert all(torch.equal(states[0][name], third[name]) for name in third)


def test_table_without_responses(batch):
    silent = dataclasses.replace(batch, responses=tuple("" for _ in batch.responses))
    with pytest.raises(UserError, match="expected responses in the training tables, found none"):
        WordFitter([], OPTIONS)(silent, tracks(same_signals()), frozenset(), 0)


def test_some_empty_responses_are_misses(monkeypatch, batch):
    """A listener who wrote nothing down heard nothing; that is a label."""
    nothing = torch.arange(len(batch)) % 2 == 1
    some = dataclasses.replace(
        batch,
        responses=tuple("" if lost else r for lost, r in zip(nothing, batch.responses, strict=True)),
        target=torch.where(nothing, 0.0, batch.target),
    )
    model = WordFitter([], OPTIONS)(some, tracks(same_signals()), frozenset(), 0)
    assert (
        model.predict(batch).correctness.mean()
        < WordFitter([], OPTIONS)(batch, tracks(same_signals()), frozenset(), 0).predict(batch).correctness.mean()
    )


def test_a_label_above_zero_without_a_response_is_refused(batch):
    """All its words would count as misses, against its own label."""
    first = int(torch.nonzero(batch.target > 0)[0])
    responses = tuple("" if i == first else r for i, r in enumerate(batch.responses))
    with pytest.raises(
        UserError,
        match=rf"^1 of {len(batch)} training signals, for instance {batch.signals[first]}, have correctness above 0 "
        r"but no response; .*--responses, or .* -cp checkpoints/published$",
    ):
        WordFitter([], OPTIONS)(dataclasses.replace(batch, responses=responses), tracks(same_signals()), frozenset(), 0)


def test_corpus_of_held_groups_alone(batch):
    corpus = same_signals()
    with pytest.raises(UserError, match=r"data.prior_metadata: expected prompts beyond held-out groups, found none"):
        WordFitter(corpus, OPTIONS)(batch, list(batch.prompts), frozenset(tracks(corpus)), 0)


def test_options_and_columns_are_checked(tmp_path: Path, batch):
    with pytest.raises(UserError, match=r"model.c: expected a positive number"):
        WordFitter([], WordModelConfig(c=-1.0))
    with pytest.raises(UserError, match="not 'n_words'"):
        WordFitter([], OPTIONS)(
            dataclasses.replace(batch, feature_cols=("n_words", *HEARD_COLUMNS[:1])), [], frozenset(), 0
        )


def test_overlapping_corpus_of_few_tracks(batch):
    """Four tracks, as of the demo or of a first try: fewer folds will do, as they do for the calibration."""
    few, records = batch.take(torch.arange(24)), same_signals()[:24]
    assert len(set(tracks(records))) == 4
    assert WordFitter(records, OPTIONS)(few, tracks(records), frozenset(), 0).state
