"""Time the feature stages on this machine: stage 2 against its parts and a plain way, stage 3 by number of processes.

python tools/bench_features.py whisper --models tiny.en base
python tools/bench_features.py metrics --copies 4

The ways take turns (A B C, A B C, ...) and medians are printed, because a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow is beside tools/ and need not be installed

from scow.cli import EXIT_OK, run_script
from scow.data.audio import CHANNELS
from scow.data.feature_config import Dataset
from scow.data.tables import METRIC_COLUMNS
from scow.errors import UserError
from scow.features.engine import Engine, open_engine
from scow.features.extract import Task, loaded_transcriber, metric_results, read_audio, whisper_results
from scow.features.runner import SIGNALS_PER_CHUNK
from scow.features.whisper import resolve_model

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "data" / "cadenza_data_demo" / "demo"


def main() -> int:
    """Parse the options and run one of the benchmarks."""
    parser = argparse.ArgumentParser(description="Benchmarks of the feature stages.")
    parser.add_argument("which", choices=("whisper", "metrics"))
    parser.add_argument("--models", nargs="+", default=["tiny.en"], metavar="NAME")
    parser.add_argument("--model-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--signals", type=Path, default=DEMO, metavar="FOLDER", help="with signals/ and unprocessed/")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way")
    parser.add_argument("--copies", type=int, default=4, help="how often the signals are measured (metrics)")
    options = parser.parse_args()
    names = sorted(path.stem for path in (options.signals / "signals").glob("*.flac"))
    if not names:
        raise UserError(f"{options.signals}: expected signals/*.flac, found none")
    for name in options.models if options.which == "whisper" else ():
        bench_whisper(tasks_of(options.signals, names, (name,)), name, options.model_dir, options.repeats)
    if options.which == "metrics":
        bench_metrics(tasks_of(options.signals, names * options.copies, METRIC_COLUMNS), options.repeats)
    return EXIT_OK


def tasks_of(folder: Path, names: list[str], columns: tuple[str, ...]) -> list[Task]:
    """Both channels of signals, with a prompt that does not matter."""
    folders = Dataset("bench", "bench", "left", Path("left.csv"), folder / "signals", folder / "unprocessed")
    words: dict[str, tuple[str, ...]] = dict.fromkeys(CHANNELS, ("twinkle", "twinkle", "little", "star"))
    return [Task(name, dict.fromkeys(CHANNELS, columns), words, folders) for name in names]


def bench_whisper(tasks: list[Task], name: str, model_dir: Path, repeats: int) -> None:
    """CPU seconds of stage 2 on one thread, of the same with one signal per chunk, and of the audio alone."""
    import torch

    torch.set_num_threads(1)
    compute = partial(whisper_results, resolve_model(name), model_dir, "cpu")
    loaded_transcriber(resolve_model(name), model_dir, "cpu")

    def stage(size: int) -> None:
        for i in range(0, len(tasks), size):
            compute(read_audio(tasks[i : i + size]))

    ways: dict[str, Callable[[], object]] = {
        "stage 2": partial(stage, SIGNALS_PER_CHUNK),
        "one signal per chunk": partial(stage, 1),
        "audio": partial(read_audio, tasks),
    }
    in_turns(f"{name}, {len(tasks)} signals, CPU", ways, repeats, time.process_time)


def bench_metrics(tasks: list[Task], repeats: int) -> None:
    """Wall seconds of stage 3 with one process and with two."""
    chunks = [[task] for task in tasks]

    def stage(engine: Engine) -> None:
        for _ in engine.map(partial(metric_results, None), chunks, prepare=read_audio):
            pass

    with open_engine(1) as one, open_engine(2) as two:
        stage(two)  # start its workers
        in_turns(
            f"metrics, {len(tasks)} signals, wall",
            {"--jobs 1": partial(stage, one), "--jobs 2": partial(stage, two)},
            repeats,
            time.perf_counter,
        )


def in_turns(title: str, ways: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> None:
    """Print the median of what a clock counts for each way, the ways taking turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = clock()
            way()
            found[name].append(clock() - began)
    print(f"{title}, median of {repeats}")
    for name, seconds in found.items():
        print(f"  {name:20} {statistics.median(seconds):7.2f} s")


if __name__ == "__main__":
    sys.exit(run_script(main))
