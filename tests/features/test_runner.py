"""The loop of stages 2 and 3 as functions: what is in the tables, and what is computed again."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from corpus import Corpus, edit_channels, make_corpus
from helpers import MODELS, REFUSALS, ROOT, refusal

from scow.data.audio import read_stereo, resample_poly
from scow.data.feature_config import MetricOptions, WhisperOptions, read_feature_config
from scow.data.provenance import read_provenance, write_provenance
from scow.data.tables import BASE_COLUMNS, DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, METRIC_COLUMNS, read_table, write_table
from scow.errors import UserError
from scow.features import runner
from scow.features.dnsmos import Dnsmos
from scow.features.intrusive import intrusive_metrics
from scow.features.runner import add_transcripts, configured_models, fill_metrics, fill_whisper, named_models
from scow.features.whisper import Transcriber

pytestmark = pytest.mark.slow


def transcribe(corpus: Corpus, *, overwrite: bool = False) -> runner.StageResult:
    options = WhisperOptions(model_dir=MODELS, device="cpu")
    return fill_whisper(corpus.datasets(), named_models(["tiny.en"]), options, overwrite=overwrite)


def measure(corpus: Corpus, *names: str, overwrite: bool = False, **options: Any) -> runner.StageResult:
    return fill_metrics(corpus.datasets(*names), MetricOptions(**options), overwrite=overwrite)


def counts(result: runner.StageResult) -> list[tuple[int, int]]:
    """Signals computed and present, by table."""
    return [(n_computed, n_present) for _, _, n_computed, n_present in result.filled]


def spoil(path: Path, column: str, signal: str, value: float, words: tuple[int, ...] = (0, 1)) -> None:
    table = read_table(path)
    table.loc[(table["signal"] == signal) & table["word_count"].isin(words), column] = value
    write_table(table, path)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two good signals after stage 1; never changed, only copied. The channels of 0002 are identical."""
    corpus = make_corpus(tmp_path_factory.mktemp("runner") / "fresh", {"0002": "nan you null", "0001": "you know you"})
    edit_channels(corpus.signal("0002"), lambda samples: samples[:, [0, 0]])
    return corpus


