"""scow.models.text_prior: identities and logits against the module's specification written out here."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import pytest
from helpers import EASY_WORDS, HARD_WORDS, heard_records

from scow.data.metadata import SignalRecord
from scow.models.text_prior import PriorText, TextPrior, fit_text_prior
from scow.models.word_text import FUNCTION_WORDS, zipf
from scow.text.labels import word_labels

# L-BFGS stops where no slope is above 1e-4; sums in another order take it there by another way.
CLOSE = 1e-3


def identities(words: list[str], i: int) -> list[str]:
    before, after = ["<s>", *words][i], [*words, "</s>"][i + 1]
    marked = f"^{words[i]}$"
    pieces = [marked[k : k + size] for size in (2, 3) for k in range(len(marked) - size + 1)]
    names = [f"w={words[i]}", f"p={before}", f"n={after}", f"b={before} {words[i]}", f"c={words[i]} {after}"]
    return names + [f"ch={piece}" for piece in pieces]


def hashed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def dense(words: list[str], i: int, severity: str) -> list[float]:
    frequencies, lengths, n = [zipf(word) for word in words], [len(word) for word in words], len(words)
    position = i / (n - 1) if n > 1 else 0.0
    return [
        *(frequencies[i], lengths[i], words[i] in FUNCTION_WORDS, words.count(words[i]) > 1, position, i == 0),
        *(i == n - 1, n, np.mean(frequencies), np.mean(lengths), np.mean([word in FUNCTION_WORDS for word in words])),
        *(severity == "No Loss", severity == "Mild", severity == "Moderate"),
        *([7.0, *frequencies][i], [*frequencies, 7.0][i + 1]),
        *(min(frequencies), np.log(n), len(" ".join(words)), (position - 0.5) ** 2, frequencies[i] ** 2),
    ]


def fitted(records: list[SignalRecord], **keywords) -> TextPrior:
    texts = [PriorText(record.prompt, record.hearing_loss) for record in records]
    labels = [label for r in records for label in word_labels(r.prompt.split(), r.response)]
    return fit_text_prior(texts, np.array(labels, dtype=np.float64), [r.track for r in records], **keywords)


@pytest.fixture(scope="module")
def records() -> list[SignalRecord]:
    return heard_records(240)[0]


@pytest.fixture(scope="module")
def prior(records) -> TextPrior:
    return fitted(records)


def test_logits_are_as_the_specification_says(prior):
    weights = dict(zip(prior.identities.tolist(), prior.identity_weights, strict=True))
    assert np.abs(prior.identity_weights).max() > 0.02
    prompts = ["baby brine summer the baby", "quell", "love unheard of", "Music tonight"]
    severities = ["Mild", "Moderate", "No Loss", "Mild"]
    expected = []
    for prompt, severity in zip(prompts, severities, strict=True):
        words = prompt.lower().split()
        for i in range(len(words)):
            own = (np.array(dense(words, i, severity), dtype=float) - prior.dense.mean) / prior.dense.scale
            known = [weights.get(hashed(name), 0.0) for name in identities(words, i)]  # a piece counts each time
            expected.append(own @ prior.dense_weights + sum(known) + prior.intercept)
    found = prior.logits([PriorText(*pair) for pair in zip(prompts, severities, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)  # the same float64 numbers in another order


def test_identities_are_those_of_three_tracks(records, prior):
    tracks = defaultdict(set)
    for record in records:
        words = record.prompt.split()
        for i in range(len(words)):
            for name in identities(words, i):
                tracks[hashed(name)].add(record.track)
    expected = sorted(key for key, seen in tracks.items() if len(seen) >= 3)
    assert prior.identities.tolist() == expected
    assert 0 < len(expected) < len(tracks)  # some are rarer


@pytest.mark.parametrize(("n_tracks", "known"), [(2, False), (3, True)])
def test_a_word_of_two_tracks_says_nothing_of_others(records, n_tracks, known):
    """However many signals of these two tracks have it."""
    rare = [
        SignalRecord(f"r{i}", "obelisk", "Mild", "obelisk", 1, 1, 1.0, f"rare{i % n_tracks}")
        for i in range(3 * n_tracks)
    ]
    found = fitted(records + rare)
    assert (hashed("w=obelisk") in found.identities) == known


def test_learns_a_words_effect(records):
    """Two words of the same frequency, length and place: one always heard, the other never."""
    pair = []
    for i in range(60):
        word, heard = (("xqzva", True), ("kjwgy", False))[i % 2]
        prompt = f"summer {word} heart"
        response = prompt if heard else "summer heart"
        pair.append(SignalRecord(f"x{i}", prompt, "Mild", response, 3, 3, 1.0, f"pair{i // 2}"))
    prior = fitted(records + pair)
    heard, unheard = (prior.logits([PriorText(f"summer {w} heart", "Mild")])[1] for w in ("xqzva", "kjwgy"))
    assert heard - unheard > 2
    easy = np.mean([prior.logits([PriorText(f"river {word} heart", "Mild")])[1] for word in EASY_WORDS])
    hard = np.mean([prior.logits([PriorText(f"river {word} heart", "Mild")])[1] for word in HARD_WORDS])
    assert easy - hard > 1


def test_a_weaker_penalty_learns_more(records):
    spreads = [fitted(records, c=c).identity_weights.std() for c in (1e-4, 0.02, 1.0)]
    assert spreads == sorted(spreads)
    assert spreads[2] > 10 * spreads[0]


def test_tensors_round_trip(prior):
    again = TextPrior.from_tensors(prior.tensors())
    texts = [PriorText("baby brine summer", "Mild"), PriorText("nobody knows", "No Loss")]
    np.testing.assert_array_equal(again.logits(texts), prior.logits(texts))
    tensors = prior.tensors()
    tensors["identity_weights"] += 1.0  # a copy: the prior stays as it is
    assert prior.identity_weights.max() < 1.0


def test_order_of_the_corpus_does_not_matter(records, prior):
    order = np.random.default_rng(0).permutation(len(records))
    shuffled = fitted([records[i] for i in order])
    np.testing.assert_array_equal(shuffled.identities, prior.identities)
    texts = [PriorText(record.prompt, record.hearing_loss) for record in records[:30]]
    np.testing.assert_allclose(shuffled.logits(texts), prior.logits(texts), rtol=0, atol=CLOSE)


def test_order_of_the_texts_does_not_matter(prior):
    texts = [PriorText("baby brine", "Mild"), PriorText("music", "No Loss"), PriorText("ague turret love", "Moderate")]
    together = prior.logits(texts)
    np.testing.assert_allclose(together, np.concatenate([prior.logits([t]) for t in texts]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(prior.logits(texts[1:]), together[2:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("prompt", ["ßßßß", "? ?", "zzzzzz", "1999", "nan null"])
def test_unknown_words_have_a_logit(prior, prompt):
    logits = prior.logits([PriorText(prompt, "Mild")])
    assert logits.shape == (len(prompt.split()),)
    assert np.isfinite(logits).all()


def test_corpus_without_a_common_identity():
    """Two tracks: nothing is shared by three, and the dense features remain."""
    records = heard_records(12)[0]
    prior = fitted(records)
    assert len(prior.identities) == 0
    logits = prior.logits([PriorText(records[0].prompt, "Mild")])
    assert np.isfinite(logits).all()
    again = TextPrior.from_tensors(prior.tensors())
    np.testing.assert_array_equal(again.logits([PriorText(records[0].prompt, "Mild")]), logits)


def test_severity_moves_the_logit(records):
    """Where the hard of hearing get nothing, the prior says so."""
    split = [
        SignalRecord(
            r.signal, r.prompt, r.hearing_loss, "" if r.hearing_loss == "Moderate" else r.prompt, track=r.track
        )
        for r in records
    ]
    prior = fitted(split)
    none, moderate = (prior.logits([PriorText("summer heart", name)]) for name in ("No Loss", "Moderate"))
    assert (none - moderate > 2).all()
