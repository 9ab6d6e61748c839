"""scow.training.ablation: configs of variants, paired differences, the report."""

import numpy as np
import pytest

from scow.errors import UserError
from scow.metrics import Estimate, rmse
from scow.training.ablation import Variant, ablation_rows, differences, report, variant_configs
from scow.training.cross_validation import CrossValidation

CONFIG = {
    "ablation": ["all"],
    "data": {"feature_cols": ["tiny.en", "dns_sig", "dns_bak", "dns_ovrl", "stoi", "pesq"]},
    "model": {"name": "word", "without": ["knots"]},
    "train": {"save_dir": "out"},
}


def variant(name: str, seed: int, noise: float) -> Variant:
    rng = np.random.default_rng(7)
    truth, folds = rng.uniform(0, 100, 300), np.tile(np.arange(300) % 5, (2, 1))
    scores = np.clip(truth + np.random.default_rng(seed).normal(0, noise, (2, 300)), 0, 100)
    groups = tuple(str(i // 3) for i in range(300))
    result = CrossValidation(scores, folds, scores, truth, np.zeros(300, dtype=np.int64), groups)
    facts = {"n_parameters": 1234, "whisper_millions": 37.184, "n_signals": 300}
    return Variant(name, result, facts, CONFIG["data"]["feature_cols"], 12.3)


def test_variant_configs_leave_out_parts():
    configs = variant_configs(CONFIG, ["all"])
    assert list(configs) == ["full", "audio2", "severity", "lyrics", "audio2+severity+lyrics"]
    everything = configs["audio2+severity+lyrics"]
    assert everything["data"]["feature_cols"] == ["tiny.en", "dns_sig", "dns_bak", "dns_ovrl"]
    assert everything["model"]["without"] == ["knots", "hearing_loss", "prior", "text"]
    assert everything["train"]["save_dir"] == "out/without_audio2+severity+lyrics"
    assert configs["full"] == CONFIG | {"ablation": [], "train": {"save_dir": "out/full"}}
    assert list(variant_configs(CONFIG, ["lyrics+audio2"])) == ["full", "lyrics+audio2"]
    assert "audio2+severity" in variant_configs(CONFIG | {"model": {"d_model": 64}}, ["all"])  # of the transformer
    with pytest.raises(UserError, match="ablation"):
        variant_configs(CONFIG, ["audio"])


def test_differences_are_paired_with_the_whole_config():
    variants = [variant("full", 1, 20), variant("audio2", 1, 20), variant("severity", 2, 30)]
    same, worse = differences(variants)[1:]
    assert same == Estimate(0.0, 0.0, 0.0, 0.0)
    scores, truth = [of.result.scores for of in variants], variants[0].result.truth
    by_hand = [np.mean([rmse(row, truth) for row in rows]) for rows in scores]
    assert worse.value == pytest.approx(by_hand[2] - by_hand[0])
    assert 0 < worse.low < worse.value < worse.high
    rows = ablation_rows(variants)
    assert [row[0] for row in rows] == ["variant", "full", "without audio2", "without severity"]
    text = report(variants, rows, "prompt")
    assert all(
        part in text
        for part in ("STOI, PESQ", "tiny.en", "37 million parameters", "1,234 values", "300 signals in 12 s")
    )
