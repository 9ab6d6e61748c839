"""scow.models.word_features on batches small enough to work out word by word, in plain Python."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch

from scow.models.inputs import ModelInput
from scow.models.text_prior import PriorText
from scow.models.word_features import BLOCKS, prior_texts, word_table
from scow.models.word_text import TEXT_NAMES, word_text

COLUMNS = ("stoi", "tiny", "dns_sig", "base", "dns_bak", "dns_ovrl", "pesq")
WHISPER = (1, 3)  # places of tiny and base
PROMPTS = (("over", "the", "hills", "the", "end"), ("sing",), ("two", "words"))
SEVERITY = (1, 0, 2)


def input_of(columns: tuple[str, ...] = COLUMNS, seed: int = 0) -> ModelInput:
    """Five words, one word, two words; padded with what must not be read."""
    rng = np.random.default_rng(seed)
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
        severity=torch.tensor(SEVERITY),
        target=torch.zeros(3),
    )


def expected_rows(logits: list[float], ears: tuple[int, ...] = (0, 1)) -> tuple[list[str], list[list[float]]]:
    """Names and values as the module's docstring lists them."""
    features = input_of().features.double().tolist()
    rows, names, place = [], [], 0
    for i, words in enumerate(PROMPTS):
        n = len(words)
        of_ear = [[[features[i][e][r][c] for c in WHISPER] for e in ears] for r in range(n + 1)]
        flat = [[score for ear in row for score in ear] for row in of_ear]
        means = [statistics.fmean(row) for row in flat[1:]]
        hits = [statistics.fmean(score > 0 for score in row) for row in flat[1:]]
        own = logits[place : place + n]
        for w in range(n):
            near = {
                (reach, name): statistics.fmean(others or [of_word[w]])
                for reach in (1, 2)
                for name, of_word in (("mean", means), ("hit", hits))
                for others in [[of_word[k] for k in range(max(0, w - reach), min(n, w + reach + 1)) if k != w]]
            }
            metric = {
                name: [features[i][e][0][COLUMNS.index(name)] for e in ears]
                for name in COLUMNS
                if name not in "tiny base"
            }
            row = {
                "agg.mean": means[w],
                "agg.better_ear": max(statistics.fmean(ear) for ear in of_ear[w + 1]),
                "agg.sd": statistics.pstdev(flat[w + 1]),
                "agg.hit": hits[w],
                "nb.mean_1": near[1, "mean"],
                "nb.hit_1": near[1, "hit"],
                "nb.mean_2": near[2, "mean"],
                "nb.hit_2": near[2, "hit"],
                "sent.mean": statistics.fmean(flat[0]),
                "sent.better_ear": max(statistics.fmean(ear) for ear in of_ear[0]),
                "sent.sd": statistics.pstdev(flat[0]),
                "sent.max": max(flat[0]),
                "sent.min": min(flat[0]),
                "sent.words_mean": statistics.fmean(means),
                "sent.words_hit": statistics.fmean(hits),
                "n.words": n,
                "severity.no_loss": SEVERITY[i] == 0,
                "severity.mild": SEVERITY[i] == 1,
                "severity.moderate": SEVERITY[i] == 2,
                **{f"text.{name}": value for name, value in zip(TEXT_NAMES, word_text(words)[w], strict=True)},
                "prior.logit": own[w],
                "prior.sentence": statistics.fmean(own),
                **{f"dns.{name}_mean": statistics.fmean(metric[name]) for name in ("dns_sig", "dns_bak", "dns_ovrl")},
                **{f"dns.{name}_max": max(metric[name]) for name in ("dns_sig", "dns_bak", "dns_ovrl")},
                **{f"quality.{name}_mean": statistics.fmean(metric[name]) for name in ("stoi", "pesq")},
                **{f"quality.{name}_max": max(metric[name]) for name in ("stoi", "pesq")},
                "hinge.sentence_0.3": max(0.0, statistics.fmean(means) - 0.3),
                "hinge.word_0.5": max(0.0, means[w] - 0.5),
                "hinge.word_0.7": max(0.0, means[w] - 0.7),
            }
            rows.append([float(value) for value in row.values()])
            names = list(row)
        place += n
    return names, rows


