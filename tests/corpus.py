"""A small corpus for the tests of the feature stages: metadata, tables, config and audio of invented signals."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import yaml
from helpers import MODELS, write_stereo

from scow.data.feature_config import Dataset, present_datasets, read_feature_config
from scow.data.metadata import convert_metadata
from scow.data.tables import HEARING_LOSSES


@dataclass(frozen=True)
class Corpus:
    """A split named ``mini`` with its feature_config.yaml."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "feature_config.yaml"

    @property
    def tables(self) -> tuple[Path, Path]:
        return self.root / "metadata" / "mini_l.csv", self.root / "metadata" / "mini_r.csv"

    @property
    def partial(self) -> list[Path]:
        """Files of partial results."""
        return sorted(self.root.rglob("*.partial.jsonl"))

    @property
    def n_chunks(self) -> int:
        """Finished chunks in all partial results; a heading and what an earlier run left are the first two lines."""
        return sum(max(0, path.read_bytes().count(b"\n") - 2) for path in self.partial)

    def signal(self, name: str) -> Path:
        return self.root / "mini" / "signals" / f"{name}.flac"

    def unprocessed(self, name: str) -> Path:
        return self.root / "mini" / "unprocessed" / f"{name}_unproc.flac"

    def datasets(self, *names: str) -> tuple[Dataset, ...]:
        return present_datasets(read_feature_config(self.config), names=names)

    def copy(self, folder: Path) -> "Corpus":
        shutil.copytree(self.root, folder)
        return Corpus(folder)

    def bytes(self) -> list[bytes]:
        return [path.read_bytes() for path in self.tables]


def make_corpus(
    root: Path, prompts: Mapping[str, str], audio: Mapping[str, Path] | None = None, response: str = "you"
) -> Corpus:
    """Metadata, tables, config and audio, invented or copied from `audio`, for the signals of `prompts`."""
    corpus = Corpus(root)
    records = [
        {"signal": signal, "prompt": prompt, "response": response, "n_words": len(prompt.split()), "words_correct": 1,
         "correctness": i / 10, "hearing_loss": HEARING_LOSSES[i % 3]}
        for i, (signal, prompt) in enumerate(prompts.items())
    ]  # fmt: skip
    metadata = root / "metadata" / "mini.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(json.dumps(records), encoding="utf-8")
    convert_metadata(metadata)
    datasets = [
        {"name": f"mini_{channel}", "split": "mini", "channel": channel, "csv_path": f"metadata/mini_{channel[0]}.csv",
         "signal_dir": "mini/signals", "reference_dir": "mini/unprocessed"}
        for channel in ("left", "right")
    ]  # fmt: skip
    whisper = {"splits": ["mini"], "models": ["tiny.en"], "model_dir": str(MODELS), "device": "cpu", "batch_size": 1}
    content = {"datasets": datasets, "whisper": whisper, "metrics": {}}
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    for signal, path in (audio or {}).items():
        unprocessed = path.parents[1] / "unprocessed" / f"{path.stem}_unproc.flac"
        for source, target in ((path, corpus.signal(signal)), (unprocessed, corpus.unprocessed(signal))):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for seed, signal in enumerate(prompts if audio is None else ()):
        # Two different channels, and an unprocessed file that is a little longer.
        write_stereo(corpus.signal(signal), 0.8, seed=seed)
        write_stereo(corpus.unprocessed(signal), 0.82, seed=seed + 100)
    return corpus


def edit_channels(path: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the samples, shape (n, 2), of a file."""
    samples, rate_hz = soundfile.read(path)
    soundfile.write(path, edit(samples), rate_hz, subtype="PCM_16")
