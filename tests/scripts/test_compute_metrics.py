"""Stage 3 as a user runs it: bad files among good ones, a rerun, each group alone, Ctrl-C, kills, and wrong options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from helpers import ROOT, Script, assert_user_error, write_stereo
from pool_jobs import children, is_gone, until
from test_features import Corpus, make_corpus, run_stage, write_pair
from test_whisper_inference import BAD, GOOD, Run, spoilt_corpus

from scow.data.feature_config import read_feature_config, select_datasets
from scow.data.provenance import read_provenance
from scow.data.tables import BASE_COLUMNS, DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, METRIC_COLUMNS, read_table, write_table
from scow.features import measuring
from scow.features.partial import PartialResults
from scow.features.runner import MetricOptions, fill_metrics


def named(columns: Sequence[str]) -> str:
    return f"({', '.join(columns)})"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """After stage 1; never changed, only copied. Besides the bad signals, three bad unprocessed files."""
    corpus = spoilt_corpus(tmp_path_factory.mktemp("stage3") / "spoilt")
    for path in corpus.tables:
        table = read_table(path)
        good = table[table["signal"] == GOOD[0]]
        more = [good.assign(signal=f"u-{kind}") for kind in ("missing", "mono", "silent")]
        write_table(pd.concat([table, *more], ignore_index=True), path)
    for kind in ("missing", "mono", "silent"):
        write_stereo(corpus.signals / f"u-{kind}.flac", 0.8, seed=4)
    write_stereo(corpus.unprocessed / "u-mono_unproc.flac", 0.8, channels=1)
    soundfile.write(corpus.unprocessed / "u-silent_unproc.flac", np.zeros((35_280, 2)), 44_100, subtype="PCM_16")
    return corpus


@pytest.fixture(scope="module")
def finished(spoilt: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    corpus = spoilt.copy(tmp_path_factory.mktemp("stage3") / "finished")
    return Run(corpus, run_stage("compute_metrics.py", "--config", corpus.config), corpus.root)


def failures_of(run: Run, name: str, ear: str) -> dict[str, str]:
    """Reasons by the columns that they name."""
    begin = f"  {name} {ear} "
    lines = [line for line in run.done.stderr.splitlines() if line.startswith(begin)]
    return {line[len(begin) :].split(": ")[0]: line for line in lines}


def test_exit_code_and_no_traceback(finished: Run) -> None:
    assert finished.done.returncode == 1, finished.done.stderr
    assert "Traceback" not in finished.done.stderr
    assert "Warning" not in finished.done.stderr


@pytest.mark.parametrize("name", BAD)
def test_bad_signals_are_listed_with_reason_and_stay_empty(finished: Run, name: str) -> None:
    for ear, path in zip(("left", "right"), finished.corpus.tables, strict=True):
        reasons = failures_of(finished, name, ear)
        assert set(reasons) == {named(METRIC_COLUMNS)}
        assert all(BAD[name][1] in reason for reason in reasons.values())
        table = read_table(path)
        assert table.loc[table["signal"] == name, list(METRIC_COLUMNS)].isna().all(axis=None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("u-missing", "u-missing_unproc.flac, found none"), ("u-mono", "expected 2 channels, found 1")],
)
def test_bad_unprocessed_file_costs_only_what_needs_it(finished: Run, name: str, reason: str) -> None:
    for ear, path in zip(("left", "right"), finished.corpus.tables, strict=True):
        reasons = failures_of(finished, name, ear)
        assert set(reasons) == {named(INTRUSIVE_COLUMNS)}
        assert reason in reasons[named(INTRUSIVE_COLUMNS)]
        rows = read_table(path).set_index("signal").loc[name]
        assert rows[list(INTRUSIVE_COLUMNS)].isna().all(axis=None)
        assert rows[list(DNSMOS_COLUMNS)].notna().all(axis=None)


def test_undefined_pesq_is_the_only_empty_cell(finished: Run) -> None:
    for ear, path in zip(("left", "right"), finished.corpus.tables, strict=True):
        assert set(failures_of(finished, "u-silent", ear)) == {"(pesq)"}
        rows = read_table(path).set_index("signal").loc["u-silent", list(METRIC_COLUMNS)]
        assert rows.isna().any().to_dict() == {column: column == "pesq" for column in METRIC_COLUMNS}


def test_good_signals_and_the_good_ear_are_filled(finished: Run) -> None:
    left, right = (read_table(path).set_index("signal") for path in finished.corpus.tables)
    for table in (left, right):
        assert list(table.columns) == [*BASE_COLUMNS[1:], *METRIC_COLUMNS]
        assert table.loc[list(GOOD), list(METRIC_COLUMNS)].notna().all(axis=None)
    assert left.loc["half", list(METRIC_COLUMNS)].notna().all(axis=None)
    assert right.loc["half", list(METRIC_COLUMNS)].isna().all(axis=None)


def test_says_what_it_wrote(finished: Run) -> None:
    columns = ", ".join(METRIC_COLUMNS)
    # Good, and with some value: 0001, 0002, u-missing, u-mono, u-silent, and the left ear of half.
    assert finished.done.stdout.splitlines() == [
        f"{finished.corpus.tables[0]}: {columns}: 6 signals computed, 0 were there",
        f"{finished.corpus.tables[1]}: {columns}: 5 signals computed, 0 were there",
    ]
    count = 2 * len(BAD) + 1 + 2 * 2 + 2  # both ears; half's right ear; u-missing, u-mono; u-silent
    assert f"{count} could not be computed; their cells are empty:" in finished.done.stderr


def only_good(corpus: Corpus, folder: Path) -> Corpus:
    copy = corpus.copy(folder)
    for path in copy.tables:
        table = read_table(path)
        write_table(table[table["signal"].isin(GOOD)], path)
    return copy


def test_rerun_computes_nothing_and_leaves_the_bytes(finished: Run, tmp_path: Path) -> None:
    corpus = only_good(finished.corpus, tmp_path / "c")
    before = corpus.bytes()
    done = run_stage("compute_metrics.py", "--config", corpus.config, "--splits=mini")
    assert done.returncode == 0, done.stderr
    assert [line.split(": ")[-1] for line in done.stdout.splitlines()] == ["0 signals computed, 2 were there"] * 2
    assert corpus.bytes() == before


@pytest.mark.parametrize(("flag", "columns"), [("--quality", INTRUSIVE_COLUMNS), ("--dns", DNSMOS_COLUMNS)])
def test_one_group_and_one_dataset(
    finished: Run, spoilt: Corpus, tmp_path: Path, flag: str, columns: tuple[str, ...]
) -> None:
    corpus = only_good(spoilt, tmp_path / "c")
    before = corpus.tables[0].read_bytes()
    done = run_stage("compute_metrics.py", "--config", corpus.config, flag, "--datasets", "signal_mini_right")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{corpus.tables[1]}: {', '.join(columns)}: 2 signals computed, 0 were there\n"
    assert corpus.tables[0].read_bytes() == before
    table = read_table(corpus.tables[1])
    assert list(table.columns) == [*BASE_COLUMNS, *columns]
    expected = read_table(finished.corpus.tables[1])
    expected = expected[expected["signal"].isin(GOOD)].reset_index(drop=True)
    # 1e-9: pystoi adds noise of one float64 epsilon to eSTOI.
    pd.testing.assert_frame_equal(table, expected[list(table.columns)], rtol=0, atol=1e-9)


def test_defaults_of_the_config(spoilt: Corpus, tmp_path: Path) -> None:
    corpus = only_good(spoilt, tmp_path / "c")
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    content["metrics"] = {"quality": False, "default_datasets": ["signal_mini_left"]}
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = run_stage("compute_metrics.py", "--config", corpus.config)
    assert done.stdout == f"{corpus.tables[0]}: {', '.join(DNSMOS_COLUMNS)}: 2 signals computed, 0 were there\n"


@pytest.mark.parametrize(
    ("metrics", "arguments", "fragments"),
    [
        ({}, ("--splits=min",), ("no split 'min'", "did you mean mini?")),
        ({}, ("--datasets", "min_left"), ("no dataset 'min_left'", "did you mean mini_left")),
        ({"dnsmos_model": "gone.onnx"}, (), ("metrics.dnsmos_model: expected an ONNX file at", "gone.onnx")),
        ({"dnsmos_model": "feature_config.yaml"}, ("--dns",), ("cannot be loaded as an ONNX model",)),
        ({"quality": False, "dns": False}, (), ("expected metrics to compute",)),
        ({"default_datasets": ["evl"]}, (), ("no dataset 'evl'",)),
    ],
)
def test_wrong_options_are_one_line(
    run_script_file: Script,
    spoilt: Corpus,
    tmp_path: Path,
    metrics: dict[str, object],
    arguments: tuple[str, ...],
    fragments: tuple[str, ...],
) -> None:
    corpus = only_good(spoilt, tmp_path / "c")
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    corpus.config.write_text(yaml.safe_dump({**content, "metrics": metrics}), encoding="utf-8")
    before = corpus.bytes()
    assert_user_error(run_script_file("compute_metrics.py", "--config", corpus.config, *arguments), *fragments)
    assert corpus.bytes() == before


# --- many processes, interrupted, killed, looked at -----------------------------------------------------------------

SIX = tuple(f"{i:04d}" for i in range(1, 7))


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six good signals after stage 1; never changed, only copied."""
    corpus = make_corpus(tmp_path_factory.mktemp("stage3") / "six", dict.fromkeys(SIX, "you know you"))
    for i, name in enumerate(SIX):
        write_pair(corpus, name, seed=i)
    return corpus


