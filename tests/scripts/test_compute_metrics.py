"""Stage 3 as a user runs it: partial failure, two jobs, Ctrl-C, kills, a second run on a table, and wrong options."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from corpus import Corpus, edit_channels, make_corpus
from helpers import assert_user_error, children, is_gone, run_script, start_script, wait_until

from scow.data.provenance import read_provenance
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, METRIC_COLUMNS, read_table
from scow.features.partial import ChannelResult, append_partial, read_partial, start_partial
from scow.io import locked

pytestmark = pytest.mark.slow

NAMES = tuple(f"{i:04d}" for i in range(1, 7))
ALL = ", ".join(METRIC_COLUMNS)
Finished = tuple[Corpus, subprocess.CompletedProcess]


def measure(corpus: Corpus, *arguments: object) -> subprocess.CompletedProcess:
    return run_script("compute_metrics.py", "--config", corpus.config, *arguments)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Four good signals, one without unprocessed file, one with a silent right channel; never changed, only copied."""
    corpus = make_corpus(tmp_path_factory.mktemp("stage3") / "six", dict.fromkeys(NAMES, "you know you"))
    corpus.unprocessed("0005").unlink()
    edit_channels(corpus.signal("0006"), lambda samples: samples * [1, 0])
    return corpus


@pytest.fixture(scope="module")
def finished(six: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    corpus = six.copy(tmp_path_factory.mktemp("stage3") / "finished")
    return corpus, measure(corpus)


def test_failures_are_listed_by_their_columns(finished: Finished) -> None:
    corpus, done = finished
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("  ")]
    assert [line.split(": ")[0] for line in lines] == [
        "  0005 left (stoi, estoi, pesq)",
        "  0005 right (stoi, estoi, pesq)",
        f"  0006 right ({ALL})",
    ]
    right = read_table(corpus.tables[1]).set_index("signal")
    assert right.loc["0005", list(INTRUSIVE_COLUMNS)].isna().all(axis=None)
    assert right.loc["0005", list(DNSMOS_COLUMNS)].notna().all(axis=None)
    assert set(read_provenance(corpus.tables[1])["pesq"]["failures"]) == {"0005", "0006"}
    status = measure(corpus, "--status").stdout.splitlines()
    assert status[:2] == ["table,column,done,kept,failed,missing", f"{corpus.tables[0]},stoi,5,0,1,0"]


def test_resume_after_sigkill_of_two_jobs(six: Corpus, finished: Finished, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    with start_script("compute_metrics.py", "--config", corpus.config, "--jobs", 2) as process:
        wait_until(lambda: corpus.n_chunks >= 1 or process.poll() is not None, "a finished chunk")
        workers = children(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: all(map(is_gone, workers)), "the end of the workers", timeout=30)
    assert corpus.tables[0].read_bytes() in (six.tables[0].read_bytes(), finished[0].tables[0].read_bytes())
    assert measure(corpus, "--jobs", 2).returncode == 1
    assert corpus.bytes() == finished[0].bytes()
    for path, expected in zip(corpus.tables, finished[0].tables, strict=True):
        assert read_provenance(path).keys() == read_provenance(expected).keys()
    assert corpus.partial == []


def test_ctrl_c_keeps_what_is_finished_for_the_next_run(six: Corpus, finished: Finished, tmp_path: Path) -> None:
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
    kept, (path,) = corpus.n_chunks, corpus.partial
    assert 1 <= kept < 6
    status = [int(line.split(",")[3]) for line in measure(corpus, "--status").stdout.splitlines()[1:]]
    assert kept - 2 <= min(status) <= max(status) <= kept, "signals 0005 and 0006 fail in part"

    changed = corpus.copy(tmp_path / "changed")
    content = path.read_bytes()
    changed.partial[0].write_bytes(re.sub(rb'("stoi": 0\.)\d', rb"\g<1>0", content))
    append_partial(changed.partial[0], [ChannelResult("stranger", "left", {"stoi": 0.5})])
    assert b"stoi" in content
    measure(changed)
    assert changed.bytes() == finished[0].bytes(), "what was changed on disk is computed again"

    other_words = corpus.copy(tmp_path / "words")
    left = other_words.tables[0]
    left.write_text(left.read_text().replace("know", "now"))
    assert "mini metrics: 6/6 " in measure(other_words, "--dns").stderr, "partial results of other words are dropped"

    heading, _ = read_partial(path)
    start_partial(path, heading | {"overwrite": list(METRIC_COLUMNS)})
    assert_user_error(measure(corpus), "metrics.partial.jsonl: a run with --overwrite was stopped")
    assert corpus.bytes() == six.bytes()
    assert "mini metrics: 6/6 " in measure(corpus, "--overwrite").stderr
    assert corpus.bytes() == finished[0].bytes()


def test_second_run_on_a_table_refuses(six: Corpus, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    with locked([corpus.tables[1]]):
        for script in ("compute_metrics.py", "whisper_inference.py"):
            assert_user_error(run_script(script, "--config", corpus.config), str(corpus.tables[1]), "no other run")
        assert measure(corpus, "--status").returncode == 0
