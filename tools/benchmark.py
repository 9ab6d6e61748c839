"""Time the stages against plain ways of doing the same, side by side on this machine.

    python -m tools.benchmark                      # stages 2 and 3 on the demo's six signals
    python -m tools.benchmark whisper --models tiny.en base --signals FOLDER
    python -m tools.benchmark training --tables LEFT.csv RIGHT.csv

- whisper, CPU time on one thread. "plain" is what the published system does: a batch of one, the encoder run twice (to
  transcribe, and again to score), files decoded and resampled for each channel, the model loaded for each table.
  "stage 2" computes chunks as the stage does, the model loaded once. "encoder" is the encoder alone, once per channel.
- metrics, wall time. "plain" is the published way: files decoded and resampled for each metric and channel, pystoi,
  DNSMOS with its padding, with the libraries' threads. The others are the stage with one and two processes (started
  before, as in a long run).
- training, wall time. "plain" is the loading of an epoch's items as published: both data frames are filtered for each
  item (timed on a sample of items; the network is not included). "epoch" is an epoch of train.py, with validation. The
  tables are repeated until they have as many signals as the challenge's train split.

The ways take turns (A B C, A B C, …), because a machine's speed drifts; medians are printed, of times and of the ratios
to the first way within each turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pystoi
import torch
import whisper
from scipy.signal import resample
from whisper.audio import log_mel_spectrogram, pad_or_trim
from whisper.tokenizer import get_tokenizer

from scow.data.audio import CHANNELS, FILE_RATE_HZ, MODEL_RATE_HZ, read_stereo, resample_poly, resample_sinc
from scow.data.feature_config import Dataset
from scow.data.tables import (
    FEATURE_COLUMNS,
    INTRUSIVE_COLUMNS,
    METRIC_COLUMNS,
    WHISPER_COLUMNS,
    read_table,
    write_table,
)
from scow.features.dnsmos import PIECE_SAMPLES, installed_model
from scow.features.engine import open_engine
from scow.features.extract import Task, loaded_transcriber, metric_results, read_audio, whisper_results
from scow.features.intrusive import intrusive_metrics
from scow.features.runner import SIGNALS_PER_CHUNK
from scow.features.whisper import WhisperModel, load_transcriber, resolve_model

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "data" / "cadenza_data_demo" / "demo"
WORDS: tuple[str, ...] = ("twinkle", "twinkle", "little", "star")  # the prompt makes no difference to the time
Ways = dict[str, Callable[[], object]]


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(description="Benchmarks of the stages against plain ways.")
    parser.add_argument("which", nargs="*", default=["whisper", "metrics"], metavar="whisper | metrics | training")
    parser.add_argument("--models", nargs="+", default=["tiny.en"], metavar="NAME")
    parser.add_argument("--model-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--signals", type=Path, default=DEMO, metavar="FOLDER", help="with signals/ and unprocessed/")
    parser.add_argument("--tables", type=Path, nargs=2, metavar=("LEFT", "RIGHT"), help="for training")
    parser.add_argument("--n-signals", type=int, default=8802, help="for training: signals of an epoch")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    if "whisper" in options.which:
        torch.set_num_threads(1)
        tasks = tasks_of(options.signals, WHISPER_COLUMNS[:1])
        for name in options.models:
            ways = whisper_ways(tasks, resolve_model(name), options.model_dir)
            compare(f"{name}, CPU time, {2 * len(tasks)} channels", ways, time.process_time, options.turns)
    if "metrics" in options.which:
        tasks = tasks_of(options.signals, METRIC_COLUMNS)
        with ExitStack() as stack:
            compare(f"metrics, {2 * len(tasks)} channels", metric_ways(tasks, stack), time.perf_counter, options.turns)
    if "training" in options.which:
        bench_training(options.tables, options.n_signals)


def compare(title: str, ways: Ways, clock: Callable[[], float], turns: int) -> None:
    """Time the ways in turns; print medians of times and of ratios to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            began = clock()
            way()
            seconds[name].append(clock() - began)
    first = next(iter(seconds.values()))
    print(f"\n{title}, median of {turns} turns")
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(found, first, strict=True))
        print(f"  {name:10} {statistics.median(found):7.2f} s   {ratio:.2f}", flush=True)


def tasks_of(folder: Path, columns: tuple[str, ...]) -> list[Task]:
    """Both channels of all signals of a folder."""
    files = Dataset("bench", "bench", "left", Path("bench.csv"), folder / "signals", folder / "unprocessed")
    return [
        Task(path.stem, dict.fromkeys(CHANNELS, columns), dict.fromkeys(CHANNELS, WORDS), files)
        for path in sorted((folder / "signals").glob("*.flac"))
    ]


def whisper_ways(tasks: Sequence[Task], model: WhisperModel, model_dir: Path) -> Ways:
    """The ways of stage 2."""
    network = loaded_transcriber(model, model_dir=model_dir, device="cpu").model
    waves = [resample_sinc(read_stereo(path).channel(c)) for path in map(signal_of, tasks) for c in CHANNELS]
    mels = [log_mel_spectrogram(pad_or_trim(wave), network.dims.n_mels)[None] for wave in waves]

    def stage() -> None:
        load_transcriber(model, model_dir=model_dir, device="cpu")  # once per run, as the stage does
        for i in range(0, len(tasks), SIGNALS_PER_CHUNK):
            whisper_results(model, model_dir, "cpu", "auto", False, read_audio(tasks[i : i + SIGNALS_PER_CHUNK]))

    @torch.inference_mode()
    def encoder() -> None:
        for mel in mels:
            network.encoder(mel)

    return {"plain": partial(plain_whisper, tasks, model, model_dir), "stage 2": stage, "encoder": encoder}