@pytest.fixture(scope="module")
def six_done(six: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """`six` measured by one process that nothing disturbed."""
    corpus = six.copy(tmp_path_factory.mktemp("stage3") / "six_done")
    done = run_stage("compute_metrics.py", "--config", corpus.config, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    return corpus


def kept_batches(corpus: Corpus) -> int:
    return sum(len(PartialResults.peek(path)) for path in corpus.journals)


@contextmanager
def at_work(corpus: Corpus, *arguments: object) -> Iterator[subprocess.Popen]:
    """The stage while it runs, in a process group of its own, of which nothing is left in the end."""
    command = [sys.executable, str(ROOT / "compute_metrics.py"), "--config", str(corpus.config), *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def until_kept(corpus: Corpus, process: subprocess.Popen, n: int = 1) -> None:
    until(lambda: kept_batches(corpus) >= n or process.poll() is not None, what="a noted batch")
    assert process.poll() is None, "the stage ended too early to show anything"


def test_two_jobs_give_the_same_bytes(six: Corpus, six_done: Corpus, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    done = run_stage("compute_metrics.py", "--config", corpus.config, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith("mini metrics: 6/6 signals, ")
    assert corpus.bytes() == six_done.bytes()


def test_jobs_of_the_config_are_used(six: Corpus, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    corpus.config.write_text(yaml.safe_dump({**content, "metrics": {"jobs": 0}}), encoding="utf-8")
    assert_user_error(run_stage("compute_metrics.py", "--config", corpus.config), "--jobs: expected at least 1")
    assert run_stage("compute_metrics.py", "--config", corpus.config, "--jobs", 1, "--status").returncode == 0


def interrupted(corpus: Corpus, process: subprocess.Popen, workers: Sequence[int], *, to_all: bool) -> int:
    """Press Ctrl-C, check the end of a stage in every respect, and tell how many batches are kept."""
    before = corpus.bytes()
    assert workers
    if to_all:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    until(lambda: all(map(is_gone, workers)), 10, what="the end of the workers")
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("mini metrics: ")]
    assert lines == ["interrupted; run the same command again to go on"]
    assert corpus.bytes() == before
    return kept_batches(corpus)


@pytest.mark.parametrize("to_all", [True, False], ids=["terminal", "main process only"])
def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(
    six: Corpus, six_done: Corpus, tmp_path: Path, to_all: bool
) -> None:
    corpus = six.copy(tmp_path / "c")
    with at_work(corpus, "--jobs", 2) as process:
        until_kept(corpus, process)
        kept = interrupted(corpus, process, children(process.pid), to_all=to_all)
    assert kept >= 1
    done = run_stage("compute_metrics.py", "--config", corpus.config, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert f"mini metrics: {6 - kept}/{6 - kept} signals, " in done.stderr
    assert corpus.bytes() == six_done.bytes()
    assert corpus.journals == []


def test_ctrl_c_while_the_workers_start(six: Corpus, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    with at_work(corpus, "--jobs", 2) as process:
        # A worker is there, and has hardly begun; the other child is a process of multiprocessing's own.
        until(lambda: len(children(process.pid)) >= 2 or process.poll() is not None)
        interrupted(corpus, process, children(process.pid), to_all=True)


def status_of(corpus: Corpus) -> list[list[str]]:
    """What --status says, per table and column: done, kept, failed, missing; and that it changes nothing."""
    before = {path: path.read_bytes() for path in corpus.root.rglob("*") if path.is_file()}
    done = run_stage("compute_metrics.py", "--config", corpus.config, "--status")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.read_bytes() for path in corpus.root.rglob("*") if path.is_file()} == before
    heading, *rows = [line.split(",") for line in done.stdout.splitlines()]
    assert heading == ["table", "column", "done", "kept", "failed", "missing"]
    assert [row[:2] for row in rows] == [[str(path), column] for path in corpus.tables for column in METRIC_COLUMNS]
    return [row[2:] for row in rows]


def test_status_before_after_a_kill_and_in_the_end(six: Corpus, six_done: Corpus, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    assert status_of(corpus) == [["0", "0", "0", "6"]] * 12
    with at_work(corpus) as process:
        until_kept(corpus, process)
        said = run_stage("compute_metrics.py", "--config", corpus.config, "--status").stdout.splitlines()[1]
        assert sum(int(n) for n in said.split(",")[2:]) == 6, "another run at work is no hindrance"
        process.kill()
    kept = kept_batches(corpus)
    assert 1 <= kept < 6
    assert status_of(corpus) == [["0", str(kept), "0", str(6 - kept)]] * 12
    assert run_stage("compute_metrics.py", "--config", corpus.config).returncode == 0
    assert status_of(corpus) == [["6", "0", "0", "0"]] * 12
    assert corpus.bytes() == six_done.bytes()


def test_status_tells_failures_and_their_reasons_are_stored(finished: Run) -> None:
    rows = status_of(finished.corpus)
    n = len(BAD)
    left_stoi, left_pesq, left_sig = rows[0], rows[2], rows[3]
    assert left_stoi == ["4", "0", str(n + 2), "0"]  # 0001, 0002, half, u-silent; the bad ones, u-missing, u-mono
    assert left_pesq == ["3", "0", str(n + 3), "0"]
    assert left_sig == ["6", "0", str(n), "0"]
    assert rows[9] == ["5", "0", str(n + 1), "0"]  # the right ear of half is silent
    stored = read_provenance(finished.corpus.tables[1])["pesq"].failures
    assert "the right channel is silent" in stored["half"]
    assert "found none" in stored["u-missing"]
    assert set(stored) == {*BAD, "half", "u-missing", "u-mono", "u-silent"}


def test_only_the_missing_metric_of_the_missing_ear_is_computed(
    six_done: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = six_done.copy(tmp_path / "c")
    table = read_table(corpus.tables[1])
    table.loc[table["signal"] == "0003", "estoi"] = np.nan
    write_table(table.drop(columns="dns_bak"), corpus.tables[1])
    asked: list[tuple[str, ...]] = []
    real = measuring.quality
    monkeypatch.setattr(measuring, "quality", lambda x, y, columns: asked.append(tuple(columns)) or real(x, y, columns))
    result = fill_metrics(select_datasets(read_feature_config(corpus.config)), MetricOptions())
    assert asked == [("estoi",)]
    assert [(f.computed, f.present) for f in result.filled] == [(0, 6), (6, 0)]
    assert corpus.bytes() == six_done.bytes()


@pytest.mark.parametrize("script", ["compute_metrics.py", "whisper_inference.py"])
@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--jobs", "0"), "--jobs: expected at least 1, found 0"),
        (("--jobs", "-2"), "--jobs: expected at least 1, found -2"),
        (("--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"), "expected --jobs or --scheduler, found both"),
        (("--resources", "GPU=1"), "--resources: expected a --scheduler"),
        (("--scheduler", "tcp://127.0.0.1:1", "--resources", "GPU"), "--resources: expected NAME=NUMBER, as GPU=1"),
        (("--scheduler", "tcp://127.0.0.1:1", "--resources", "GPU=one"), "found 'GPU=one'"),
        (("--scheduler", "tcp://127.0.0.1:1", "--resources", "=1"), "found '=1'"),
        (("--scheduler", "tcp://127.0.0.1:1", "--resources", "GPU=nan"), "found 'GPU=nan'"),
        (("--scheduler", ""), "--scheduler: expected"),
    ],
)
def test_wrong_engines_are_one_line(
    run_script_file: Script, six: Corpus, script: str, arguments: tuple[str, ...], fragment: str
) -> None:
    before = sorted(six.root.rglob("*"))
    assert_user_error(run_script_file(script, "--config", six.config, *arguments), fragment)
    assert sorted(six.root.rglob("*")) == before
