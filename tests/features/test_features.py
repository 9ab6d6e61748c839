"""Stages 2 and 3 as functions: what stands in the tables, what is computed again, and what a killed run leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from helpers import MODELS, ROOT, write_stereo
from pystoi import stoi
from scipy.signal import resample_poly

from scow.data.audio import read_stereo, resample_sinc
from scow.data.feature_config import Dataset, read_feature_config, select_datasets
from scow.data.metadata import convert_metadata
from scow.data.provenance import read_provenance
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
from scow.features import listening, measuring
from scow.features import runner as features
from scow.features.dnsmos import Dnsmos
from scow.features.partial import Outcome
from scow.features.runner import (
    MetricOptions,
    StageResult,
    WhisperOptions,
    fill_metrics,
    fill_whisper,
    named_models,
    write_transcripts,
)
from scow.features.tasks import SignalTask
from scow.features.whisper import Transcriber, Transcript, prompt_word_scores

SEVERITIES = ("No Loss", "Mild", "Moderate")


@dataclass(frozen=True)
class Corpus:
    """A split named ``mini`` with its own feature_config.yaml; also used by the tests of the two scripts."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "feature_config.yaml"

    @property
    def tables(self) -> tuple[Path, Path]:
        return self.root / "metadata" / "mini_l.csv", self.root / "metadata" / "mini_r.csv"

    @property
    def signals(self) -> Path:
        return self.root / "mini" / "signals"

    @property
    def unprocessed(self) -> Path:
        return self.root / "mini" / "unprocessed"

    @property
    def journals(self) -> list[Path]:
        return sorted(self.root.rglob("*.journal.jsonl"))

    def datasets(self, *names: str) -> tuple[Dataset, ...]:
        return select_datasets(read_feature_config(self.config), names=names)

    def copy(self, folder: Path) -> Corpus:
        shutil.copytree(self.root, folder)
        return Corpus(folder)

    def bytes(self) -> list[bytes]:
        return [path.read_bytes() for path in self.tables]


def make_corpus(root: Path, prompts: Mapping[str, str]) -> Corpus:
    """Metadata, stage-1 tables and config for the signals of `prompts`; no audio yet."""
    corpus = Corpus(root)
    records = [
        {"signal": signal, "prompt": prompt, "response": "you", "n_words": len(prompt.split()), "words_correct": 1,
         "correctness": 0.5, "hearing_loss": SEVERITIES[i % 3]}
        for i, (signal, prompt) in enumerate(prompts.items())
    ]  # fmt: skip
    metadata = root / "metadata" / "mini.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(json.dumps(records), encoding="utf-8")
    convert_metadata(metadata)
    entries = [
        {"name": f"mini_{ear}", "split": "mini", "channel": ear, "csv_path": f"metadata/mini_{ear[0]}.csv",
         "signal_dir": "mini/signals", "reference_dir": "mini/unprocessed"}
        for ear in ("left", "right")
    ]  # fmt: skip
    content = {
        "datasets": entries,
        "whisper": {"splits": ["mini"], "models": ["tiny.en"], "model_dir": "no_weights_here", "device": "cpu"},
        "metrics": {},
    }
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return corpus


def write_pair(corpus: Corpus, signal: str, seed: int, seconds: float = 0.8) -> None:
    """A signal with two different ears, and an unprocessed file that is a little longer."""
    write_stereo(corpus.signals / f"{signal}.flac", seconds, seed=seed)
    write_stereo(corpus.unprocessed / f"{signal}_unproc.flac", seconds + 0.02, seed=seed + 100)


def write_equal_ears(corpus: Corpus, signal: str, seed: int, seconds: float = 0.8) -> None:
    write_pair(corpus, signal, seed, seconds)
    path = corpus.signals / f"{signal}.flac"
    samples, rate_hz = soundfile.read(path)
    soundfile.write(path, samples[:, [0, 0]], rate_hz, subtype="PCM_16")


