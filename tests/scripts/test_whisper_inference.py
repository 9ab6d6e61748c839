"""Stage 2 as a user runs it: bad files among good ones, a rerun, a kill, and wrong options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers import MODELS, ROOT, Script, assert_user_error, write_stereo
from test_features import Corpus, make_corpus, run_stage, write_equal_ears, write_pair

from scow.data.tables import BASE_COLUMNS, SENTENCE_WORD, read_table, write_table
from scow.features.whisper import Transcriber

GOOD = ("0001", "0002")
LINE = "tiny.en: {} signals computed, {} were there"


def silence_one(corpus: Corpus, name: str, channels: slice) -> None:
    path = write_stereo(corpus.signals / f"{name}.flac", 0.6, seed=9)
    samples, rate_hz = soundfile.read(path)
    samples[:, channels] = 0
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")


def truncate(corpus: Corpus, name: str) -> None:
    path = write_stereo(corpus.signals / f"{name}.flac", 1.0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def plain(**form: float | int) -> Callable[[Corpus, str], None]:
    def write(corpus: Corpus, name: str) -> None:
        write_stereo(corpus.signals / f"{name}.flac", **form)  # type: ignore[arg-type]

    return write


# Name of the signal -> how its file is made, and what must be said of it.
BAD: dict[str, tuple[Callable[[Corpus, str], None], str]] = {
    "b-missing": (lambda corpus, name: None, "b-missing.flac, found none"),
    "b-truncated": (truncate, "expected a whole audio file"),
    "b-silent": (lambda corpus, name: silence_one(corpus, name, slice(None)), "is silent"),
    "b-mono": (plain(channels=1), "expected 2 channels, found 1"),
    "b-8khz": (plain(rate_hz=8_000), "expected 44100 Hz, found 8000 Hz"),
    "b-48khz": (plain(rate_hz=48_000), "expected 44100 Hz, found 48000 Hz"),
    "b-short": (plain(seconds=0.2), "expected at least 0.25 s"),
    "b-long": (plain(seconds=30.5), "expected at most 30 s"),
    "b-text": (lambda corpus, name: (corpus.signals / f"{name}.flac").write_text("no") and None, "cannot be decoded"),
    "../../escape": (
        lambda corpus, name: write_pair(corpus, name, seed=5),
        "expected a signal id that is a plain file name, found '../../escape'",
    ),
}


def spoilt_corpus(root: Path) -> Corpus:
    """Two good signals, one with a silent right ear, and every kind of bad file; also used for stage 3."""
    prompts = {name: "you know you" for name in (*GOOD, "half", "escape", *BAD) if "/" not in name}
    corpus = make_corpus(root, prompts)
    for path in corpus.tables:  # stage 1 refuses such an id, but a table can be edited
        table = read_table(path)
        write_table(table.assign(signal=table["signal"].replace("escape", "../../escape")), path)
    write_pair(corpus, GOOD[0], seed=1)
    write_equal_ears(corpus, GOOD[1], seed=2)
    silence_one(corpus, "half", slice(1, 2))
    for name, (make, _) in BAD.items():
        make(corpus, name)
    for name in ("half", *BAD):
        write_stereo(corpus.unprocessed / f"{name}_unproc.flac", 0.7, seed=3)
    assert (corpus.root / "escape.flac").is_file()
    return corpus


@dataclass(frozen=True)
class Run:
    corpus: Corpus
    done: subprocess.CompletedProcess
    transcripts: Path


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, tiny_en: Transcriber) -> Corpus:
    """After stage 1; never changed, only copied. (`tiny_en` says whether the weights are there.)"""
    return spoilt_corpus(tmp_path_factory.mktemp("stage2") / "spoilt")


@pytest.fixture(scope="module")
def finished(spoilt: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run of the script over good and bad files; never changed, only copied."""
    corpus = spoilt.copy(tmp_path_factory.mktemp("stage2") / "finished")
    transcripts = corpus.root / "out" / "heard.csv"
    done = run_stage(
        "whisper_inference.py", "--config", corpus.config, "--model-dir", MODELS, "--transcripts", transcripts,
        "--batch-size", 1,
    )  # fmt: skip
    return Run(corpus, done, transcripts)


