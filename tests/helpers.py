"""What several test files need: scripts run as a user runs them, small tables and metadata, invented signals."""

import atexit
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from scow.data import tables
from scow.data.metadata import SignalRecord, metadata_table
from scow.data.scores import write_rows
from scow.data.tables import FEATURE_COLUMNS, HEARING_LOSSES, METRIC_COLUMNS, order_columns, with_sentence_rows
from scow.errors import UserError
from scow.features.whisper import Transcriber, load_transcriber, resolve_model
from scow.models.config import DataOptions, TrainOptions, WordModelConfig
from scow.training.train import RunOptions, TrainConfig

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
DEMO = ROOT / "data" / "cadenza_data_demo"
TESTS_PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])  # PYTHONPATH of forked scripts and of workers
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# --- scripts


FORK = multiprocessing.get_context("forkserver")


@lru_cache
def start_fork_server() -> None:
    """Start a process that has the imports loaded, from which scripts are forked."""
    FORK.set_forkserver_preload(["preload", "helpers"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**dict.fromkeys(THREADS, "1"), "PYTHONPATH": TESTS_PATH}.items():
            patch.setenv(name, value)
        forkserver.ensure_running()


class Process:
    """A started script, used like `subprocess.Popen`; it leads a process group, and what it prints goes to files.

    The script is one of the repository, or has an absolute path; `env` is added to the environment. What is read at
    import time (PYTHONPATH, OMP_NUM_THREADS) cannot be changed by `env`: such tests need a fresh process.
    """

    def __init__(self, script: str | Path, *args: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        for file in self._files:
            file.touch()
        start_fork_server()
        environ = {"COLUMNS": "200"} | os.environ | (env or {})
        command = [str(ROOT / script), *map(str, args)]
        self._process = FORK.Process(target=become, args=(command, cwd, environ, self._files))
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # with the processes that it started
        self.wait()

    @property
    def stdout(self) -> str:
        """What has been printed so far."""
        return self._files[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What has been printed to standard error so far."""
        return self._files[1].read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the script runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int | None:
        """The exit code; None if the script has not ended in time."""
        self._process.join(timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def become(command: list[str], cwd: Path, environ: dict[str, str], files: list[Path]) -> None:
    """In the forked process: be what a new one would be, and run the script."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource_tracker._resource_tracker._fd = None  # so that it has its own, if it needs one
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for number, path in enumerate(files, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (open as long as the process)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing does not
        sys.stdout.flush()


start_script = Process


def run_script(
    script: str | Path, *args: object, timeout: float = 300, code: int | None = None, **options: Any
) -> subprocess.CompletedProcess:
    """Run a script to its end, as `start_script` starts it; it ends with that exit code, if one is given."""
    with start_script(script, *args, **options) as process:
        if process.wait(timeout) is None:
            pytest.fail(f"{script} {args} did not end in {timeout} s:\n{process.stdout}\n{process.stderr}")
        assert code in (None, process.poll()), process.stderr
        return subprocess.CompletedProcess([script, *args], process.wait(), process.stdout, process.stderr)


def run_python(code: str, *args: object) -> subprocess.CompletedProcess:
    """Run a program in a fresh process; its output goes through pipes, so that it may limit the size of files."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def wait_until(condition: Callable[[], object], what: str, timeout: float = 120) -> None:
    """Wait for an event, and fail with its name if it does not happen."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.01)


def assert_user_error(done: subprocess.CompletedProcess, *fragments: str) -> None:
    """A user error: exit code 2, one line on standard error, no traceback, and what the line must contain."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0], (fragment, lines[0])


@contextmanager
def refusal(message: str, error: type[Exception] = UserError) -> Iterator[None]:
    """Expect an error whose message is one line and fits a regular expression."""
    with pytest.raises(error, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)


# --- work for engines, and their processes

Item = tuple[Path, int, str]  # folder for notes, number, what happens at it


def square(item: Item) -> int:
    """The square of a number; notes in a folder which process began it, and does what else is said."""
    folder, number, then = item
    with (folder / "log").open("a") as log:
        log.write(f"{os.getpid()} {number}\n")
    if then == "wait":
        wait_until((folder / "release").exists, "the release")
    if then == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if then == "user error":
        raise UserError(f"{number}: expected a good number, found a bad one")
    return number * number


def n_threads(_: object) -> tuple[int, set[int]]:
    """Threads of torch and of the BLAS libraries."""
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    np.ones((4, 4)) @ np.ones((4, 4))
    return torch.get_num_threads(), {pool["num_threads"] for pool in threadpool_info()}


def began(folder: Path) -> list[tuple[int, int]]:
    """Process and number of each item that was begun."""
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(pid), int(number)) for pid, number in map(str.split, lines)]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, if only in part: its parent may not have taken note (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def children(pid: int) -> list[int]:
    """Child processes (Linux)."""
    return [int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()]


# --- data


def golden(name: str) -> Any:
    """The content of a YAML or JSON file in tests/golden."""
    return yaml.safe_load((ROOT / "tests" / "golden" / name).read_text(encoding="utf-8"))


REFUSALS = golden("refusals.yaml")


def load_whisper(name: str) -> Transcriber:
    """A real Whisper model from models/, or a skip."""
    if not (MODELS / f"{name}.pt").is_file():
        pytest.skip(f"no weights models/{name}.pt; get them with: python tools/offline_whisper.py {name}")
    return load_transcriber(resolve_model(name), model_dir=MODELS, device="cpu")


PROMPTS = ("do not go gentle", "nan and null are words", "la la la", "over the hills we ride", "sing", "out of time ?")


def make_records(n_signals: int = 6, *, labelled: bool = True) -> list[SignalRecord]:
    """Invented signals: each prompt at three hearing losses."""
    records = []
    for i in range(n_signals):
        prompt = PROMPTS[i // 3 % len(PROMPTS)]
        n_words, correctness = len(prompt.split()), (i % 4) / 4 if labelled else float("nan")
        record = SignalRecord(
            signal=f"{i:04d}",
            prompt=prompt,
            hearing_loss=HEARING_LOSSES[i % 3],
            response="something" if labelled else "",
            n_words=n_words,
            words_correct=round(correctness * n_words) if labelled else float("nan"),
            correctness=correctness,
            track=f"track{i // 3}",
        )
        records.append(record)
    return records


def make_tables(
    folder: Path, n_signals: int = 6, columns: Sequence[str] = FEATURE_COLUMNS, *, labelled: bool = True, seed: int = 0
) -> tuple[Path, Path]:
    """A left and a right table with random features, complete with sentence rows."""
    rng = np.random.default_rng(seed)
    paths = (folder / "t_l.csv", folder / "t_r.csv")
    plain = with_sentence_rows(metadata_table(make_records(n_signals, labelled=labelled)))
    for path in paths:
        write_features(path, plain, pd.DataFrame(rng.random((len(plain), len(columns))), columns=list(columns)))
    return paths


def training_data(columns: Sequence[str], tables: tuple[Path, Path], **changes: Any) -> DataOptions:
    """The section data of a config whose training tables are `tables`."""
    return DataOptions(tuple(columns), {"train": tables}, train_tables=(tables,), **changes)


def word_training(data: DataOptions, folder: Path) -> TrainConfig:
    """The training of a word model, whose checkpoint goes to the folder out."""
    return TrainConfig(data, WordModelConfig(c=0.1), TrainOptions(folder / "out"), run=RunOptions(device="cpu"))


def data_overrides(columns: Sequence[str], metadata: object = "null", **tables: Sequence[Path]) -> list[str]:
    """Arguments of train.py and infer.py: the columns, and a pair of tables for each split (csv for the training)."""
    paths = [
        f"data.{split}_path_{s}={path}" for split, pair in tables.items() for s, path in zip("lr", pair, strict=True)
    ]
    return [f"data.feature_cols=[{','.join(columns)}]", f"data.metadata={metadata}", *paths]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file; locks are left out, they stay empty."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def write_features(path: Path, plain: pd.DataFrame, features: pd.DataFrame) -> None:
    """A table with features; a metric is the same on all rows of a signal."""
    metrics = [column for column in features if column in METRIC_COLUMNS]
    features[metrics] = features.groupby(plain["signal"])[metrics].transform("first")
    tables.write_table(order_columns(pd.concat([plain, features], axis=1)), path)


RESPONSE_COLUMNS = ("tiny.en", "base", "dns_sig", "dns_bak", "dns_ovrl")
EASY_WORDS = tuple("baby love tonight dancing summer heart river music golden morning".split())
HARD_WORDS = tuple("thither quell gossamer umbra wrought sepulchre lattice ague turret brine".split())


def records_with_responses(
    n_signals: int = 36, seed: int = 0, prefix: str = ""
) -> tuple[list[SignalRecord], dict[str, list[float]]]:
    """Invented signals whose responses are words of the prompt, and the probability of each word.

    A word is more likely where its signal is clear, and where it is one of `EASY_WORDS`. Words differ within a prompt
    and a response keeps their order, so that there is only one alignment. Three hearing losses of a prompt, two
    prompts of a track.
    """
    rng = np.random.default_rng(seed)
    records, probabilities = [], {}
    for i in range(n_signals):
        if i % 3 == 0:
            words = rng.permutation(EASY_WORDS + HARD_WORDS)[: rng.integers(3, 8)].tolist()
        clear = rng.uniform(-2.5, 2.5)
        logits = clear + np.array([1.5 if word in EASY_WORDS else -1.5 for word in words]) + rng.normal(size=len(words))
        probability = 1 / (1 + np.exp(-logits))
        hit = rng.random(len(words)) < probability
        record = SignalRecord(
            signal=f"{prefix}{i:04d}",
            prompt=" ".join(words),
            hearing_loss=HEARING_LOSSES[i % 3],
            response=" ".join(np.array(words)[hit]),
            n_words=len(words),
            words_correct=int(hit.sum()),
            correctness=float(hit.mean()),
            track=f"{prefix}track{i // 6}",
        )
        records.append(record)
        probabilities[record.signal] = probability.tolist()
    return records, probabilities


def make_response_tables(
    folder: Path, n_signals: int = 36, columns: Sequence[str] = RESPONSE_COLUMNS, *, seed: int = 0, prefix: str = ""
) -> tuple[tuple[Path, Path], Path]:
    """Tables of `records_with_responses` whose scores follow the probabilities, and their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    records, probabilities = records_with_responses(n_signals, seed, prefix)
    rng = np.random.default_rng(seed + 1)
    plain = with_sentence_rows(metadata_table(records))  # the sentence row is the last of its signal
    place = plain.groupby("signal").cumcount()
    scores = {signal: [*found, np.mean(found)] for signal, found in probabilities.items()}
    clean = [scores[signal][i] for signal, i in zip(plain["signal"], place, strict=True)]
    paths = (folder / "t_l.csv", folder / "t_r.csv")
    for path in paths:
        noisy = np.array(clean)[:, None] + 0.1 * rng.normal(size=(len(plain), len(columns)))
        features = pd.DataFrame(noisy.clip(0, 1), columns=list(columns))
        write_features(path, plain, features)
    return paths, write_metadata(folder / "metadata.json", records)


def write_metadata(path: Path, records: Sequence[SignalRecord]) -> Path:
    """Metadata as the challenge writes it."""
    content = [
        asdict(r) | {"original_prompt": r.prompt, "original_response": r.response, "fma": r.track} for r in records
    ]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_prior(path: Path) -> Path:
    """Metadata with responses of other signals, to learn a text prior from."""
    return write_metadata(path, records_with_responses(60, 50, "p")[0])


def write_words(path: Path, records: Sequence[SignalRecord], probability: float | None = None, **changes: str) -> Path:
    """Words beside scores, as infer.py writes them, with random probabilities or the one given, and changed words."""
    rng = np.random.default_rng(1)
    words = [(r.signal, i, changes.get(word, word)) for r in records for i, word in enumerate(r.prompt.split())]
    rows = [[*word, rng.random() if probability is None else probability] for word in words]
    write_rows(path, [("signal", "position", "word", "probability"), *rows])
    return path


def write_stereo(path: Path, seconds: float = 1.0, rate_hz: int = 44_100, channels: int = 2, seed: int = 0) -> Path:
    """Noise of a few tones, different in each channel, as 16-bit FLAC."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * (220 + 110 * k) * t) * (1 + np.sin(2 * np.pi * 3 * t)) / 4 for k in range(channels)]
    samples = np.stack(tones, axis=1) + 0.02 * rng.standard_normal((len(t), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path