def run_stage(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """As the fixture `run_script_file`, which cannot be shared by the tests of a module."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        timeout=600,
        check=False,
    )


class CountingListener:
    """The real tiny.en, with a count of the ears that it was given."""

    def __init__(self, listener: Transcriber) -> None:
        self.n_ears = 0
        self._listener = listener

    @property
    def device(self) -> torch.device:
        return self._listener.device

    @property
    def dtype(self) -> str:
        return self._listener.dtype

    def listen(self, ears: Sequence[np.ndarray]) -> list[Transcript]:
        self.n_ears += len(ears)
        return self._listener.listen(ears)


@pytest.fixture
def counting(tiny_en: Transcriber, monkeypatch: pytest.MonkeyPatch) -> CountingListener:
    listener = CountingListener(tiny_en)
    monkeypatch.setattr(listening, "loaded_transcriber", lambda *args: listener)
    return listener


def hear(corpus: Corpus, *names: str, overwrite: bool = False, batch_size: int | None = None) -> StageResult:
    options = WhisperOptions(model_dir=MODELS, device="cpu", batch_size=batch_size)
    return fill_whisper(corpus.datasets(*names), named_models(["tiny.en"]), options, overwrite=overwrite)


def measure(corpus: Corpus, *names: str, overwrite: bool = False, **options: Any) -> StageResult:
    return fill_metrics(corpus.datasets(*names), MetricOptions(**options), overwrite=overwrite)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two good signals after stage 1; never changed, only copied. 0001's ears differ, 0002's are the same."""
    root = tmp_path_factory.mktemp("features") / "fresh"
    corpus = make_corpus(root, {"0002": "nan you null", "0001": "you know you"})
    write_pair(corpus, "0001", seed=1)
    write_equal_ears(corpus, "0002", seed=2)
    return corpus


@dataclass(frozen=True)
class ChannelTranscript:
    corpus: Corpus
    result: StageResult
    n_ears: int


@pytest.fixture(scope="module")
def heard(fresh: Corpus, tiny_en: Transcriber, tmp_path_factory: pytest.TempPathFactory) -> ChannelTranscript:
    """`fresh` after stage 2; never changed, only copied."""
    corpus = fresh.copy(tmp_path_factory.mktemp("features") / "heard")
    listener = CountingListener(tiny_en)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "loaded_transcriber", lambda *args: listener)
        result = hear(corpus)
    return ChannelTranscript(corpus, result, listener.n_ears)


