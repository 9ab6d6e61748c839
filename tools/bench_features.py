"""Time the feature stages against plain ways of doing the same, side by side on this machine.

    python tools/bench_features.py whisper --models tiny.en base
    python tools/bench_features.py metrics
    python tools/bench_features.py tables

**whisper** compares CPU time on one thread, for both ears of each signal:

- plain: what the published system does: a batch of one, the encoder run twice (to generate, and again to score), the
  file decoded and resampled for each ear, the model loaded for each table;
- stage 2: `scow.features.listening` with the batches of the stage, the model loaded once;
- encoder: the encoder alone, once per ear, on spectrograms that are there.

It says where the time of stage 2 goes, and what the encoder would take if all its multiply-adds ran at the speed of one
large matrix product.

**metrics** compares wall time for the same signals: a plain process that decodes and resamples each file for each
metric and ear and leaves the threads to its libraries; the bare library calls on samples that are there; and stage 3
with ``--jobs 1`` and ``--jobs 2`` (workers started, as a long run has them).

**tables** makes tables of 11,000 and 110,000 signals and times how a column is merged into both ears' tables: read,
journal, place, write, with the memory at its peak. Each size has a process of its own.

The ways take turns (A B C, A B C, ...), and medians are printed, of times and of the ratios within each turn, because a
machine's speed drifts.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow lies beside tools/ and need not be installed

import numpy as np
import pandas as pd

from scow.cli import EXIT_OK, run_script
from scow.data.audio import CHANNELS, FILE_RATE_HZ, MODEL_RATE_HZ, read_stereo, resample_poly, resample_sinc
from scow.data.feature_config import Dataset
from scow.data.metadata import SignalRecord, metadata_table
from scow.data.provenance import Source
from scow.data.tables import INTRUSIVE_COLUMNS, METRIC_COLUMNS, read_table, with_sentence_rows, write_table
from scow.errors import UserError
from scow.features.intrusive import quality
from scow.features.listening import Listening, loaded_transcriber
from scow.features.measuring import Measuring, loaded_dnsmos
from scow.features.partial import Done, Outcome
from scow.features.pool import Engine, Pool, open_pool
from scow.features.runner import SIGNALS_PER_BATCH, fill_columns, place_word_scores
from scow.features.tasks import SignalTask
from scow.features.whisper import WhisperModel, load_transcriber, resolve_model

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "data" / "cadenza_data_demo" / "demo"


def main() -> int:
    """Parse the options and run one of the benchmarks."""
    parser = argparse.ArgumentParser(description="Benchmarks of the feature stages.")
    parser.add_argument("which", choices=("whisper", "metrics", "tables", "one-table"))
    parser.add_argument("--models", nargs="+", default=["tiny.en"], metavar="NAME")
    parser.add_argument("--model-dir", type=Path, default=ROOT / "models")
    parser.add_argument(
        "--signals", type=Path, nargs="+", default=[DEMO], metavar="FOLDER", help="with signals/ and unprocessed/"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way")
    parser.add_argument("--copies", type=int, default=4, help="how often the signals are measured (metrics)")
    parser.add_argument("--sizes", type=int, nargs=2, default=[11_000, 110_000], help="signals (tables)")
    options = parser.parse_args()
    tasks = [task for folder in options.signals for task in tasks_of(folder)]
    if options.which == "whisper":
        for name in options.models:
            bench_whisper(tasks, resolve_model(name), options.model_dir, options.repeats)
    elif options.which == "metrics":
        bench_metrics(tasks * options.copies, options.repeats)
    elif options.which == "tables":
        bench_tables(options.sizes, options.repeats)
    else:
        merge_one(options.sizes[0])
    return EXIT_OK


def tasks_of(folder: Path) -> list[SignalTask]:
    """Both ears of all signals of a folder, with a prompt that is of no importance.

    Raises
    ------
    UserError
    """
    signals = sorted(path.stem for path in (folder / "signals").glob("*.flac"))
    if not signals:
        raise UserError(f"{folder}: expected signals/*.flac, found none; choose another --signals")
    ears = {
        ear: Dataset(ear, "bench", ear, Path(f"{ear}.csv"), folder / "signals", folder / "unprocessed")
        for ear in CHANNELS
    }
    words: dict[str, tuple[str, ...]] = dict.fromkeys(CHANNELS, ("twinkle", "twinkle", "little", "star"))
    return [SignalTask(signal, ears, words, dict.fromkeys(CHANNELS, METRIC_COLUMNS)) for signal in signals]


@dataclass(frozen=True)
class Times:
    """Seconds of several ways, by name, one value per turn."""

    turns: dict[str, list[float]]

    def __getitem__(self, name: str) -> float:
        return statistics.median(self.turns[name])

    def ratio(self, one: str, other: str) -> float:
        """Median over the turns of one way's time over another's."""
        return statistics.median(a / b for a, b in zip(self.turns[one], self.turns[other], strict=True))


def in_turns(ways: dict[str, Callable[[], float]], repeats: int) -> Times:
    """What each way answers, the ways taking turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name, way in ways.items():
            found[name].append(way())
            print(f"  turn {turn + 1}, {name}: {found[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return Times(found)


def seconds(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """What a clock counts while some work is done."""
    began = clock()
    work()
    return clock() - began


# --- whisper


def bench_whisper(tasks: Sequence[SignalTask], model: WhisperModel, model_dir: Path, repeats: int) -> None:
    """Print CPU seconds of the ways, their ratios, and where the time goes."""
    import torch
    from whisper.audio import log_mel_spectrogram, pad_or_trim

    torch.set_num_threads(1)
    job = Listening(model, model_dir, "cpu")
    listener = loaded_transcriber(model, model_dir, "cpu")
    weights = listener.model
    ears = list(job.prepare(tasks).samples.values())
    with torch.inference_mode():
        mels = [log_mel_spectrogram(pad_or_trim(ear), weights.dims.n_mels)[None] for ear in ears]

    def stage() -> None:
        loaded_transcriber.cache_clear()
        for i in range(0, len(tasks), SIGNALS_PER_BATCH):
            batch = tasks[i : i + SIGNALS_PER_BATCH]
            job.compute(batch, job.prepare(batch))

    def encoder() -> None:
        with torch.inference_mode():
            for mel in mels:
                weights.encoder(mel)

    ways = {"plain": lambda: plain_whisper(tasks, model, model_dir), "stage 2": stage, "encoder": encoder}
    cpu = in_turns({name: lambda way=way: seconds(time.process_time, way) for name, way in ways.items()}, repeats)  # type: ignore[misc]
    parts = {
        "audio": seconds(time.process_time, lambda: job.prepare(tasks)),
        "mel": seconds(
            time.process_time, lambda: [log_mel_spectrogram(pad_or_trim(e), mels[0].shape[1]) for e in ears]
        ),
        "encoder": cpu["encoder"],
        "loading": seconds(time.process_time, lambda: load_transcriber(model, model_dir=model_dir, device="cpu")),
    }
    audio_s = sum(map(len, ears)) / MODEL_RATE_HZ
    print(f"\n{model.column}: {len(ears)} ears, {audio_s:.0f} s of audio, one thread, CPU time, median of {repeats}")
    for name in ways:
        print(f"  {name:8} {cpu[name]:7.2f} s  {audio_s / cpu[name]:6.2f} s of audio per s")
    print(
        f"  stage 2 / plain: {cpu.ratio('stage 2', 'plain'):.2f}; "
        f"stage 2 / encoder: {cpu.ratio('stage 2', 'encoder'):.2f}"
    )
    rest = cpu["stage 2"] - sum(parts.values())
    shares = {**parts, "decoder and scores": rest}
    print("  of stage 2: " + ", ".join(f"{name} {value / cpu['stage 2']:.0%}" for name, value in shares.items()))
    floor = len(ears) * encoder_multiply_adds(weights.dims) / multiply_adds_per_second()
    print(f"  floor: the encoder's multiply-adds at the speed of one large matrix product: {floor:.2f} s")
    print(f"  encoder / floor: {cpu['encoder'] / floor:.2f}; stage 2 / floor: {cpu['stage 2'] / floor:.2f}")


def plain_whisper(tasks: Sequence[SignalTask], model: WhisperModel, model_dir: Path) -> None:
    """A batch of one, the encoder run twice, the model loaded for each table."""
    import torch
    import whisper
    from whisper.audio import log_mel_spectrogram, pad_or_trim
    from whisper.tokenizer import get_tokenizer

    decoding = whisper.DecodingOptions(
        language="en", temperature=0.0, without_timestamps=True, fp16=False, sample_len=440
    )
    for ear in CHANNELS:
        weights = whisper.load_model(str(model_dir / f"{model.openai_name}.pt"), device="cpu").eval()
        tokenizer = get_tokenizer(weights.is_multilingual, num_languages=weights.num_languages, language="en")
        for task in tasks:
            samples = resample_sinc(read_stereo(task.ears[ear].signal_dir / f"{task.signal}.flac").channel(ear))
            with torch.inference_mode():
                mel = log_mel_spectrogram(pad_or_trim(samples), weights.dims.n_mels)
                result = whisper.decode(weights, mel, decoding)
                assert isinstance(result, whisper.DecodingResult)
                start = tokenizer.sot_sequence_including_notimestamps
                sequence = torch.tensor([[*start, *result.tokens, tokenizer.eot]])
                weights(mel[None], sequence).softmax(-1)


def encoder_multiply_adds(dims: Any) -> float:
    """Of one 30-s window: two convolutions; per layer four projections, a perceptron four times as wide, attention."""
    n, d = dims.n_audio_ctx, dims.n_audio_state
    convolutions = 2 * n * 3 * dims.n_mels * d + n * 3 * d * d
    return float(convolutions + dims.n_audio_layer * (12 * n * d * d + 2 * n * n * d))


def multiply_adds_per_second(size: int = 2048) -> float:
    """What one large float32 matrix product reaches on one thread, the best of five."""
    import torch

    a, b = torch.rand(size, size), torch.rand(size, size)
    torch.mm(a, b)
    return size**3 / min(seconds(time.process_time, lambda: torch.mm(a, b)) for _ in range(5))


# --- metrics


def bench_metrics(tasks: Sequence[SignalTask], repeats: int) -> None:
    """Print wall seconds of the ways and their ratios."""
    from threadpoolctl import threadpool_limits

    job = Measuring(None)
    samples = {}
    for task in tasks:
        folder = task.ears["left"]
        assert folder.reference_dir is not None
        heard = read_stereo(folder.signal_dir / f"{task.signal}.flac")
        reference = resample_poly(read_stereo(folder.reference_dir / f"{task.signal}_unproc.flac").mono, FILE_RATE_HZ)
        samples[task.signal] = (heard, reference)
    network = loaded_dnsmos(None)

    def bare() -> None:
        with threadpool_limits(1):
            for task in tasks:
                heard, reference = samples[task.signal]
                for ear in CHANNELS:
                    quality(reference, resample_poly(heard.channel(ear), FILE_RATE_HZ))
                    network(heard.channel(ear))

    def through(pool: Pool) -> None:
        for _ in pool.run(job, [[task] for task in tasks]):
            pass

    with ExitStack() as stack:
        pools = {jobs: stack.enter_context(open_pool(Engine(jobs))) for jobs in (1, 2)}
        through(pools[2])  # start its workers
        ways: dict[str, Callable[[], object]] = {
            "plain": lambda: plain_metrics(tasks),
            "bare calls": bare,
            "--jobs 1": lambda: through(pools[1]),
            "--jobs 2": lambda: through(pools[2]),
        }
        wall = in_turns({n: lambda way=way: seconds(time.perf_counter, way) for n, way in ways.items()}, repeats)  # type: ignore[misc]
    ears = 2 * len(tasks)
    print(f"\n{len(tasks)} signals, both ears, {os.cpu_count()} cores, wall time, median of {repeats}")
    for name in ways:
        print(f"  {name:10} {wall[name]:7.2f} s  {wall[name] / ears:6.2f} s per ear")
    print(f"  --jobs 2 is {wall.ratio('plain', '--jobs 2'):.2f} times as fast as plain")
    print(f"  --jobs 2 is {wall.ratio('--jobs 1', '--jobs 2'):.2f} times as fast as --jobs 1")
    print(f"  --jobs 1 takes {wall.ratio('--jobs 1', 'bare calls'):.2f} times the bare calls")


def plain_metrics(tasks: Sequence[SignalTask]) -> None:
    """Each file decoded and resampled for each metric and ear; threads as the libraries like."""
    import onnxruntime
    from scipy.signal import resample

    from scow.features.dnsmos import CHUNK_SAMPLES, installed_model

    session = onnxruntime.InferenceSession(str(installed_model()), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for task in tasks:
        for ear in CHANNELS:
            folder = task.ears[ear]
            assert folder.reference_dir is not None
            path, reference_path = (
                folder.signal_dir / f"{task.signal}.flac",
                folder.reference_dir / f"{task.signal}_unproc.flac",
            )
            for column in INTRUSIVE_COLUMNS:
                degraded = resample_poly(read_stereo(path).channel(ear), FILE_RATE_HZ)
                quality(resample_poly(read_stereo(reference_path).mono, FILE_RATE_HZ), degraded, (column,))
            samples = read_stereo(path).channel(ear)
            resampled = resample(samples, int(len(samples) * MODEL_RATE_HZ / FILE_RATE_HZ))
            chunks = np.zeros((-(-len(resampled) // CHUNK_SAMPLES), CHUNK_SAMPLES), dtype=np.float32)
            chunks.reshape(-1)[: len(resampled)] = resampled
            for chunk in chunks:
                session.run(None, {name: chunk[np.newaxis]})


# --- tables


def bench_tables(sizes: Sequence[int], repeats: int) -> None:
    """Print seconds and peak memory of the sizes, each in a process of its own, and the ratio."""
    memory: dict[int, float] = {}

    def merge(size: int) -> float:
        command = [sys.executable, __file__, "one-table", "--sizes", str(size), "0"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        elapsed, peak = map(float, done.stdout.split())
        memory[size] = max(memory.get(size, 0.0), peak)
        return elapsed

    wall = in_turns({f"{size} signals": lambda size=size: merge(size) for size in sizes}, repeats)  # type: ignore[misc]
    small, large = (f"{size} signals" for size in sizes)
    print(f"\na column merged into both ears' tables, median of {repeats}")
    for name, size in zip((small, large), sizes, strict=True):
        print(f"  {name}: {wall[name]:.1f} s, {memory[size] / 1e9:.2f} GB at the peak")
    print(f"  ratio of time: {wall.ratio(large, small):.1f}")


class _Heard:
    """A job that hears nothing, at once."""

    def prepare(self, batch: Sequence[SignalTask]) -> None:
        pass

    def compute(self, batch: Sequence[SignalTask], prepared: None) -> Done:  # noqa: ARG002
        outcomes = []
        for task in batch:
            cells = {
                ear: {"words": [0.25] * len(task.words[ear]), "sentence": 0.5, "transcript": ""} for ear in CHANNELS
            }
            outcomes.append(Outcome(task.signal, {ear: {"tiny": cells[ear]} for ear in CHANNELS}))
        return Done(tuple(outcomes), {"device": "none"})

    def lost(self, batch: Sequence[SignalTask], reason: str) -> Done:  # noqa: ARG002
        return Done(())


def merge_one(n_signals: int) -> None:
    """Make tables, merge a column into them, and print seconds and bytes at the peak."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{i}" for i in range(5_000)])
    with tempfile.TemporaryDirectory() as folder, open_pool(Engine()) as pool:
        group = {ear: Dataset(ear, "bench", ear, Path(folder) / f"{ear[0]}.csv", Path(folder)) for ear in CHANNELS}
        prompts = [" ".join(rng.choice(vocabulary, rng.integers(3, 13))) for _ in range(n_signals)]
        records = [
            SignalRecord(f"{i:024x}", prompt, "Mild", prompt, len(prompt.split()), 1.0, 0.5)
            for i, prompt in enumerate(prompts)
        ]
        table = metadata_table(records)
        for dataset in group.values():
            write_table(table, dataset.csv_path)
        del table, records, prompts
        began = time.perf_counter()
        tables = {ear: with_sentence_rows(read_table(dataset.csv_path)) for ear, dataset in group.items()}
        fill_columns(
            group,
            tables,
            ("tiny",),
            job=_Heard(),
            sources=lambda: {"tiny": Source("published", "tiny", "0" * 64)},
            place=place_word_scores,
            batch_size=SIGNALS_PER_BATCH,
            pool=pool,
            overwrite=False,
        )
        elapsed = time.perf_counter() - began
        assert pd.notna(read_table(group["left"].csv_path)["tiny"]).all()
    print(elapsed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    sys.exit(run_script(main))
