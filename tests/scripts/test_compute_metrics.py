"""Stage 3 as a user runs it: partial failure, two jobs, Ctrl-C, kills, a second run on a table, and wrong options."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from corpus import Corpus, edit_channels, make_corpus, write_signal
from engine_jobs import children, is_gone
from helpers import assert_user_error, run_script, start_script, wait_until

from scow.data.provenance import read_provenance
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, METRIC_COLUMNS, read_table
from scow.io import locked

NAMES = tuple(f"{i:04d}" for i in range(1, 7))
ALL = ", ".join(METRIC_COLUMNS)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Four good signals, one without unprocessed file, one with a silent right channel; never changed, only copied."""
    corpus = make_corpus(tmp_path_factory.mktemp("stage3") / "six", dict.fromkeys(NAMES, "you know you"))
    for i, name in enumerate(NAMES):
        write_signal(corpus, name, seed=i)
    corpus.unprocessed("0005").unlink()
    edit_channels(corpus.signal("0006"), lambda samples: samples * [1, 0])
    return corpus


@pytest.fixture(scope="module")
def finished(six: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, subprocess.CompletedProcess]:
    corpus = six.copy(tmp_path_factory.mktemp("stage3") / "finished")
    return corpus, run_script("compute_metrics.py", "--config", corpus.config)


@pytest.mark.slow
def test_failures_are_listed_by_their_columns(finished: tuple[Corpus, subprocess.CompletedProcess]) -> None:
    corpus, done = finished
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("  ")]
    assert [line.split(": ")[0] for line in lines] == [
        "  0005 left (stoi, estoi, pesq)",
        "  0005 right (stoi, estoi, pesq)",
        f"  0006 right ({ALL})",
    ]
    assert [
        path.name + line.split(path.name)[1] for path, line in zip(corpus.tables, done.stdout.splitlines(), strict=True)
    ] == [
        f"mini_l.csv: {ALL}: 6 signals computed, 0 were there",
        f"mini_r.csv: {ALL}: 5 signals computed, 0 were there",
    ]
    right = read_table(corpus.tables[1]).set_index("signal")
    assert right.loc["0005", list(INTRUSIVE_COLUMNS)].isna().all(axis=None)
    assert right.loc["0005", list(DNSMOS_COLUMNS)].notna().all(axis=None)
    assert set(read_provenance(corpus.tables[1])["pesq"]["failures"]) == {"0005", "0006"}
    status = run_script("compute_metrics.py", "--config", corpus.config, "--status").stdout.splitlines()
    assert status[0] == "table,column,done,kept,failed,missing"
    assert status[1] == f"{corpus.tables[0]},stoi,5,0,1,0"
    assert status[12] == f"{corpus.tables[1]},dns_ovrl,5,0,1,0"


@pytest.mark.slow
def test_one_group_of_one_dataset_with_two_jobs(
    six: Corpus, finished: tuple[Corpus, subprocess.CompletedProcess], tmp_path: Path
) -> None:
    corpus = six.copy(tmp_path / "c")
    arguments = ("--config", corpus.config, "--dns", "--datasets", "signal_mini_left", "--jobs", 2)
    done = run_script("compute_metrics.py", *arguments)
    assert done.stdout == f"{corpus.tables[0]}: {', '.join(DNSMOS_COLUMNS)}: 6 signals computed, 0 were there\n"
    assert done.stderr.splitlines()[-1].startswith("mini metrics: 6/6 signals, ")
    assert corpus.tables[1].read_bytes() == six.tables[1].read_bytes()
    run_script("compute_metrics.py", "--config", corpus.config, "--jobs", 2)
    assert corpus.bytes() == finished[0].bytes()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["a finished chunk", "a written table", "written provenance"])
def test_kill_at_any_moment_then_rerun_gives_the_same_bytes(
    six: Corpus, finished: tuple[Corpus, subprocess.CompletedProcess], tmp_path: Path, moment: str
) -> None:
    corpus = six.copy(tmp_path / "c")
    left, _ = corpus.tables
    happened = {
        "a finished chunk": lambda: corpus.n_chunks >= 1,
        "a written table": lambda: left.read_bytes() != six.tables[0].read_bytes(),
        "written provenance": lambda: left.with_suffix(".provenance.json").exists(),
    }[moment]
    with start_script("compute_metrics.py", "--config", corpus.config) as process:
        wait_until(lambda: happened() or process.poll() is not None, moment)
        process.kill()
        process.wait()
    assert left.read_bytes() in (six.tables[0].read_bytes(), finished[0].tables[0].read_bytes())
    assert run_script("compute_metrics.py", "--config", corpus.config).returncode == 1
    assert corpus.bytes() == finished[0].bytes()
    for path, expected in zip(corpus.tables, finished[0].tables, strict=True):
        assert read_provenance(path).keys() == read_provenance(expected).keys()
    assert corpus.partial == []


@pytest.mark.slow
def test_ctrl_c_ends_workers_with_one_line_and_the_same_command_goes_on(
    six: Corpus, finished: tuple[Corpus, subprocess.CompletedProcess], tmp_path: Path
) -> None:
    corpus = six.copy(tmp_path / "c")
    with start_script("compute_metrics.py", "--config", corpus.config, "--jobs", 2) as process:
        wait_until(lambda: corpus.n_chunks >= 1 or process.poll() is not None, "a finished chunk")
        workers = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(30) == 130, process.stderr
        assert process.stderr.splitlines()[-1] == "interrupted; run the same command again to go on"
        assert "Traceback" not in process.stderr
        wait_until(lambda: all(map(is_gone, workers)), "the end of the workers", timeout=30)
    assert corpus.bytes() == six.bytes()
    run_script("compute_metrics.py", "--config", corpus.config)
    assert corpus.bytes() == finished[0].bytes()


def test_second_run_on_a_table_refuses(six: Corpus, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    with locked([corpus.tables[1]]):
        for script in ("compute_metrics.py", "whisper_inference.py"):
            assert_user_error(run_script(script, "--config", corpus.config), str(corpus.tables[1]), "no other run")
        assert run_script("compute_metrics.py", "--config", corpus.config, "--status").returncode == 0


@pytest.mark.parametrize(
    ("metrics", "arguments", "fragments"),
    [
        ({}, ("--splits=min",), ("no split 'min'", "did you mean mini?")),
        ({"dnsmos_model": "gone.onnx"}, (), ("metrics.dnsmos_model: expected an ONNX file at", "gone.onnx")),
        ({"quality": False, "dns": False}, (), ("expected metrics to compute",)),
        ({"default_datasets": ["evl"]}, (), ("no dataset 'evl'",)),
        ({"jobs": 0}, (), ("--jobs: expected at least 1, found 0",)),
        ({}, ("--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"), ("expected --jobs or --scheduler, found both",)),
        ({}, ("--resources", "GPU=1"), ("--resources: expected a --scheduler",)),
        ({}, ("--scheduler", "tcp://127.0.0.1:1", "--resources", "GPU=one"), ("NAME=NUMBER", "found 'GPU=one'")),
    ],
)
def test_wrong_options_are_one_line_and_change_nothing(
    six: Corpus, tmp_path: Path, metrics: dict[str, object], arguments: tuple[str, ...], fragments: tuple[str, ...]
) -> None:
    corpus = six.copy(tmp_path / "c")
    corpus.configure("metrics", **metrics)
    before = sorted(corpus.root.rglob("*"))
    assert_user_error(run_script("compute_metrics.py", "--config", corpus.config, *arguments), *fragments)
    assert sorted(corpus.root.rglob("*")) == before
