"""The loop of stages 2 and 3 as functions: what is in the tables, and what is computed again."""

from __future__ import annotations

import datetime
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from corpus import Corpus, edit_channels, make_corpus, write_signal
from helpers import MODELS, ROOT, start_script, wait_until

from scow.data.feature_config import read_feature_config
from scow.data.provenance import provenance_path, read_provenance, write_provenance
from scow.data.tables import (
    BASE_COLUMNS,
    DNSMOS_COLUMNS,
    INTRUSIVE_COLUMNS,
    METRIC_COLUMNS,
    SENTENCE_WORD,
    read_table,
    write_table,
)
from scow.errors import UserError
from scow.features.partial import read_partial, start_partial
from scow.features.runner import (
    MetricOptions,
    StageResult,
    WhisperOptions,
    configured_models,
    fill_metrics,
    fill_whisper,
    metric_options,
    named_models,
    unread_settings,
    whisper_options,
    write_transcripts,
)
from scow.features.whisper import Transcriber


def transcribe(corpus: Corpus, *names: str, overwrite: bool = False, size: int | None = None) -> StageResult:
    options = WhisperOptions(model_dir=MODELS, device="cpu", batch_size=size)
    return fill_whisper(corpus.datasets(*names), named_models(["tiny.en"]), options, overwrite=overwrite)


def measure(corpus: Corpus, *names: str, overwrite: bool = False, **options: Any) -> StageResult:
    return fill_metrics(corpus.datasets(*names), MetricOptions(**options), overwrite=overwrite)


def counts(result: StageResult) -> list[tuple[int, int]]:
    """Signals computed and present, by table."""
    return [(n_computed, n_present) for _, _, n_computed, n_present in result.filled]


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    write_table(change(read_table(path)), path)


def spoil(path: Path, column: str, signal: str, value: float, words: tuple[int, ...] = (0, 1)) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[(table["signal"] == signal) & table["word_count"].isin(words), column] = value
        return table

    edit(path, change)