LOGITS = np.array([0.5, -1.0, 2.0, 0.0, 1.5, -3.0, 0.25, 0.75])


@pytest.mark.parametrize(("ear", "ears"), [("both", (0, 1)), ("left", (0,)), ("right", (1,))])
def test_names_and_values_by_hand(ear, ears):
    """`ear` chooses whose scores and metrics count."""
    table = word_table(input_of(), LOGITS, ear=ear)
    names, rows = expected_rows(LOGITS.tolist(), ears)
    assert list(table.names) == names
    assert table.owner.tolist() == [0, 0, 0, 0, 0, 1, 2, 2]
    assert table.features.dtype == np.float64
    np.testing.assert_allclose(table.features, rows, rtol=0, atol=1e-12)  # float64 on both sides
    hinges = table.features[:, -3:]
    assert (hinges == 0).any()
    assert (hinges > 0).any()


def test_single_word_prompt_is_its_own_neighbour():
    table = word_table(input_of(), LOGITS)
    row = dict(zip(table.names, table.features[5], strict=True))
    assert row["nb.mean_1"] == row["nb.mean_2"] == row["agg.mean"] == row["sent.words_mean"]
    assert row["nb.hit_1"] == row["agg.hit"]


def test_signals_do_not_mix():
    """Each signal alone has the features that it has among others."""
    batch = input_of()
    whole = word_table(batch, LOGITS)
    start = 0
    for i, words in enumerate(PROMPTS):
        part = slice(start, start + len(words))
        alone = word_table(batch.take(torch.tensor([i])), LOGITS[part])
        np.testing.assert_allclose(alone.features, whole.features[part], rtol=0, atol=1e-12)
        start += len(words)


@pytest.mark.parametrize("without", [("dns",), ("prior", "hinge"), tuple(block for block in BLOCKS if block != "n")])
def test_blocks_left_out(without):
    whole, fewer = word_table(input_of(), LOGITS), word_table(input_of(), LOGITS, without=without)
    kept = [i for i, name in enumerate(whole.names) if name.partition(".")[0] not in without]
    assert fewer.names == tuple(whole.names[i] for i in kept)
    assert 0 < len(kept) < len(whole.names)
    np.testing.assert_array_equal(fewer.features, whole.features[:, kept])


def test_every_block_has_features():
    names = word_table(input_of(), LOGITS).names
    assert tuple(dict.fromkeys(name.partition(".")[0] for name in names)) == BLOCKS


def test_metric_blocks_only_where_the_columns_are():
    names = word_table(input_of(("tiny", "base")), None).names
    assert {name.partition(".")[0] for name in names} == set(BLOCKS) - {"dns", "quality", "prior"}
    names = word_table(input_of(("pesq", "tiny")), None).names
    assert [name for name in names if name.startswith("quality.")] == ["quality.pesq_mean", "quality.pesq_max"]


def test_order_of_the_columns_does_not_matter():
    turned = word_table(input_of(COLUMNS[::-1]), LOGITS)
    straight = word_table(input_of(), LOGITS)
    for name, values in zip(straight.names, straight.features.T, strict=True):
        if name.startswith("quality."):
            assert name in turned.names
        np.testing.assert_allclose(turned.features[:, turned.names.index(name)], values, rtol=0, atol=1e-12)


def test_batch_is_left_as_it_was():
    batch = input_of()
    before = batch.features.clone()
    word_table(batch, LOGITS, ear="left", without=("nb",))
    assert torch.equal(batch.features, before)


def test_prior_texts():
    assert prior_texts(input_of()) == [
        PriorText("over the hills the end", "Mild"),
        PriorText("sing", "No Loss"),
        PriorText("two words", "Moderate"),
    ]