@pytest.fixture(scope="module")
def measured(fresh: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """`fresh` after stage 3; never changed, only copied."""
    corpus = fresh.copy(tmp_path_factory.mktemp("features") / "measured")
    result = measure(corpus)
    assert not result.failures
    return corpus


# --- stage 2 --------------------------------------------------------------------------------------------------------


def test_rows_as_published(heard: ChannelTranscript, fresh: Corpus) -> None:
    for path, before in zip(heard.corpus.tables, fresh.tables, strict=True):
        table = read_table(path)
        assert list(table.columns) == [*BASE_COLUMNS, "tiny.en"]
        words, sentences = table.iloc[:6], table.iloc[6:]
        pd.testing.assert_frame_equal(words[list(BASE_COLUMNS)], read_table(before))
        assert sentences["signal"].tolist() == ["0001", "0002"]  # sorted, although the words are not
        assert sentences["word"].tolist() == [SENTENCE_WORD] * 2
        assert sentences["word_count"].tolist() == [0, 0]
        assert sentences["response"].tolist() == ["", ""]
        assert sentences["n_words"].isna().all()
        assert sentences["prompt"].tolist() == ["you know you", "nan you null"]
        assert sentences["hearing_loss"].tolist() == ["Mild", "No Loss"]
        assert table["tiny.en"].between(0, 1).all()
        assert table.loc[table["word"] == "you", "tiny.en"].gt(0).any(), "nothing was heard at all"


@pytest.mark.parametrize("ear", ["left", "right"])
def test_scores_are_those_of_the_ear(heard: ChannelTranscript, tiny_en: Transcriber, ear: str) -> None:
    table = read_table(heard.corpus.tables[ear == "right"])
    mine = table[table["signal"] == "0001"]
    samples = resample_sinc(read_stereo(heard.corpus.signals / "0001.flac").channel(ear))
    (transcript,) = tiny_en.listen([samples])
    prompt = ["you", "know", "you"]
    # 1e-6: the same model on the same samples; a batch of one either way.
    assert mine["tiny.en"].tolist()[:3] == pytest.approx(prompt_word_scores(prompt, transcript), abs=1e-6)
    counts = jiwer.process_words(" ".join(prompt), " ".join(transcript.text.lower().strip(" .!?").split()))
    assert mine["tiny.en"].iloc[3] == pytest.approx(counts.hits / 3)


def test_ears_differ_where_the_channels_differ(heard: ChannelTranscript) -> None:
    left, right = (read_table(path).set_index(["signal", "word_count"])["tiny.en"] for path in heard.corpus.tables)
    assert left["0001"].tolist() != right["0001"].tolist()


def test_identical_ears_are_heard_once_and_score_alike(heard: ChannelTranscript) -> None:
    assert heard.n_ears == 3
    left, right = (read_table(path).set_index("signal").loc["0002", "tiny.en"] for path in heard.corpus.tables)
    assert left.tolist() == right.tolist()
    assert left.notna().all()


def test_result_says_what_was_done(heard: ChannelTranscript) -> None:
    assert [(f.path, f.columns, f.computed, f.present) for f in heard.result.filled] == [
        (path, ("tiny.en",), 2, 0) for path in heard.corpus.tables
    ]
    assert heard.result.failures == ()
    assert heard.corpus.journals == []


def test_rerun_computes_nothing_and_leaves_the_bytes(
    heard: ChannelTranscript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = heard.corpus.copy(tmp_path / "c")
    monkeypatch.setattr(listening, "loaded_transcriber", lambda *args: pytest.fail("a model was loaded"))
    result = hear(corpus)
    assert [(f.computed, f.present) for f in result.filled] == [(0, 2), (0, 2)]
    assert corpus.bytes() == heard.corpus.bytes()


def assert_same_scores(path: Path, expected: Path) -> None:
    """Equal up to what other ears in the batch change: float32 sums in another order (see test_whisper_words)."""
    pd.testing.assert_frame_equal(read_table(path), read_table(expected), rtol=0, atol=1e-3)


def spoil(path: Path, column: str, signal: str, value: float, *, sentence_only: bool = False) -> None:
    table = read_table(path)
    rows = (table["signal"] == signal) & ((table["word_count"] == 0) | (not sentence_only))
    table.loc[rows, column] = value
    write_table(table, path)


def test_only_what_is_missing_is_computed_and_overwrite_computes_all(
    heard: ChannelTranscript, tmp_path: Path, counting: CountingListener
) -> None:
    corpus = heard.corpus.copy(tmp_path / "c")
    left, right = corpus.tables
    spoil(right, "tiny.en", "0001", np.nan, sentence_only=True)
    spoil(left, "tiny.en", "0002", 0.123)
    spoiled = left.read_bytes()
    result = hear(corpus)
    assert [(f.computed, f.present) for f in result.filled] == [(0, 2), (1, 1)]
    assert counting.n_ears == 1
    assert_same_scores(right, heard.corpus.tables[1])
    assert left.read_bytes() == spoiled
    result = hear(corpus, overwrite=True)
    assert [(f.computed, f.present) for f in result.filled] == [(2, 0), (2, 0)]
    assert counting.n_ears == 1 + 3
    assert corpus.bytes() == heard.corpus.bytes()


def test_one_ear_fills_only_its_table(
    fresh: Corpus, heard: ChannelTranscript, tmp_path: Path, counting: CountingListener
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    hear(corpus, "mini_left")
    assert counting.n_ears == 2
    assert_same_scores(corpus.tables[0], heard.corpus.tables[0])
    assert corpus.tables[1].read_bytes() == fresh.tables[1].read_bytes()


def test_larger_batches_give_the_same_scores(
    fresh: Corpus, heard: ChannelTranscript, tmp_path: Path, counting: CountingListener
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    hear(corpus, batch_size=2)
    for mine, theirs in zip(corpus.tables, heard.corpus.tables, strict=True):
        assert_same_scores(mine, theirs)


@pytest.mark.parametrize("size", [pytest.param(0), -1])
def test_batch_size_below_one_is_refused(
    fresh: Corpus, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    monkeypatch.setattr(listening, "loaded_transcriber", lambda *args: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=rf"batch_size: expected at least 1, found {size}"):
        hear(corpus, "mini_left", batch_size=size)


def test_bad_table_is_said_before_a_model_is_loaded(
    fresh: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    corpus.tables[1].write_text("signal,word\na,b\n", encoding="utf-8")
    monkeypatch.setattr(listening, "loaded_transcriber", lambda *args: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=r"mini_r\.csv: expected the columns"):
        hear(corpus)
    assert corpus.tables[0].read_bytes() == fresh.tables[0].read_bytes()


def test_the_same_ear_of_the_same_files_twice_is_refused(fresh: Corpus) -> None:
    (left,) = fresh.datasets("mini_left")
    with pytest.raises(UserError, match="datasets mini_left and mini_left are one ear of the same files"):
        fill_whisper([left, left], named_models(["tiny.en"]), WhisperOptions(model_dir=MODELS, device="cpu"))


def test_transcripts_of_this_run(heard: ChannelTranscript, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "t.csv"
    write_transcripts(path, heard.result)
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(rows.columns) == ["signal", "table", "model", "transcript"]
    assert sorted(zip(rows["signal"], rows["table"], strict=True)) == [
        ("0001", "mini_l.csv"), ("0001", "mini_r.csv"), ("0002", "mini_l.csv"), ("0002", "mini_r.csv"),
    ]  # fmt: skip
    assert set(rows["model"]) == {"tiny.en"}
    assert len(set(rows.loc[rows["signal"] == "0002", "transcript"])) == 1
    assert all(rows["transcript"])


# --- stage 3 --------------------------------------------------------------------------------------------------------


def test_metrics_stand_on_every_row_and_are_those_of_the_ear(measured: Corpus) -> None:
    dnsmos = Dnsmos()
    for channel, path in enumerate(measured.tables):
        table = read_table(path)
        assert list(table.columns) == [*BASE_COLUMNS, *METRIC_COLUMNS]
        assert table["word_count"].tolist() == [1] * 6  # no sentence rows: they belong to stage 2
        for signal, rows in table.groupby("signal"):
            assert len(rows[list(METRIC_COLUMNS)].drop_duplicates()) == 1
            values = rows.iloc[0]
            ear = soundfile.read(measured.signals / f"{signal}.flac", dtype="float32")[0][:, channel]
            mono = soundfile.read(measured.unprocessed / f"{signal}_unproc.flac", dtype="float32")[0].mean(axis=1)
            x, y = resample_poly(mono, 160, 441), resample_poly(ear, 160, 441)
            n = min(len(x), len(y))
            # Float32 samples on both sides; the mean of two channels may round once more.
            assert values["stoi"] == pytest.approx(stoi(x[:n], y[:n], 16_000), abs=1e-6)
            for column, expected in dnsmos(ear).items():
                assert values[column] == pytest.approx(expected, abs=1e-6)
            assert 0.1 < values["stoi"] < 1
            assert 1 <= values["pesq"] <= 4.65


def test_identical_ears_measure_alike(measured: Corpus) -> None:
    left, right = (read_table(path).set_index("signal").loc["0002"] for path in measured.tables)
    for column in METRIC_COLUMNS:
        # Exactly, but for eSTOI, to which pystoi adds noise of one float64 epsilon.
        assert left[column].tolist() == pytest.approx(right[column].tolist(), abs=1e-9 if column == "estoi" else 0)
    other_left, other_right = (read_table(path).set_index("signal").loc["0001"] for path in measured.tables)
    assert other_left["stoi"].iloc[0] != other_right["stoi"].iloc[0]


def test_metrics_rerun_computes_nothing(measured: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = measured.copy(tmp_path / "c")
    monkeypatch.setattr(measuring.Measuring, "_measure", lambda *args: pytest.fail("a signal was measured"))
    assert [(f.computed, f.present) for f in measure(corpus).filled] == [(0, 2), (0, 2)]
    assert corpus.bytes() == measured.bytes()


def test_metrics_overwrite(measured: Corpus, tmp_path: Path) -> None:
    corpus = measured.copy(tmp_path / "c")
    spoil(corpus.tables[0], "stoi", "0001", 0.123)
    spoil(corpus.tables[0], "dns_sig", "0001", 0.123)
    measure(corpus, dns=False, overwrite=True)
    table = read_table(corpus.tables[0]).set_index("signal")
    expected = read_table(measured.tables[0]).set_index("signal")
    assert table["stoi"].tolist() == expected["stoi"].tolist()
    assert table.loc["0001", "dns_sig"].tolist() == [0.123] * 3  # not among the columns to overwrite


@pytest.mark.parametrize(
    ("options", "columns"), [({"dns": False}, INTRUSIVE_COLUMNS), ({"quality": False}, DNSMOS_COLUMNS)]
)
def test_one_group_of_metrics_then_the_other(
    fresh: Corpus, measured: Corpus, tmp_path: Path, options: dict[str, bool], columns: tuple[str, ...]
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    measure(corpus, **options)
    assert list(read_table(corpus.tables[1]).columns) == [*BASE_COLUMNS, *columns]
    measure(corpus, quality=columns == DNSMOS_COLUMNS, dns=columns == INTRUSIVE_COLUMNS)
    for mine, theirs in zip(corpus.tables, measured.tables, strict=True):
        # 1e-9: eSTOI, see above.
        pd.testing.assert_frame_equal(read_table(mine), read_table(theirs), rtol=0, atol=1e-9)


def test_order_of_the_stages_does_not_matter(
    measured: Corpus, heard: ChannelTranscript, tmp_path: Path, counting: CountingListener
) -> None:
    metrics_first, whisper_first = measured.copy(tmp_path / "m"), heard.corpus.copy(tmp_path / "w")
    hear(metrics_first)
    measure(whisper_first)
    for mine, theirs in zip(metrics_first.tables, whisper_first.tables, strict=True):
        a, b = read_table(mine), read_table(theirs)
        assert a.loc[a["word_count"] == 0, list(METRIC_COLUMNS)].notna().all(axis=None)
        assert a["tiny.en"].tolist() == b["tiny.en"].tolist()
        pd.testing.assert_frame_equal(a, b, rtol=0, atol=1e-9)  # 1e-9: eSTOI, see above


def test_degraded_and_audio_folders(fresh: Corpus, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    for signal in ("0001", "0002"):
        unprocessed = corpus.unprocessed / f"{signal}_unproc.flac"
        samples, rate_hz = soundfile.read(unprocessed)
        mono = samples.mean(axis=1)
        (corpus.root / "clean").mkdir(exist_ok=True)
        path = corpus.root / "clean" / f"{signal}.flac"
        soundfile.write(path, np.stack([mono, mono], axis=1), rate_hz, subtype="PCM_16")
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    content["datasets"][0] |= {"degraded_dir": "clean"}
    content["datasets"][1] |= {"audio_dir": "clean"}
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    measure(corpus)
    left, right = (read_table(path) for path in corpus.tables)
    # The degraded file of the left ear is the reference itself, rounded to 16 bits.
    assert left["stoi"].tolist() == pytest.approx([1] * 6, abs=1e-4)
    assert right["stoi"].max() < 0.999
    clean = read_stereo(corpus.root / "clean" / "0001.flac").channel("right")
    assert right.set_index("signal").loc["0001", "dns_bak"].iloc[0] == pytest.approx(Dnsmos()(clean)["dns_bak"])


def test_no_reference_folder_is_said(fresh: Corpus, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    del content["datasets"][1]["reference_dir"]
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match="dataset mini_right: expected reference_dir for STOI and PESQ"):
        measure(corpus)
    assert corpus.bytes() == fresh.bytes()
    assert [f.computed for f in measure(corpus, "mini_right", quality=False).filled] == [2]


def test_no_metrics_at_all_is_said(fresh: Corpus) -> None:
    with pytest.raises(UserError, match="expected metrics to compute, found quality: false and dns: false"):
        measure(fresh, quality=False, dns=False)


def test_undefined_pesq_is_empty_and_the_others_stand(fresh: Corpus, tmp_path: Path) -> None:
    corpus = fresh.copy(tmp_path / "c")
    silent = np.zeros((44_100, 2))
    soundfile.write(corpus.unprocessed / "0001_unproc.flac", silent, 44_100, subtype="PCM_16")
    result = measure(corpus)
    assert [(f.name, f.reason) for f in result.failures] == [
        ("0001 left (pesq)", "PESQ: No utterances detected"),
        ("0001 right (pesq)", "PESQ: No utterances detected"),
    ]
    table = read_table(corpus.tables[0]).set_index("signal")
    assert table.loc["0001", "pesq"].isna().all()
    assert table.loc["0001", ["stoi", "estoi", *DNSMOS_COLUMNS]].notna().all(axis=None)
    assert table.loc["0002", "pesq"].notna().all()


def test_values_that_are_there_survive_when_a_file_is_gone(measured: Corpus, tmp_path: Path) -> None:
    corpus = measured.copy(tmp_path / "c")
    for path in corpus.tables:
        write_table(read_table(path).drop(columns=list(DNSMOS_COLUMNS)), path)
    (corpus.unprocessed / "0001_unproc.flac").unlink()  # no longer needed: STOI and PESQ are computed
    measure(corpus)
    for mine, theirs in zip(corpus.tables, measured.tables, strict=True):
        pd.testing.assert_frame_equal(read_table(mine), read_table(theirs), rtol=0, atol=1e-9)


# --- a run that was killed ------------------------------------------------------------------------------------------


def crash_before_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process ended after the last signal and before the tables were replaced."""

    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(features, "write_table", crash)


@pytest.fixture
def interrupted(fresh: Corpus, tmp_path: Path) -> Corpus:
    """Both groups measured, all in the journal, nothing in the tables."""
    corpus = fresh.copy(tmp_path / "c")
    with pytest.MonkeyPatch.context() as patch:
        crash_before_the_tables(patch)
        with pytest.raises(KeyboardInterrupt):
            measure(corpus)
    assert corpus.bytes() == fresh.bytes()
    assert len(corpus.journals) == 1
    return corpus


def measured_signals(patch: pytest.MonkeyPatch) -> list[str]:
    """Signals that are measured from now on."""
    seen: list[str] = []
    real = measuring.Measuring._measure

    def noting(job: measuring.Measuring, task: SignalTask) -> Outcome:
        seen.append(task.signal)
        return real(job, task)

    patch.setattr(measuring.Measuring, "_measure", noting)
    return seen


def assert_measured(corpus: Corpus, expected: Corpus) -> None:
    for mine, theirs in zip(corpus.tables, expected.tables, strict=True):
        pd.testing.assert_frame_equal(read_table(mine), read_table(theirs), rtol=0, atol=1e-9)  # eSTOI
    assert corpus.journals == []


def test_journal_is_resumed_from(interrupted: Corpus, measured: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = measured_signals(monkeypatch)
    measure(interrupted)
    assert seen == []
    assert_measured(interrupted, measured)


def test_torn_last_line_costs_one_signal(
    interrupted: Corpus, measured: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (journal,) = interrupted.journals
    content = journal.read_bytes()
    journal.write_bytes(content[:-20])
    seen = measured_signals(monkeypatch)
    measure(interrupted)
    assert len(seen) == 1
    assert_measured(interrupted, measured)


def test_journal_of_other_words_is_dropped(interrupted: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in interrupted.tables:
        table = read_table(path)
        write_table(table.assign(word=table["word"].replace("know", "now")), path)
    seen = measured_signals(monkeypatch)
    measure(interrupted)
    assert sorted(seen) == ["0001", "0002"]


def test_values_of_one_group_are_kept_and_do_not_stand_for_both(
    fresh: Corpus, measured: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    with pytest.MonkeyPatch.context() as patch:
        crash_before_the_tables(patch)
        with pytest.raises(KeyboardInterrupt):
            measure(corpus, dns=False)
    seen = measured_signals(monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "quality", lambda *args: pytest.fail("STOI and PESQ are in the journal"))
        result = measure(corpus)
    assert sorted(seen) == ["0001", "0002"]
    assert result.failures == ()
    assert_measured(corpus, measured)


def test_overwrite_does_not_take_values_of_a_killed_run(
    interrupted: Corpus, measured: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = measured_signals(monkeypatch)
    measure(interrupted, overwrite=True)
    assert sorted(seen) == ["0001", "0002"]
    assert_measured(interrupted, measured)


def test_settings_that_nothing_reads_are_named(tmp_path: Path) -> None:
    entry = {
        "name": "x_left",
        "split": "x",
        "channel": "left",
        "csv_path": "t.csv",
        "signal_dir": "s",
        "chanel": "left",
    }
    content = {"datasets": [entry], "whisper": {"models": ["tiny.en"], "batchsize": 2}, "metrics": {"dnsmos": "x.onnx"}}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert features.unread_settings(read_feature_config(path)) == (
        "x_left.chanel",
        "whisper.batchsize",
        "metrics.dnsmos",
    )
    shipped = read_feature_config(ROOT / "feature_config.yaml")
    assert features.unread_settings(shipped) == ()


# --- kills at awkward moments ---------------------------------------------------------------------------------------


def crash_after(patch: pytest.MonkeyPatch, name: str, calls: int) -> None:
    """As if the process ended after some calls of a function of scow.features.runner."""
    real, seen = getattr(features, name), []

    def crash(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        seen.append(name)
        if len(seen) == calls:
            raise KeyboardInterrupt
        return result

    patch.setattr(features, name, crash)


def noted(corpus: Corpus, column: str) -> list[tuple[int, int]]:
    """Signals of the runs, and of unknown provenance, per table."""
    known = [read_provenance(path)[column] for path in corpus.tables]
    return [(sum(run["signals"] for run in one.runs), one.unknown) for one in known]


@pytest.mark.parametrize(("name", "calls"), [("write_table", 1), ("write_provenance", 1), ("write_provenance", 2)])
def test_a_kill_between_tables_counts_nothing_twice(
    fresh: Corpus, measured: Corpus, tmp_path: Path, name: str, calls: int
) -> None:
    corpus = fresh.copy(tmp_path / "c")
    with pytest.MonkeyPatch.context() as patch:
        crash_after(patch, name, calls)
        with pytest.raises(KeyboardInterrupt):
            measure(corpus)
    assert len(corpus.journals) == 1
    measure(corpus)
    assert_measured(corpus, measured)
    assert noted(corpus, "stoi") == noted(corpus, "dns_sig") == [(2, 0), (2, 0)]


def test_a_stopped_overwrite_must_be_finished_with_overwrite(measured: Corpus, tmp_path: Path) -> None:
    corpus = measured.copy(tmp_path / "c")
    with pytest.MonkeyPatch.context() as patch:
        crash_after(patch, "write_table", 1)
        with pytest.raises(KeyboardInterrupt):
            measure(corpus, overwrite=True)
    before = corpus.bytes()
    with pytest.raises(UserError, match=r"metrics\.journal\.jsonl: a run with --overwrite was stopped here; finish it"):
        measure(corpus)
    assert corpus.bytes() == before
    assert len(corpus.journals) == 1
    measure(corpus, overwrite=True)
    assert_measured(corpus, measured)
    assert noted(corpus, "stoi") == [(2, 0), (2, 0)]


def test_journal_survives_sentence_rows_that_come_in_between(
    interrupted: Corpus, measured: Corpus, counting: CountingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear(interrupted)
    seen = measured_signals(monkeypatch)
    measure(interrupted)
    assert seen == []
    for path, expected in zip(interrupted.tables, measured.tables, strict=True):
        table = read_table(path)
        assert table[list(METRIC_COLUMNS)].notna().all(axis=None)
        words = table.loc[table["word_count"] == 1, list(METRIC_COLUMNS)]
        pd.testing.assert_frame_equal(words, read_table(expected)[list(METRIC_COLUMNS)], rtol=0, atol=1e-9)


def test_a_run_for_one_ear_leaves_the_journal_of_both(interrupted: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(interrupted, "mini_left")
    assert len(interrupted.journals) == 1
    seen = measured_signals(monkeypatch)
    measure(interrupted)
    assert seen == []


def test_an_overwrite_that_computes_nothing_changes_nothing(measured: Corpus, tmp_path: Path) -> None:
    corpus = measured.copy(tmp_path / "c")
    before = corpus.bytes(), [read_provenance(path) for path in corpus.tables]
    shutil.rmtree(corpus.signals)
    result = measure(corpus, overwrite=True)
    assert len(result.failures) == 4
    assert (corpus.bytes(), [read_provenance(path) for path in corpus.tables]) == before


def test_transcripts_of_earlier_runs_are_kept(heard: ChannelTranscript, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_transcripts(path, heard.result)
    before = path.read_bytes()
    write_transcripts(path, StageResult((), ()))
    assert path.read_bytes() == before
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="expected transcripts"):
        write_transcripts(path, heard.result)
