"""scow.models.word_features against golden values, and its parts."""

import numpy as np
import pandas as pd
import pytest
import torch
import whisper
from helpers import ROOT

from scow.config import read_config
from scow.models.checkpoint import load_checkpoint
from scow.models.config import BLOCKS, WordModelConfig, model_config
from scow.models.inputs import Excerpt, ModelInput, input_of
from scow.models.word_features import sentence_features, word_features, word_text
from scow.text import zipf

COLUMNS = ("stoi", "tiny", "dns_sig", "base", "dns_bak", "dns_ovrl", "pesq")
PROMPTS = {("over", "the", "hills", "the", "end"): "Mild", ("sing",): "No Loss", ("two", "words"): "Moderate"}
LOGITS = np.array([0.5, -1.0, 2.0, 0.0, 1.5, -3.0, 0.25, 0.75])
BOTH = WordModelConfig()


def invented(columns: tuple[str, ...] = COLUMNS) -> ModelInput:
    """Five words, one word, two words; padded with what must not be read."""
    rng, excerpts = np.random.default_rng(0), []
    places = [COLUMNS.index(column) for column in columns]
    for words, hearing_loss in PROMPTS.items():
        values = rng.random((2, len(words) + 1, len(COLUMNS)))
        features = np.where(values < 0.3, 0.0, values)[..., places]  # some are no hits
        excerpts.append(Excerpt(words, hearing_loss, features.astype(np.float32)))
    inputs = input_of(excerpts, columns)
    for i, words in enumerate(PROMPTS):
        inputs.features[i, :, len(words) + 1 :] = 99.0
    return inputs


@pytest.mark.parametrize("ear", ["both", "left", "right"])
def test_word_features_by_hand(ear):
    """Golden values are from a second implementation, word by word in plain Python."""
    inputs = invented()
    before = inputs.features.clone()
    found = word_features(inputs, LOGITS, WordModelConfig(ear=ear))
    expected = pd.read_csv(ROOT / "tests" / "golden" / "word_features.csv", index_col=["ear", "feature"]).loc[ear].T
    assert list(found.columns) == list(expected.columns)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(inputs.features, before)
    turned = word_features(invented(COLUMNS[::-1]), LOGITS, WordModelConfig(ear=ear))
    np.testing.assert_allclose(turned[found.columns], found, rtol=0, atol=1e-12)


def test_word_features_blocks():
    whole = word_features(invented(), LOGITS, BOTH)
    assert (*dict.fromkeys(name.partition(".")[0] for name in whole), "pseudo") == BLOCKS
    for without in (("dns",), ("prior", "knots"), BLOCKS[1:]):
        fewer = word_features(invented(), LOGITS, WordModelConfig(without=without))
        kept = [name for name in whole if name.partition(".")[0] not in without]
        assert list(fewer.columns) == kept
        np.testing.assert_array_equal(fewer, whole[kept])
    few = word_features(invented(("tiny", "base")), None, BOTH)
    assert {name.partition(".")[0] for name in few} == set(BLOCKS) - {"dns", "quality", "prior", "pseudo"}


def test_sentence_features():
    inputs = invented()
    words, found = word_features(inputs, None, BOTH), sentence_features(inputs, BOTH)
    assert [*found] == [*words, "pseudo.characters", "pseudo.compression"]
    np.testing.assert_allclose(found[[*words]], words.groupby(inputs.word_signals).mean(), rtol=0, atol=1e-12)
    prompts = [" ".join(words) for words in inputs.words]
    assert [*found["pseudo.characters"]] == [len(prompt.encode()) for prompt in prompts]
    assert [*found["pseudo.compression"]] == [whisper.utils.compression_ratio(prompt) for prompt in prompts]


def test_word_text():
    found = word_text(("The", "Hills", "the", "qzxv"))
    assert found.tolist() == [
        [zipf("the"), 3, 1, 1, 0, 1, 0],
        [zipf("hills"), 5, 0, 0, 1 / 3, 0, 0],
        [zipf("the"), 3, 1, 1, 2 / 3, 0, 0],
        [0, 4, 0, 0, 1, 0, 1],
    ]
    assert zipf("the") > 7 > 4.5 > zipf("hills") > 3.5
    assert word_text(("sing",))[0, 4:].tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", ["small", "lite"])
def test_stretched_word_is_no_likelier_than_a_long_one(name):
    """Of a shipped checkpoint; uncapped, 5,000 letters reach probability 1."""
    folder = ROOT / "checkpoints" / name
    config = read_config(folder / "config.yaml")
    model, _ = load_checkpoint(folder / "model.pt", model_config(config["model"]), ())
    features = np.full((2, 4, len(model.feature_cols)), 0.5)

    def probability(word: str) -> float:
        words = model.predict(input_of([Excerpt((word, "row", "row"), "Mild", features)], model.feature_cols)).words
        assert words is not None
        return float(words[0])

    assert probability("a" * 5000) < probability("misunderstanding")
    assert probability("a" * 5000) == pytest.approx(probability("a" * 20), abs=0.01)