def test_exit_code_and_no_traceback(finished: Run) -> None:
    assert finished.done.returncode == 1, finished.done.stderr
    assert "Traceback" not in finished.done.stderr
    assert "Warning" not in finished.done.stderr


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_listed_with_reason_and_stay_empty(finished: Run, name: str) -> None:
    for ear, path in zip(("left", "right"), finished.corpus.tables, strict=True):
        (line,) = [line for line in finished.done.stderr.splitlines() if line.startswith(f"  {name} {ear} (tiny.en): ")]
        assert BAD[name][1] in line
        table = read_table(path)
        rows = table[table["signal"] == name]
        assert rows["word"].tolist() == ["you", "know", "you", SENTENCE_WORD]
        assert rows["tiny.en"].isna().all()


def test_good_signals_are_filled(finished: Run) -> None:
    left, right = (read_table(path).set_index("signal") for path in finished.corpus.tables)
    for table in (left, right):
        assert list(table.columns) == [*BASE_COLUMNS[1:], "tiny.en"]
        assert table.loc[list(GOOD), "tiny.en"].notna().all()
    assert left.loc["half", "tiny.en"].notna().all()
    assert right.loc["half", "tiny.en"].isna().all()
    assert left.loc["0002", "tiny.en"].tolist() == right.loc["0002", "tiny.en"].tolist()


def test_one_failure_per_ear_and_no_other(finished: Run) -> None:
    lines = finished.done.stderr.splitlines()
    begin = lines.index(f"{2 * len(BAD) + 1} could not be computed; their cells are empty:")
    assert len(lines[begin + 1 :]) == 2 * len(BAD) + 1
    assert "  half right (tiny.en): the right channel is silent" in finished.done.stderr


def test_says_what_it_wrote(finished: Run) -> None:
    left, right = finished.corpus.tables
    assert finished.done.stdout.splitlines() == [
        f"{left}: {LINE.format(3, 0)}",
        f"{right}: {LINE.format(2, 0)}",
        f"wrote {finished.transcripts}",
    ]


def test_transcripts(finished: Run) -> None:
    rows = pd.read_csv(finished.transcripts, dtype=str, keep_default_na=False)
    assert sorted(zip(rows["signal"], rows["table"], strict=True)) == [
        ("0001", "mini_l.csv"), ("0001", "mini_r.csv"), ("0002", "mini_l.csv"), ("0002", "mini_r.csv"),
        ("half", "mini_l.csv"),
    ]  # fmt: skip


def test_nothing_is_left_behind(finished: Run, spoilt: Corpus) -> None:
    before = {path.relative_to(spoilt.root) for path in spoilt.root.rglob("*")}
    after = {path.relative_to(finished.corpus.root) for path in finished.corpus.root.rglob("*")}
    beside = {Path(f"metadata/mini_{ear}.provenance.json") for ear in "lr"}
    assert after - before == {Path("out"), Path("out/heard.csv"), *beside}


def test_rerun_computes_nothing_and_says_the_reasons_again(finished: Run, tmp_path: Path) -> None:
    corpus = finished.corpus.copy(tmp_path / "c")
    done = run_stage("whisper_inference.py", "--config", corpus.config, "--model-dir", MODELS)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{corpus.tables[0]}: {LINE.format(0, 3)}",
        f"{corpus.tables[1]}: {LINE.format(0, 2)}",
    ]
    assert corpus.bytes() == finished.corpus.bytes()
    renamed = done.stderr.replace(str(corpus.root), str(finished.corpus.root))
    assert failure_lines(renamed) == failure_lines(finished.done.stderr)


def failure_lines(text: str) -> list[str]:
    """Sorted, because a rerun comes to the signals in another order."""
    return sorted(line for line in text.splitlines() if line.startswith("  "))