@pytest.fixture(scope="module")
def measured(fresh: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """`fresh` after stage 3."""
    corpus = fresh.copy(tmp_path_factory.mktemp("runner") / "measured")
    assert counts(measure(corpus)) == [(2, 0), (2, 0)]
    return corpus


def test_whisper_rows_gaps_and_overwrite(fresh: Corpus, tiny_en: Transcriber, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    result = transcribe(corpus)
    assert (counts(result), result.failures, corpus.partial) == ([(2, 0), (2, 0)], {}, [])
    for path, before in zip(corpus.tables, fresh.tables, strict=True):
        table = read_table(path)
        assert list(table.columns) == [*BASE_COLUMNS, "tiny.en"]
        words, sentences = table.iloc[:6], table.iloc[6:]
        pd.testing.assert_frame_equal(words[list(BASE_COLUMNS)], read_table(before))
        assert sentences["signal"].tolist() == ["0001", "0002"]  # sorted, although the words are not
        assert table["tiny.en"].between(0, 1).all()
    (left, right), whole, transcribed = corpus.tables, corpus.bytes(), read_table(corpus.tables[1])
    spoil(right, "tiny.en", "0001", np.nan, words=(0,))
    spoil(left, "tiny.en", "0002", 0.123)
    before = left.read_bytes()
    assert counts(transcribe(corpus)) == [(0, 2), (1, 1)]
    # 1e-3: another number of channels in the batch sums in another order.
    pd.testing.assert_frame_equal(read_table(right), transcribed, rtol=0, atol=1e-3)
    assert left.read_bytes() == before
    assert counts(transcribe(corpus, overwrite=True)) == [(2, 0), (2, 0)]
    assert corpus.bytes() == whole


def test_add_transcripts_to_those_of_earlier_runs(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text in ("early", "late"):
        add_transcripts(path, [("0001", "mini_l.csv", "base", text), (text, "mini_l.csv", "base", "nan")])
    assert path.read_text().splitlines() == [
        "signal,table,model,transcript",
        *(f"{x},mini_l.csv,base,{y}" for x, y in [("0001", "late"), ("early", "nan"), ("late", "nan")]),
    ]


def test_metrics_are_those_of_the_channel(measured: Corpus) -> None:
    reference = resample_poly(read_stereo(measured.unprocessed("0001")).mono)
    for path, samples in zip(measured.tables, read_stereo(measured.signal("0001")).samples, strict=True):
        rows = read_table(path).set_index("signal").loc["0001", list(METRIC_COLUMNS)]
        expected = intrusive_metrics(reference, resample_poly(samples)) | Dnsmos()(samples)
        assert rows.iloc[0].to_dict() == pytest.approx(expected, abs=1e-6)
    left, right = (read_table(path).set_index("signal").loc["0002", list(METRIC_COLUMNS)] for path in measured.tables)
    pd.testing.assert_frame_equal(left, right)  # the channels are identical


def test_one_group_of_metrics_then_both(fresh: Corpus, measured: Corpus, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    measure(corpus, dns=False)
    assert list(read_table(corpus.tables[1]).columns) == [*BASE_COLUMNS, *INTRUSIVE_COLUMNS]
    shutil.rmtree(corpus.unprocessed("0001").parent)  # no longer needed: STOI and PESQ are there
    measure(corpus)
    assert corpus.bytes() == measured.bytes()


def test_degraded_and_audio_folders(fresh: Corpus, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    (corpus.root / "clean").mkdir()
    for name in ("0001", "0002"):
        path = shutil.copy(corpus.unprocessed(name), corpus.root / "clean" / f"{name}.flac")
        edit_channels(path, lambda samples: np.repeat(samples.mean(axis=1, keepdims=True), 2, axis=1))
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    content["datasets"][0] |= {"degraded_dir": "clean"}
    content["datasets"][1] |= {"audio_dir": "clean", "reference_dir": None}
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match="dataset mini_right: expected reference_dir for STOI and PESQ"):
        measure(corpus)
    measure(corpus, "mini_left", dns=False)
    # The degraded file of the left channel is the reference itself, rounded to 16 bits.
    assert read_table(corpus.tables[0])["stoi"].tolist() == pytest.approx([1] * 6, abs=1e-4)
    measure(corpus, "mini_right", quality=False)
    assert read_table(corpus.tables[1])["dns_bak"].notna().all()


def test_overwrite_of_one_group_and_of_what_cannot_be_computed(measured: Corpus, tmp_path: Path) -> None:
    corpus = measured.copy(tmp_path / "c")
    for column in ("stoi", "dns_sig"):
        spoil(corpus.tables[0], column, "0001", 0.123)
    measure(corpus, dns=False, overwrite=True)
    table, expected = (read_table(c.tables[0]).set_index("signal") for c in (corpus, measured))
    assert table["stoi"].tolist() == expected["stoi"].tolist()
    assert table.loc["0001", "dns_sig"].tolist() == [0.123] * 3
    before = corpus.bytes(), [read_provenance(path) for path in corpus.tables]
    shutil.rmtree(corpus.signal("0001").parent)
    assert len(measure(corpus, overwrite=True).failures) == 4
    assert (corpus.bytes(), [read_provenance(path) for path in corpus.tables]) == before


@pytest.mark.parametrize("edit", [lambda samples: 0 * samples + 0.25, lambda samples: samples[:, :1] * [1, -1]])
def test_silent_reference_gives_a_reason(measured: Corpus, tmp_path: Path, edit) -> None:
    """A constant one, and one whose channels cancel each other."""
    corpus = measured.copy(tmp_path / "c")
    edit_channels(corpus.unprocessed("0001"), edit)
    failures = measure(corpus, overwrite=True).failures
    assert {(signal, channel): columns for (signal, channel, _), columns in failures.items()} == {
        ("0001", channel): list(INTRUSIVE_COLUMNS) for channel in ("left", "right")
    }


def test_provenance_and_what_is_refused(measured: Corpus, tmp_path: Path) -> None:
    corpus = measured.copy(tmp_path / "c")
    left, _ = corpus.tables
    known = read_provenance(left)
    assert list(known) == list(METRIC_COLUMNS)
    for column, facts in known.items():
        assert (facts["definition"], facts["device"], facts["dtype"]) == ("published", "cpu", "float32")
        assert facts["model"] == ("sig_bak_ovr" if column in DNSMOS_COLUMNS else None)
        assert {"scow", "pystoi", "pesq", "onnxruntime"} <= set(facts["versions"])
        assert facts["failures"] == {}
    spoil(left, "dns_bak", "0001", np.nan)
    corpus.signal("0001").unlink()
    measure(corpus)
    assert read_provenance(left)["dns_bak"]["failures"].keys() == {"0001"}
    assert read_provenance(left)["stoi"] == known["stoi"]
    write_provenance(left, known | {"dns_bak": known["dns_bak"] | {"sha256": "b" * 64}})
    before = corpus.bytes()
    with pytest.raises(UserError, match=r"mini_l\.csv: column dns_bak .*\(sha256 bbb.*--overwrite"):
        measure(corpus)
    with pytest.raises(UserError, match="datasets mini_left and mini_left are one channel of the same files"):
        fill_metrics(corpus.datasets("mini_left") * 2, MetricOptions())
    same_table = [replace(dataset, csv_path=left) for dataset in corpus.datasets()]
    with pytest.raises(UserError, match=r"mini_l\.csv: expected a table for each dataset"):
        fill_metrics(same_table, MetricOptions())
    assert (corpus.bytes(), corpus.partial) == (before, [])


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (["tiny.en", "openai/whisper-large"], {"tiny.en": "tiny.en", "large": "large-v1"}),
        (["large-v1", "turbo"], {"large": "large-v1", "large-v3-turbo": "large-v3-turbo"}),
        (["w\\base.pt"], {"base": "base"}),
        ({"small": "w/base.pt"}, {"small": "small"}),
        *[(models, message) for message, models in REFUSALS["models"]],
    ],
)
def test_models_of_the_config(tmp_path: Path, models: object, expected: object) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "base.pt").touch()
    entry = {"name": "x", "split": "x", "channel": "left", "csv_path": "t.csv", "signal_dir": "s"}
    content = {"datasets": [entry], "whisper": {"model_dir": "w", "models": models}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    config = read_feature_config(tmp_path / "c.yaml")
    with refusal(rf"whisper\.models: .*{expected}") if isinstance(expected, str) else nullcontext():
        assert {model.column: model.openai_name for model in configured_models(config)} == expected


def test_shipped_config_has_twelve_models_and_unknown_keys_are_noted(tmp_path: Path) -> None:
    shipped = (ROOT / "feature_config.yaml").read_text(encoding="utf-8")
    (tmp_path / "c.yaml").write_text(shipped.replace("batch_size:", "batchsize:"), encoding="utf-8")
    config = read_feature_config(tmp_path / "c.yaml")
    assert (len(configured_models(config)), config.unknown) == (12, ("whisper.batchsize",))
