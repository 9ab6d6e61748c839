"""``feature_config.yaml``: the datasets of stages 2 and 3, one per split and channel, and the options of these stages.

A dataset is an entry of ``datasets:``, or stands in a release of the challenge's data, an entry of ``releases:``, which
is a name, a folder `root` and a layout of `LAYOUTS`. A release has the splits train, valid, eval, and those whose
metadata or tables are in it. Its datasets are called ``<release>_<split>_<channel>``, those of the layout clip1
``<split>_<channel>``. Splits of a release whose tables are missing are passed over where another release has them.

Each dataset may have a second one, for prediction without lyrics, whose table holds pseudo-prompts instead of prompts
(`without_prompt`): stage 2 makes it where ``whisper.pseudo_prompt`` names a model. Its split is ``<split>_noprompt``.

Paths are relative to the folder of the file; a backslash in them is taken for a slash, as Windows writes it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scow.config import as_section, options_from, unknown_keys
from scow.data.audio import CHANNELS
from scow.data.metadata import metadata_beside
from scow.errors import UserError, expect, nearest
from scow.io import read_yaml

Options = TypeVar("Options", "Dataset", "Release", "WhisperOptions", "MetricOptions")
LAYOUTS = {  # of a release: folder of the metadata and tables, folder of the audio, names of the datasets
    "clip1": ("cadenza_data_{split}/metadata", "cadenza_data_{split}/{split}", "{split}_{channel}"),
    "clip2": ("metadata", "{split}", "{name}_{split}_{channel}"),
}


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
    release: str | None = None  # that it stands in


@dataclass(frozen=True)
class Release:
    """A release of the challenge's data."""

    name: str  # for instance clip2
    root: Path  # folder of the release
    layout: str = "clip2"  # one of LAYOUTS


@dataclass(frozen=True)
class WhisperOptions:
    """Section ``whisper:`` of ``feature_config.yaml``."""

    splits: tuple[str, ...] = ("train", "valid", "eval")  # where the command line names none
    model_dir: Path | None = None  # folder of weights, relative to the config; downloads go there
    device: str = "auto"  # auto, cpu or cuda
    engine: str = "auto"  # of the encoder: auto, torch or openvino
    batch_size: int | None = None  # signals per chunk; None: 8
    jobs: int = 1  # processes
    embeddings: bool = False  # also write means of the encoder
    pseudo_prompt: str | None = None  # model whose transcripts take the place of the prompts


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
    entries: dict[str, Any] = {key: content[key] for key in ("datasets", "releases") if content.get(key)}
    listed = entries and all(isinstance(of, list) for of in entries.values())
    found = f"{entries or 'none'}; see the shipped feature_config.yaml"
    expect(listed, path, "a list `datasets:` or `releases:`", found)
    sections = {section: as_section(content.get(section), f"{path}: {section}") for section in ("whisper", "metrics")}
    datasets: list[Dataset] = []
    unknown: list[str] = []
    for i, raw in enumerate(entries.get("datasets", ())):
        dataset = _resolved(options_from(Dataset, raw, f"{path}: datasets[{i}]"), path.parent)
        expect(dataset.channel in CHANNELS, f"{path}: datasets[{i}].channel", "left or right", repr(dataset.channel))
        datasets.append(dataset)
        unknown += [f"{dataset.name}.{key}" for key in unknown_keys(Dataset, raw)]
    for i, raw in enumerate(entries.get("releases", ())):
        release = _resolved(options_from(Release, raw, f"{path}: releases[{i}]"), path.parent)
        expect(release.layout in LAYOUTS, f"{path}: releases[{i}].layout", " or ".join(LAYOUTS), repr(release.layout))
        datasets += _datasets_of(release)
        unknown += [f"{release.name}.{key}" for key in unknown_keys(Release, raw)]
    names = [dataset.name for dataset in datasets]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    expect(not twice, path, "each dataset once", f"{', '.join(twice)} twice")
    unknown += [f"whisper.{key}" for key in unknown_keys(WhisperOptions, sections["whisper"]) if key != "models"]
    unknown += [f"metrics.{key}" for key in unknown_keys(MetricOptions, sections["metrics"])]
    return FeatureConfig(path=path, datasets=tuple(datasets), unknown=tuple(unknown), **sections)


def _datasets_of(release: Release) -> list[Dataset]:
    """Both channels of the splits of a release."""
    tables, audio, dataset_name = LAYOUTS[release.layout]
    there = [
        found.name.removesuffix(ending)
        for ending in ("_metadata.json", "_metadata_l.csv")
        for found in sorted(release.root.glob(f"{tables.format(split='*')}/*{ending}"))
    ]
    return [
        Dataset(
            name=dataset_name.format(name=release.name, split=split, channel=channel),
            split=split,
            channel=channel,
            csv_path=release.root / tables.format(split=split) / f"{split}_metadata_{channel[0]}.csv",
            signal_dir=release.root / audio.format(split=split) / "signals",
            reference_dir=release.root / audio.format(split=split) / "unprocessed",
            release=release.name,
        )
        for split in dict.fromkeys(("train", "valid", "eval", *there))
        for channel in CHANNELS
    ]


def without_prompt(dataset: Dataset) -> Dataset:
    """The dataset with pseudo-prompts: ``valid_metadata_noprompt_l.csv`` beside ``valid_metadata_l.csv``."""
    name = re.sub(r"(_[lr])?$", r"_noprompt\1", dataset.csv_path.stem, count=1)
    path = dataset.csv_path.with_name(f"{name}.csv")
    return dataclasses.replace(
        dataset, csv_path=path, name=f"{dataset.name}_noprompt", split=f"{dataset.split}_noprompt"
    )


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
    """Datasets asked for, whose tables must exist; where none is asked for, those of the defaults with a table.

    Of a split that is asked for, one of several releases is enough.
    """
    asked = bool(names or splits)
    if not asked:
        names, splits = default_names, default_splits
    datasets = [*config.datasets, *map(without_prompt, config.datasets)]
    known_names = [dataset.name for dataset in datasets]
    known_splits = list(dict.fromkeys(dataset.split for dataset in datasets))
    # The published README writes signal_eval_left for eval_left.
    names = [name if name in known_names else name.removeprefix("signal_") for name in names]
    for what, given, known in (("dataset", names, known_names), ("split", splits, known_splits)):
        for name in given:
            if name not in known:
                raise UserError(f"no {what} {name!r} in {config.path}; {nearest(name, known)}")
    chosen = [
        dataset
        for dataset in datasets
        if (not names or dataset.name in names)
        and (not splits or dataset.split in splits)
        and channel in (None, dataset.channel)
    ]
    expect(chosen, config.path, "a dataset that fits all of --datasets, --splits and --channel", "none")
    present = tuple(dataset for dataset in chosen if dataset.csv_path.is_file())
    absent = [dataset for dataset in chosen if dataset not in present]
    if present:  # a split that is asked for may be in one release alone
        with_table = {dataset.split for dataset in present}
        absent = [d for d in absent if asked and (names or not d.release or d.split not in with_table)]
    if absent:
        command = f"python metadata_to_csv.py --json {metadata_beside(absent[0].csv_path)}"
        if absent[0].split.endswith("_noprompt"):
            command = "python whisper_inference.py --pseudo-prompt MODEL"
        raise UserError(
            f"{absent[0].csv_path}: expected the table of {absent[0].name}, found none; make it with: {command}"
        )
    return present