def test_resume_after_kill_gives_the_same_bytes(finished: Run, spoilt: Corpus, tmp_path: Path) -> None:
    corpus = spoilt.copy(tmp_path / "c")
    command = ["whisper_inference.py", "--config", str(corpus.config), "--model-dir", str(MODELS), "--batch-size", "1"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 300
        while not any(path.read_bytes().count(b"\n") >= 2 for path in corpus.journals):
            assert process.poll() is None, "the script ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert corpus.bytes() == spoilt.bytes(), "a killed run leaves whole tables, here the old ones"
    (journal,) = corpus.journals
    assert journal.read_bytes().count(b"\n") < 1 + len(GOOD), "killed too late to show anything"
    done = run_stage(*command)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[0] == f"{corpus.tables[0]}: {LINE.format(3, 0)}"
    assert corpus.bytes() == finished.corpus.bytes()
    assert corpus.journals == []


def test_channel_left_fills_only_the_left_table(finished: Run, spoilt: Corpus, tmp_path: Path) -> None:
    corpus = spoilt.copy(tmp_path / "c")
    for path in corpus.tables:
        table = read_table(path)
        write_table(table[table["signal"] == "half"], path)
    before = corpus.tables[1].read_bytes()
    done = run_stage(
        "whisper_inference.py", "--config", corpus.config, "--splits=mini", "--channel", "left",
        "--models", MODELS / "tiny.en.pt",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{corpus.tables[0]}: {LINE.format(1, 0)}\n"), done.stderr
    assert corpus.tables[1].read_bytes() == before
    expected = read_table(finished.corpus.tables[0])
    expected = expected.loc[expected["signal"] == "half", "tiny.en"]
    # The same ear alone in its batch, in both runs; another run need not sum in another order, but may.
    np.testing.assert_allclose(read_table(corpus.tables[0])["tiny.en"], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--splits=min",), ("no split 'min'", "did you mean mini?")),
        (("--datasets", "mini_left,signal_mini_righ"), ("no dataset 'signal_mini_righ'", "mini_right")),
        (("--models", "tiny.eng"), ("no Whisper column or model 'tiny.eng'", "tiny.en")),
        (("--models", "tiny,openai/whisper-tiny"), ("found tiny twice",)),
        (("--device", "gpu"), ("expected auto, cpu or cuda, found 'gpu'",)),
        (("--config", "gone.yaml"), ("gone.yaml: expected a YAML config, found no such file",)),
    ],
)
def test_wrong_options_are_one_line(
    run_script_file: Script, spoilt: Corpus, arguments: tuple[str, ...], fragments: tuple[str, ...]
) -> None:
    done = run_script_file("whisper_inference.py", "--config", spoilt.config, *arguments)
    assert_user_error(done, *fragments)


def test_id_longer_than_a_file_name_is_a_failure_too(spoilt: Corpus, tmp_path: Path) -> None:
    corpus = spoilt.copy(tmp_path / "c")
    for path in corpus.tables:
        table = read_table(path)
        write_table(table[table["signal"] == "b-text"].assign(signal="x" * 300), path)
    done = run_stage("whisper_inference.py", "--config", corpus.config, "--model-dir", MODELS)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_two_jobs_give_the_same_bytes_and_status_changes_nothing(finished: Run, spoilt: Corpus, tmp_path: Path) -> None:
    corpus = spoilt.copy(tmp_path / "c")
    command = ("whisper_inference.py", "--config", corpus.config, "--model-dir", MODELS, "--batch-size", 1)
    status = run_stage(*command, "--status")
    n = len(BAD) + 3
    assert status.stdout.splitlines() == [
        "table,column,done,kept,failed,missing",
        *(f"{path},tiny.en,0,0,0,{n}" for path in corpus.tables),
    ]
    assert corpus.bytes() == spoilt.bytes()
    there = {path.name for path in corpus.tables[0].parent.iterdir() if not path.name.startswith(".")}  # no lock
    assert there == {"mini.json", "mini_l.csv", "mini_r.csv"}
    done = run_stage(*command, "--jobs", 2)
    assert done.returncode == 1, done.stderr
    assert corpus.bytes() == finished.corpus.bytes()
    status = run_stage(*command, "--status")
    assert [line.rsplit(",", 4)[1:] for line in status.stdout.splitlines()[1:]] == [
        ["3", "0", str(n - 3), "0"],
        ["2", "0", str(n - 2), "0"],
    ]
