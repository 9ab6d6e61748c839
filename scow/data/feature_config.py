"""``feature_config.yaml``: the datasets of stages 2 and 3, one per split and channel, and the options of these stages.

Paths are relative to the folder of the file; a backslash in them is taken for a slash, as Windows writes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scow.config import as_section, options_from, unknown_keys
from scow.data.audio import CHANNELS
from scow.data.metadata import metadata_beside
from scow.errors import UserError, expect, nearest
from scow.io import read_yaml

Options = TypeVar("Options", "Dataset", "WhisperOptions", "MetricOptions")


@dataclass(frozen=True)
class Dataset:
    """One channel of one split."""

    name: str  # for instance valid_left
    split: str  # train, valid, eval or another
    channel: str  # left or right
    csv_path: Path  # the feature table
    signal_dir: Path  # folder of <signal>.flac, which the listeners heard
    reference_dir: Path | None = None  # folder of <signal>_unproc.flac
    degraded_dir: Path | None = None  # signals for the intrusive metrics, if not in signal_dir
    audio_dir: Path | None = None  # signals for DNSMOS, if not in signal_dir
    is_train: bool = False  # as published; not used, the split says it


@dataclass(frozen=True)
class WhisperOptions:
    """Section ``whisper:`` of ``feature_config.yaml``."""

    splits: tuple[str, ...] = ("train", "valid", "eval")  # where the command line names none
    model_dir: Path | None = None  # folder of weights, relative to the config; downloads go there
    device: str = "auto"  # auto, cpu or cuda
    engine: str = "auto"  # of the encoder: auto, torch or openvino
    batch_size: int | None = None  # signals per chunk; None: 8
    jobs: int = 1  # processes


@dataclass(frozen=True)
class MetricOptions:
    """Section ``metrics:`` of ``feature_config.yaml``."""

    quality: bool = True  # STOI, eSTOI and PESQ
    dns: bool = True  # DNSMOS
    dnsmos_model: Path | None = None  # sig_bak_ovr.onnx, relative to the config; None: that of speechmos
    default_datasets: tuple[str, ...] = ()  # where the command line names none; empty: all
    jobs: int = 1  # processes


@dataclass(frozen=True)
class FeatureConfig:
    """``feature_config.yaml``, read."""

    path: Path
    datasets: tuple[Dataset, ...]
    whisper: dict[str, Any]  # sections, checked when their stage runs
    metrics: dict[str, Any]
    unknown: tuple[str, ...] = ()  # keys that nothing reads: most likely typing errors

    def resolve(self, path: Path) -> Path:
        """A path of this file, relative to its folder."""
        return self.path.parent / path

    def whisper_options(self) -> WhisperOptions:
        """The section `whisper:`; its `models` are read by `scow.features.runner.configured_models`."""
        return self._options(WhisperOptions, "whisper")

    def metric_options(self) -> MetricOptions:
        """The section `metrics:`."""
        return self._options(MetricOptions, "metrics")

    def _options(self, cls: type[Options], section: str) -> Options:
        return _resolved(options_from(cls, getattr(self, section), f"{self.path}: {section}"), self.path.parent)


def read_feature_config(path: Path) -> FeatureConfig:
    """Read and check ``feature_config.yaml``."""
    content = read_yaml(path)
    entries: Any = content.get("datasets")
    found = f"{entries!r}; see the shipped feature_config.yaml"
    expect(isinstance(entries, list) and entries, path, "a list `datasets:`", found)
    sections = {section: as_section(content.get(section), f"{path}: {section}") for section in ("whisper", "metrics")}
    datasets: list[Dataset] = []
    unknown: list[str] = []
    for i, raw in enumerate(entries):
        dataset = _resolved(options_from(Dataset, raw, f"{path}: datasets[{i}]"), path.parent)
        expect(dataset.channel in CHANNELS, f"{path}: datasets[{i}].channel", "left or right", repr(dataset.channel))
        expect(dataset.name not in (d.name for d in datasets), path, "each dataset once", f"{dataset.name} twice")
        datasets.append(dataset)
        unknown += [f"{dataset.name}.{key}" for key in unknown_keys(Dataset, raw)]
    unknown += [f"whisper.{key}" for key in unknown_keys(WhisperOptions, sections["whisper"]) if key != "models"]
    unknown += [f"metrics.{key}" for key in unknown_keys(MetricOptions, sections["metrics"])]
    return FeatureConfig(path=path, datasets=tuple(datasets), unknown=tuple(unknown), **sections)


def _resolved(options: Options, folder: Path) -> Options:
    """Options whose paths are relative to `folder`."""
    paths: dict[str, Any] = {name: folder / value for name, value in vars(options).items() if isinstance(value, Path)}
    return dataclasses.replace(options, **paths)


def present_datasets(
    config: FeatureConfig,
    *,
    names: Sequence[str] = (),
    splits: Sequence[str] = (),
    channel: str | None = None,
    default_names: Sequence[str] = (),
    default_splits: Sequence[str] = (),
) -> tuple[Dataset, ...]:
    """Datasets asked for, whose tables must exist; where none is asked for, those of the defaults with a table."""
    asked = bool(names or splits)
    if not asked:
        names, splits = default_names, default_splits
    known_names = [dataset.name for dataset in config.datasets]
    known_splits = list(dict.fromkeys(dataset.split for dataset in config.datasets))
    # The published README writes signal_eval_left for eval_left.
    names = [name if name in known_names else name.removeprefix("signal_") for name in names]
    for what, given, known in (("dataset", names, known_names), ("split", splits, known_splits)):
        for name in given:
            if name not in known:
                raise UserError(f"no {what} {name!r} in {config.path}; {nearest(name, known)}")
    chosen = [
        dataset
        for dataset in config.datasets
        if (not names or dataset.name in names)
        and (not splits or dataset.split in splits)
        and channel in (None, dataset.channel)
    ]
    expect(chosen, config.path, "a dataset that fits all of --datasets, --splits and --channel", "none")
    present = tuple(dataset for dataset in chosen if dataset.csv_path.is_file())
    absent = [dataset for dataset in chosen if dataset not in present]
    if absent and (asked or not present):
        command = f"python metadata_to_csv.py --json {metadata_beside(absent[0].csv_path)}"
        raise UserError(
            f"{absent[0].csv_path}: expected the table of {absent[0].name}, found none; make it with: {command}"
        )
    return present