@torch.inference_mode()
def plain_whisper(tasks: Sequence[Task], model: WhisperModel, model_dir: Path) -> None:
    """The published way of stage 2."""
    options = whisper.DecodingOptions(language="en", temperature=0.0, without_timestamps=True, fp16=False)
    for channel in CHANNELS:
        network = whisper.load_model(str(model_dir / f"{model.openai_name}.pt"), device="cpu").eval()
        tokenizer = get_tokenizer(network.is_multilingual, num_languages=network.num_languages, language="en")
        for task in tasks:
            wave = resample_sinc(read_stereo(signal_of(task)).channel(channel))
            mel = log_mel_spectrogram(pad_or_trim(wave), network.dims.n_mels)
            result = whisper.decode(network, mel, options)
            assert isinstance(result, whisper.DecodingResult)
            tokens = [*tokenizer.sot_sequence_including_notimestamps, *result.tokens, tokenizer.eot]
            network(mel[None], torch.tensor([tokens])).softmax(-1)


def metric_ways(tasks: Sequence[Task], stack: ExitStack) -> Ways:
    """The ways of stage 3; engines are open as long as the stack."""
    chunks = [[task] for task in tasks]

    def staged(jobs: int) -> Callable[[], object]:
        engine = stack.enter_context(open_engine(jobs))
        way = lambda: list(engine.map(partial(metric_results, None), chunks, read_audio))  # noqa: E731
        way()  # starts the workers
        return way

    return {"plain": partial(plain_metrics, tasks), "--jobs 1": staged(1), "--jobs 2": staged(2)}


def plain_metrics(tasks: Sequence[Task]) -> None:
    """The published way of stage 3: all steps again for each metric, DNSMOS with its padding."""
    session = onnxruntime.InferenceSession(str(installed_model()), providers=["CPUExecutionProvider"])
    for task in tasks:
        path = signal_of(task)
        unprocessed = path.parent.parent / "unprocessed" / f"{task.signal}_unproc.flac"
        for channel in CHANNELS:
            for column in INTRUSIVE_COLUMNS:
                reference = resample_poly(read_stereo(unprocessed).mono)
                degraded = resample_poly(read_stereo(path).channel(channel))
                n = min(len(reference), len(degraded))
                if column == "pesq":
                    intrusive_metrics(reference, degraded, (column,))
                else:
                    pystoi.stoi(reference[:n], degraded[:n], MODEL_RATE_HZ, extended=column == "estoi")
            samples = read_stereo(path).channel(channel)
            samples = resample(samples, int(len(samples) * MODEL_RATE_HZ / FILE_RATE_HZ))
            for at in range(0, len(samples), PIECE_SAMPLES):
                piece = np.zeros((1, PIECE_SAMPLES), dtype=np.float32)
                piece[0, : len(samples) - at] = samples[at : at + PIECE_SAMPLES]
                session.run(None, {"input_1": piece})


def signal_of(task: Task) -> Path:
    """The signal's file."""
    return task.folders.signal_dir / f"{task.signal}.flac"


def bench_training(tables: Sequence[Path], n_signals: int, n_items: int = 100, n_epochs: int = 3) -> None:
    """Time an epoch of train.py, and the filtering of data frames."""
    columns = ["n_words", *FEATURE_COLUMNS]
    with tempfile.TemporaryDirectory() as folder:
        frames, paths = [], []
        for path, side in zip(tables, "lr", strict=True):
            table = read_table(path)
            copies = range(-(-n_signals // table["signal"].nunique()))
            frames.append(
                pd.concat([table.assign(signal=f"{i}-" + table["signal"]) for i in copies], ignore_index=True)
            )
            paths.append(f"data.csv_path_{side}={folder}/{side}.csv")
            write_table(frames[-1], Path(folder, f"{side}.csv"))

        def train(epochs: int) -> float:
            overrides = [f"data.feature_cols=[{','.join(columns)}]", f"train.epochs={epochs}", "train.batch_size=1024"]
            command = [sys.executable, "train.py", "-cp", "checkpoints/published", *paths, *overrides]
            began = time.perf_counter()
            subprocess.run([*command, f"train.save_dir={folder}/out"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - began

        epoch_s = (train(1 + n_epochs) - train(1)) / n_epochs
    signals = frames[0]["signal"].drop_duplicates().to_numpy()
    began = time.perf_counter()
    for signal in np.random.default_rng(0).choice(signals, n_items, replace=False):
        for frame in frames:
            torch.tensor(frame.loc[frame["signal"] == signal, columns].fillna(0.0).to_numpy(dtype=np.float32))
    plain_s = (time.perf_counter() - began) / n_items * len(signals)
    print(f"\ntraining, {len(signals)} signals: plain {plain_s:.1f} s, epoch {epoch_s:.2f} s, {epoch_s / plain_s:.3f}")


if __name__ == "__main__":
    main()
