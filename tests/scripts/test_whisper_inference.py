"""Stage 2 as a user runs it: bad files among good ones, kills and two jobs, and status."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from corpus import Corpus, edit_channels, make_corpus, write_signal
from helpers import run_script, start_script, wait_until, write_stereo

from scow.data.tables import BASE_COLUMNS, read_table, write_table
from scow.features.whisper import Transcriber

GOOD = ("0001", "0002", "0003")
Finished = tuple[Corpus, subprocess.CompletedProcess]


def truncate(path: Path) -> None:
    content = write_stereo(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


# Name of the signal -> how its file is made, and what its reason must contain.
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "b-missing": (lambda path: None, "b-missing.flac, found none"),
    "b-truncated": (truncate, "expected a whole audio file"),
    "b-silent": (lambda path: edit_channels(write_stereo(path), lambda samples: 0 * samples), "silent"),
    "../../escape": (lambda path: write_stereo(path), "plain file name"),
    "x" * 300: (lambda path: None, "plain file name"),
}


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, tiny_en: Transcriber) -> Corpus:
    """Three good signals, one with a silent right channel, and every kind of bad file; never changed, only copied."""
    names = {name if name.startswith("b-") else f"edited{i}": name for i, name in enumerate(BAD)}
    prompts = dict.fromkeys([*GOOD, "half", *names], "you know you")
    corpus = make_corpus(tmp_path_factory.mktemp("stage2") / "spoilt", prompts)
    for path in corpus.tables:  # stage 1 refuses some of the ids, but a table can be edited
        table = read_table(path)
        write_table(table.assign(signal=table["signal"].replace(names)), path)
    for i, name in enumerate((*GOOD, "half")):
        write_signal(corpus, name, seed=i)
    edit_channels(corpus.signal("half"), lambda samples: samples * [1, 0])
    for name, (make, _) in BAD.items():
        make(corpus.signal(name))
    return corpus


@pytest.fixture(scope="module")
def finished(spoilt: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A whole run of the script over good and bad files; never changed, only copied."""
    corpus = spoilt.copy(tmp_path_factory.mktemp("stage2") / "finished")
    transcripts = corpus.root / "out" / "transcripts.csv"
    return corpus, run_script("whisper_inference.py", "--config", corpus.config, "--transcripts", transcripts)


def reasons(stderr: str) -> list[str]:
    return sorted(line for line in stderr.splitlines() if line.startswith("  "))


@pytest.mark.slow
def test_bad_files_are_listed_and_stay_empty(finished: Finished, spoilt: Corpus) -> None:
    corpus, done = finished
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"\n{2 * len(BAD) + 1} could not be computed; their cells are empty:\n" in done.stderr
    assert any(line.startswith("  half right (tiny.en): the right channel is silent") for line in reasons(done.stderr))
    for channel, path in zip(("left", "right"), corpus.tables, strict=True):
        table = read_table(path).set_index("signal")
        assert list(table.columns) == [*BASE_COLUMNS[1:], "tiny.en"]
        for name, (_, reason) in BAD.items():
            (line,) = [line for line in reasons(done.stderr) if line.startswith(f"  {name} {channel} (tiny.en): ")]
            assert reason in line
        filled = [*GOOD, "half"] if channel == "left" else [*GOOD]
        assert sorted(table.index[table["tiny.en"].notna()].unique()) == filled
    rows = pd.read_csv(corpus.root / "out" / "transcripts.csv", dtype=str)
    assert list(rows.columns) == ["signal", "table", "model", "transcript"]
    assert len(rows) == 2 * len(GOOD) + 1
    new = {p.name for p in corpus.root.rglob("*")} - {p.name for p in spoilt.root.rglob("*")}
    new -= {".mini_l.csv.lock", ".mini_r.csv.lock"}
    assert new == {"out", "transcripts.csv", "mini_l.provenance.json", "mini_r.provenance.json"}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [2])  # one job: test_kills.py
def test_resume_after_sigkill(finished: Finished, spoilt: Corpus, tmp_path: Path, jobs: int) -> None:
    corpus = spoilt.copy(tmp_path / "c")
    command = ("whisper_inference.py", "--config", corpus.config, "--jobs", jobs)
    with start_script(*command) as process:
        wait_until(lambda: corpus.n_chunks >= 2 or process.poll() is not None, "two finished chunks")
        process.kill_group()
        assert process.wait() < 0, process.stderr
    n = len(BAD) + len(GOOD) + 1
    assert corpus.n_chunks < n, "killed too late to show anything"
    status = run_script(*command, "--status").stdout.splitlines()
    assert all(sum(map(int, line.split(",")[2:])) == n for line in status[1:])
    assert corpus.bytes() == spoilt.bytes(), "the tables are whole, here the old ones"
    for lines in ("signals computed", f"tiny.en: 0 signals computed, {len(GOOD)} were there"):
        done = run_script(*command)
        assert done.returncode == 1
        assert lines in done.stdout
        assert reasons(done.stderr.replace(str(corpus.root), str(finished[0].root))) == reasons(finished[1].stderr)
        assert corpus.bytes() == finished[0].bytes()
    assert corpus.partial == []
