"""scow.models.text_prior: logits against golden values; no word's label behind its own logit."""

import dataclasses
import hashlib
from collections import defaultdict

import numpy as np
import pytest
from helpers import ROOT, make_response_tables, records_with_responses

from scow.data.metadata import SignalRecord
from scow.models.checkpoint import load_checkpoint
from scow.models.config import WordModelConfig
from scow.models.inputs import ModelInput, load_input
from scow.models.text_prior import PriorCorpus, TextPrior

C = 0.02
N = 60  # signals of ten tracks


@pytest.fixture(scope="module")
def records() -> list[SignalRecord]:
    return records_with_responses(240)[0]


@pytest.fixture(scope="module")
def prior(records) -> TextPrior:
    return PriorCorpus(records).prior(C)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> ModelInput:
    return load_input(*make_response_tables(tmp_path_factory.mktemp("tables"), N)[0], ("tiny.en",))


def identities(words: list[str], i: int) -> list[str]:
    before, after = ["<s>", *words][i], [*words, "</s>"][i + 1]
    marked = f"^{words[i]}$"
    pieces = [marked[k : k + size] for size in (2, 3) for k in range(len(marked) - size + 1)]
    names = [f"w={words[i]}", f"p={before}", f"n={after}", f"b={before} {words[i]}", f"c={words[i]} {after}"]
    return names + [f"ch={piece}" for piece in pieces]


def hashed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def test_logits_by_specification():
    """Of a shipped checkpoint; the logits are from a second implementation with plain dictionaries."""
    model, _ = load_checkpoint(ROOT / "checkpoints" / "lite" / "model.pt", WordModelConfig(), ())
    expected = {
        ("baby brine summer the baby", "Mild"): [-0.800212569, -1.956928593, -0.941390003, -0.444053759, -0.138533605],
        ("quell", "Moderate"): [-2.826130875],
        ("love unheard of", "No Loss"): [-0.426541247, -0.731690953, -0.104618309],
        ("Music tonight", "Mild"): [-0.680005788, -1.251696614],
        ("ßßßß 1999 ?", "Mild"): [-4.111056555, -2.504345751, -4.235941218],
    }
    found = model.prior.logits(list(expected))
    np.testing.assert_allclose(found, np.concatenate(list(expected.values())), rtol=0, atol=1e-8)


def test_prior_identities_are_of_three_tracks(records, prior):
    tracks = defaultdict(set)
    for record in records:
        words = record.prompt.split()
        for i in range(len(words)):
            for name in identities(words, i):
                tracks[hashed(name)].add(record.track)
    expected = sorted(key for key, seen in tracks.items() if len(seen) >= 3)
    assert prior.identities.tolist() == expected
    assert 0 < len(expected) < len(tracks)
    assert len(PriorCorpus(records[:12]).prior(C).identities) == 0  # two tracks: the dense features remain


# --- which responses a logit has seen


def turned(record: SignalRecord) -> SignalRecord:
    """The record with the other words written down."""
    missed = [word for word in record.prompt.split() if word not in record.response.split()]
    return dataclasses.replace(record, response=" ".join(missed))


def logits_of(corpus, inputs, groups) -> list[np.ndarray]:
    logits = PriorCorpus(corpus).unseen_logits(inputs, groups, C, frozenset(), 0)
    return [logits[inputs.word_signals == i] for i in range(len(inputs))]


@pytest.mark.parametrize("changed", [0, 17, 59])
@pytest.mark.parametrize("by", ["track", "prompt", "unknown"])
def test_unseen_logits_do_not_see_their_group(inputs, changed, by):
    """The corpus holds the signals of the input, and one response in it is turned around."""
    corpus = records_with_responses(N)[0]
    # Groups that the corpus does not know: then the prompts keep a response from its own logits.
    unknown = [f"mine{i // 6}" for i in range(N)]
    groups = {"track": [r.track for r in corpus], "prompt": list(inputs.prompts), "unknown": unknown}[by]
    other = [turned(r) if i == changed else r for i, r in enumerate(corpus)]
    pairs = zip(logits_of(corpus, inputs, groups), logits_of(other, inputs, groups), strict=True)
    changes = [not np.array_equal(one, two) for one, two in pairs]
    mates = [i for i in range(N) if inputs.prompts[i] == inputs.prompts[changed] or groups[i] == groups[changed]]
    assert not any(changes[i] for i in mates)
    assert sum(changes) > N / 2  # others do learn from it