def assert_same(corpus: Corpus, expected: Corpus, tolerance: float = 0) -> None:
    for mine, theirs in zip(corpus.tables, expected.tables, strict=True):
        pd.testing.assert_frame_equal(read_table(mine), read_table(theirs), rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two good signals after stage 1; never changed, only copied. The channels of 0002 are identical."""
    corpus = make_corpus(tmp_path_factory.mktemp("runner") / "fresh", {"0002": "nan you null", "0001": "you know you"})
    write_signal(corpus, "0001", seed=1)
    write_signal(corpus, "0002", seed=2)
    edit_channels(corpus.signal("0002"), lambda samples: samples[:, [0, 0]])
    return corpus


@pytest.fixture(scope="module")
def transcribed(fresh: Corpus, tiny_en: Transcriber, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """`fresh` after stage 2."""
    corpus = fresh.copy(tmp_path_factory.mktemp("runner") / "transcribed")
    result = transcribe(corpus)
    assert (counts(result), result.failures, corpus.partial) == ([(2, 0), (2, 0)], {}, [])
    write_transcripts(corpus.root / "transcripts.csv", result)
    return corpus


@pytest.fixture(scope="module")
def measured(fresh: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """`fresh` after stage 3."""
    corpus = fresh.copy(tmp_path_factory.mktemp("runner") / "measured")
    assert counts(measure(corpus)) == [(2, 0), (2, 0)]
    return corpus


# --- stage 2


@pytest.mark.slow
def test_whisper_rows_as_published(transcribed: Corpus, fresh: Corpus) -> None:
    for path, before in zip(transcribed.tables, fresh.tables, strict=True):
        table = read_table(path)
        assert list(table.columns) == [*BASE_COLUMNS, "tiny.en"]
        words, sentences = table.iloc[:6], table.iloc[6:]
        pd.testing.assert_frame_equal(words[list(BASE_COLUMNS)], read_table(before))
        assert sentences["signal"].tolist() == ["0001", "0002"]  # sorted, although the words are not
        assert sentences["word"].tolist() == [SENTENCE_WORD] * 2
        assert sentences["word_count"].tolist() == [0, 0]
        assert sentences["response"].tolist() == ["", ""]
        assert sentences["n_words"].isna().all()
        assert table["tiny.en"].between(0, 1).all()
        assert table.loc[table["word"] == "you", "tiny.en"].gt(0).any(), "nothing was transcribed at all"
    left, right = (read_table(path).set_index("signal")["tiny.en"] for path in transcribed.tables)
    assert left["0001"].tolist() != right["0001"].tolist()
    assert left["0002"].tolist() == right["0002"].tolist()


@pytest.mark.slow
def test_whisper_computes_only_gaps_and_overwrite_computes_all(transcribed: Corpus, tmp_path: Path) -> None:
    corpus = transcribed.copy(tmp_path / "c")
    assert counts(transcribe(corpus)) == [(0, 2), (0, 2)]
    assert corpus.bytes() == transcribed.bytes()
    left, right = corpus.tables
    spoil(right, "tiny.en", "0001", np.nan, words=(0,))
    spoil(left, "tiny.en", "0002", 0.123)
    before = left.read_bytes()
    assert counts(transcribe(corpus)) == [(0, 2), (1, 1)]
    # 1e-3: another number of channels in the batch sums in another order.
    pd.testing.assert_frame_equal(read_table(right), read_table(transcribed.tables[1]), rtol=0, atol=1e-3)
    assert left.read_bytes() == before
    assert counts(transcribe(corpus, overwrite=True)) == [(2, 0), (2, 0)]
    assert corpus.bytes() == transcribed.bytes()


@pytest.mark.slow
def test_write_transcripts_adds_to_those_of_earlier_runs(transcribed: Corpus, tmp_path: Path) -> None:
    path = shutil.copy(transcribed.root / "transcripts.csv", tmp_path / "t.csv")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    tables = ("mini_l.csv", "mini_r.csv")
    assert sorted(zip(rows["signal"], rows["table"], strict=True)) == [(s, t) for s in ("0001", "0002") for t in tables]
    assert set(rows["model"]) == {"tiny.en"}
    assert len(set(rows.loc[rows["signal"] == "0002", "transcript"])) == 1
    write_transcripts(path, StageResult(transcripts=[("0001", "mini_l.csv", "tiny.en", "new"), ("3", "t", "m", "x")]))
    again = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert sorted(again["transcript"]) == sorted(
        [*rows["transcript"].drop(rows.index[rows["signal"] == "0001"][0]), "new", "x"]
    )
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="expected transcripts"):
        write_transcripts(path, StageResult())


def test_refused_before_anything_is_computed(fresh: Corpus, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    with pytest.raises(UserError, match=r"batch_size: expected at least 1, found 0"):
        transcribe(corpus, size=0)
    with pytest.raises(UserError, match="datasets mini_left and mini_left are one channel of the same files"):
        fill_metrics(corpus.datasets("mini_left") * 2, MetricOptions())
    with pytest.raises(UserError, match="expected metrics to compute, found quality: false and dns: false"):
        measure(corpus, quality=False, dns=False)
    provenance_path(corpus.tables[1]).write_text("{}")
    with pytest.raises(UserError, match=r"mini_r\.provenance\.json: expected the provenance of a table"):
        measure(corpus)
    corpus.tables[1].write_text("signal,word\na,b\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mini_r\.csv: expected the columns"):
        measure(corpus)
    assert corpus.tables[0].read_bytes() == fresh.tables[0].read_bytes()
    assert corpus.partial == []


# --- stage 3


@pytest.mark.slow
@pytest.mark.parametrize("first", [{"dns": False}, {"quality": False}])
def test_one_group_of_metrics_then_both(
    fresh: Corpus, measured: Corpus, tmp_path: Path, first: dict[str, bool]
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    measure(corpus, **first)
    columns = INTRUSIVE_COLUMNS if "dns" in first else DNSMOS_COLUMNS
    assert list(read_table(corpus.tables[1]).columns) == [*BASE_COLUMNS, *columns]
    if "dns" in first:
        shutil.rmtree(corpus.unprocessed("0001").parent)  # no longer needed: STOI and PESQ are there
    measure(corpus)
    assert_same(corpus, measured)
    for table in map(read_table, corpus.tables):
        assert all(len(rows[list(METRIC_COLUMNS)].drop_duplicates()) == 1 for _, rows in table.groupby("signal"))


@pytest.mark.slow
def test_order_of_the_stages_does_not_matter(measured: Corpus, transcribed: Corpus, tmp_path: Path) -> None:
    metrics_first, whisper_first = measured.copy(tmp_path / "m"), transcribed.copy(tmp_path / "w")
    transcribe(metrics_first)
    measure(whisper_first)
    assert metrics_first.bytes() == whisper_first.bytes()


@pytest.mark.slow
def test_degraded_and_audio_folders(fresh: Corpus, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    for name in ("0001", "0002"):
        (corpus.root / "clean").mkdir(exist_ok=True)
        path = shutil.copy(corpus.unprocessed(name), corpus.root / "clean" / f"{name}.flac")
        edit_channels(path, lambda samples: np.repeat(samples.mean(axis=1, keepdims=True), 2, axis=1))
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    content["datasets"][0] |= {"degraded_dir": "clean"}
    content["datasets"][1] |= {"audio_dir": "clean"}
    del content["datasets"][1]["reference_dir"]
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match="dataset mini_right: expected reference_dir for STOI and PESQ"):
        measure(corpus)
    measure(corpus, "mini_left", dns=False)
    # The degraded file of the left channel is the reference itself, rounded to 16 bits.
    assert read_table(corpus.tables[0])["stoi"].tolist() == pytest.approx([1] * 6, abs=1e-4)
    measure(corpus, "mini_right", quality=False)
    assert read_table(corpus.tables[1])["dns_bak"].notna().all()


@pytest.mark.slow
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


# --- partial results of a run that was killed


SIX = tuple(f"{i:04d}" for i in range(1, 7))


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    """Six good signals after stage 1, and after stage 3."""
    corpus = make_corpus(tmp_path_factory.mktemp("runner") / "six", dict.fromkeys(SIX, "you know you"))
    for i, name in enumerate(SIX):
        write_signal(corpus, name, seed=i)
    done = corpus.copy(tmp_path_factory.mktemp("runner") / "six_done")
    measure(done)
    return corpus, done


@pytest.fixture(scope="module")
def killed_run(six: tuple[Corpus, Corpus], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """`six` after a run that was killed when it had finished two chunks."""
    corpus = six[0].copy(tmp_path_factory.mktemp("runner") / "killed")
    with start_script("compute_metrics.py", "--config", corpus.config) as process:
        wait_until(lambda: corpus.n_chunks >= 2 or process.poll() is not None, "two finished chunks")
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert 2 <= corpus.n_chunks < 6, "killed too late to show anything"
    assert corpus.bytes() == six[0].bytes(), "the tables are whole, here the old ones"
    return corpus


@pytest.fixture
def killed(killed_run: Corpus, tmp_path: Path) -> Corpus:
    return killed_run.copy(tmp_path / "killed")


def n_computed(capfd: pytest.CaptureFixture[str]) -> list[int]:
    """Signals that runs have computed, as the last line of their progress tells."""
    return [int(n) for n in re.findall(r"mini metrics: (\d+)/\1 signals", capfd.readouterr().err)]


@pytest.mark.slow
def test_torn_last_line_costs_one_chunk(
    killed: Corpus, six: tuple[Corpus, Corpus], capfd: pytest.CaptureFixture[str]
) -> None:
    kept, (path,) = killed.n_chunks, killed.partial
    path.write_bytes(path.read_bytes()[:-20])
    measure(killed)
    assert n_computed(capfd) == [6 - kept + 1]
    assert killed.bytes() == six[1].bytes()


@pytest.mark.slow
def test_partial_results_of_other_words_are_dropped(killed: Corpus, capfd: pytest.CaptureFixture[str]) -> None:
    edit(killed.tables[0], lambda table: table.assign(word=table["word"].replace("know", "now")))
    measure(killed, quality=False)
    assert n_computed(capfd) == [6]
    assert killed.partial == []


@pytest.mark.slow
def test_stopped_overwrite_must_be_finished_with_overwrite(
    killed: Corpus, six: tuple[Corpus, Corpus], capfd: pytest.CaptureFixture[str]
) -> None:
    (path,) = killed.partial
    start_partial(path, read_partial(path)[0] | {"overwrite": list(METRIC_COLUMNS)})
    with pytest.raises(UserError, match=r"metrics\.partial\.jsonl: a run with --overwrite was stopped"):
        measure(killed)
    assert killed.bytes() == six[0].bytes()
    measure(killed, overwrite=True)
    assert n_computed(capfd) == [6]
    assert killed.bytes() == six[1].bytes()


# --- provenance


@pytest.mark.slow
def test_provenance_of_a_column(measured: Corpus, tmp_path: Path) -> None:
    corpus = measured.copy(tmp_path / "c")
    known = read_provenance(corpus.tables[0])
    assert list(known) == list(METRIC_COLUMNS)
    for column, facts in known.items():
        assert (facts["definition"], facts["device"], facts["dtype"]) == ("published", "cpu", "float32")
        assert facts["model"] == ("sig_bak_ovr" if column in DNSMOS_COLUMNS else None)
        assert facts["date"] == datetime.date.today().isoformat()
        assert {"scow", "pystoi", "pesq", "onnxruntime"} <= set(facts["versions"])
        assert facts["failures"] == {}
    edit(corpus.tables[0], lambda table: table.assign(dns_bak=np.nan))
    corpus.signal("0001").unlink()
    measure(corpus)
    assert read_provenance(corpus.tables[0])["dns_bak"]["failures"].keys() == {"0001"}
    assert read_provenance(corpus.tables[0])["stoi"] == known["stoi"]
    other = {**known["dns_bak"], "sha256": "b" * 64}
    write_provenance(corpus.tables[0], {**known, "dns_bak": other})
    before = corpus.bytes()
    with pytest.raises(UserError, match=r"mini_l\.csv: column dns_bak holds .*\(sha256 bbb.*--overwrite"):
        measure(corpus)
    assert corpus.bytes() == before


# --- config


def test_options_and_models_of_the_config(tmp_path: Path) -> None:
    entry = {
        "name": "x_left",
        "split": "x",
        "channel": "left",
        "csv_path": "t.csv",
        "signal_dir": "s",
        "chanel": "left",
    }
    content: dict[str, Any] = {
        "datasets": [entry],
        "whisper": {"model_dir": "w", "batchsize": 2},
        "metrics": {"dnsmos": 1},
    }
    path = tmp_path / "c.yaml"

    def models(given: object) -> list[tuple[str, str]]:
        content["whisper"]["models"] = given
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return [(model.column, model.openai_name) for model in configured_models(read_feature_config(path))]

    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "base.pt").touch()
    assert models(["tiny.en", "openai/whisper-large", "w\\base.pt"]) == [
        ("tiny.en", "tiny.en"), ("large", "large-v1"), ("base", "base"),
    ]  # fmt: skip
    assert models({"base": "openai/whisper-base"}) == [("base", "base")]
    for given, found in ((["tiny", "openai/whisper-tiny"], "tiny twice"), ([], "none"), ([3], "3"), (None, "none")):
        with pytest.raises(UserError, match=rf"whisper\.models: expected .*found .*{found}"):
            models(given)
    config = read_feature_config(path)
    assert unread_settings(config) == ("x_left.chanel", "whisper.batchsize", "metrics.dnsmos")
    assert whisper_options(config).model_dir == tmp_path / "w"
    shipped = read_feature_config(ROOT / "feature_config.yaml")
    assert unread_settings(shipped) == ()
    assert metric_options(shipped) == MetricOptions()
    assert len(configured_models(shipped)) == 12
