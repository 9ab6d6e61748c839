"""scow.models.word_features against a slow second implementation, word by word in plain Python."""

import statistics

import numpy as np
import pytest
import torch
import whisper
from helpers import ROOT

from scow.config import read_config
from scow.models.checkpoint import load_checkpoint
from scow.models.config import BLOCKS, WordModelConfig, model_config
from scow.models.inputs import Excerpt, ModelInput, input_of
from scow.models.word_features import TEXT_NAMES, sentence_features, word_features, word_text
from scow.text import zipf

COLUMNS = ("stoi", "tiny", "dns_sig", "base", "dns_bak", "dns_ovrl", "pesq")
WHISPER = (1, 3)  # places of tiny and base
PROMPTS = (("over", "the", "hills", "the", "end"), ("sing",), ("two", "words"))
HEARING_LOSS = (1, 0, 2)
LOGITS = np.array([0.5, -1.0, 2.0, 0.0, 1.5, -3.0, 0.25, 0.75])
BOTH = WordModelConfig()


def invented(columns: tuple[str, ...] = COLUMNS) -> ModelInput:
    """Five words, one word, two words; padded with what must not be read."""
    rng = np.random.default_rng(0)
    features = np.full((3, 2, 6, len(COLUMNS)), 99.0, dtype=np.float32)
    for i, words in enumerate(PROMPTS):
        values = rng.random((2, len(words) + 1, len(COLUMNS)))
        features[i, :, : len(words) + 1] = np.where(values < 0.3, 0.0, values)  # some are no hits
    return ModelInput(
        signals=("a", "b", "c"),
        prompts=tuple(" ".join(words) for words in PROMPTS),
        responses=("", "", ""),
        words=PROMPTS,
        feature_cols=columns,
        features=torch.from_numpy(features[..., [COLUMNS.index(column) for column in columns]]),
        n_rows=torch.tensor([6, 2, 3]),
        hearing_loss=torch.tensor(HEARING_LOSS),
        target=torch.zeros(3),
    )


def expected_rows(channels: tuple[int, ...]) -> list[dict[str, float]]:
    """Names and values as the module's docstring lists them."""
    features = invented().features.double().tolist()
    rows, logits = [], LOGITS.tolist()
    for i, words in enumerate(PROMPTS):
        n = len(words)
        by_channel = [[[features[i][e][r][c] for c in WHISPER] for e in channels] for r in range(n + 1)]
        flat = [[score for channel in row for score in channel] for row in by_channel]
        means = [statistics.fmean(row) for row in flat[1:]]
        hits = [statistics.fmean(score > 0 for score in row) for row in flat[1:]]
        own, logits = logits[:n], logits[n:]
        metric = {name: [features[i][e][0][c] for e in channels] for c, name in enumerate(COLUMNS) if c not in WHISPER}
        for w in range(n):
            near = {
                f"nb.{name}_{reach}": statistics.fmean(others or [of_word[w]])
                for reach in (1, 2)
                for name, of_word in (("mean", means), ("hit", hits))
                for others in [[of_word[k] for k in range(max(0, w - reach), min(n, w + reach + 1)) if k != w]]
            }
            rows.append(
                {
                    "agg.mean": means[w],
                    "agg.better_ear": max(statistics.fmean(channel) for channel in by_channel[w + 1]),
                    "agg.sd": statistics.pstdev(flat[w + 1]),
                    "agg.hit": hits[w],
                    **near,
                    "sent.mean": statistics.fmean(flat[0]),
                    "sent.better_ear": max(statistics.fmean(channel) for channel in by_channel[0]),
                    "sent.sd": statistics.pstdev(flat[0]),
                    "sent.max": max(flat[0]),
                    "sent.min": min(flat[0]),
                    "sent.words_mean": statistics.fmean(means),
                    "sent.words_hit": statistics.fmean(hits),
                    "n.words": n,
                    "hearing_loss.no_loss": HEARING_LOSS[i] == 0,
                    "hearing_loss.mild": HEARING_LOSS[i] == 1,
                    "hearing_loss.moderate": HEARING_LOSS[i] == 2,
                    **{f"text.{name}": value for name, value in zip(TEXT_NAMES, word_text(words)[w], strict=True)},
                    "prior.logit": own[w],
                    "prior.sentence": statistics.fmean(own),
                    **{f"dns.{m}_mean": statistics.fmean(metric[m]) for m in ("dns_sig", "dns_bak", "dns_ovrl")},
                    **{f"dns.{m}_max": max(metric[m]) for m in ("dns_sig", "dns_bak", "dns_ovrl")},
                    **{f"quality.{m}_mean": statistics.fmean(metric[m]) for m in ("stoi", "pesq")},
                    **{f"quality.{m}_max": max(metric[m]) for m in ("stoi", "pesq")},
                    "knots.sentence_0.3": max(0.0, statistics.fmean(means) - 0.3),
                    "knots.word_0.5": max(0.0, means[w] - 0.5),
                    "knots.word_0.7": max(0.0, means[w] - 0.7),
                }
            )
    return rows


@pytest.mark.parametrize(("ear", "channels"), [("both", (0, 1)), ("left", (0,)), ("right", (1,))])
def test_word_features_by_hand(ear, channels):
    inputs = invented()
    before = inputs.features.clone()
    found = word_features(inputs, LOGITS, WordModelConfig(ear=ear))
    rows = expected_rows(channels)
    assert list(found.columns) == list(rows[0])
    np.testing.assert_allclose(found, [[float(v) for v in row.values()] for row in rows], rtol=0, atol=1e-12)
    assert ((found.iloc[:, -3:] == 0).any(axis=None), (found.iloc[:, -3:] > 0).any(axis=None)) == (True, True)
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
