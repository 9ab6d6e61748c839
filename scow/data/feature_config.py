"""``feature_config.yaml``: which tables stages 2 and 3 work on, and where the files of their signals are.

One dataset entry per split and channel. Paths are relative to the folder of the config file, and a backslash in them
is taken for a slash, so that a config from Windows works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scow.config import options_from, unknown_keys
from scow.data.audio import CHANNELS
from scow.data.metadata import metadata_beside
from scow.errors import UserError, nearest
from scow.io import portable_path, read_yaml


@dataclass(frozen=True)
class Dataset:
    """One ear of one split, as ``feature_config.yaml`` describes it.

    Attributes
    ----------
    name : str
        For instance ``valid_left``.
    split : str
        ``train``, ``valid``, ``eval`` or another of the user's.
    channel : str
        ``left`` or ``right``.
    csv_path : Path
        The feature table.
    signal_dir : Path
        Folder of ``<signal>.flac``, what the listener heard; read by the Whisper stage.
    reference_dir : Path or None
        Folder of ``<signal>_unproc.flac``.
    degraded_dir, audio_dir : Path or None
        Where the signals lie for the quality metrics and for DNSMOS, if not in `signal_dir`.
    is_train : bool
        As published; not used, because the split says it.
    """

    name: str
    split: str
    channel: str
    csv_path: Path
    signal_dir: Path
    reference_dir: Path | None = None
    degraded_dir: Path | None = None
    audio_dir: Path | None = None
    is_train: bool = False


@dataclass(frozen=True)
class FeatureConfig:
    """``feature_config.yaml``, read.

    Attributes
    ----------
    path : Path
        The file itself.
    datasets : tuple of Dataset
    whisper, metrics : dict
        These sections as they stand; `scow.features.runner` gives them their meaning.
    unknown : tuple of str
        Keys of dataset entries that nothing reads.
    """

    path: Path
    datasets: tuple[Dataset, ...]
    whisper: dict[str, Any]
    metrics: dict[str, Any]
    unknown: tuple[str, ...] = ()

    def resolve(self, path: Path) -> Path:
        """A path of this file, relative to its folder."""
        return self.path.parent / path


def read_feature_config(path: Path) -> FeatureConfig:
    """Read ``feature_config.yaml``.

    Raises
    ------
    UserError
        The file is missing or malformed, or a dataset entry is.
    """
    content = read_yaml(path)
    entries = content.get("datasets")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: expected a list `datasets:`, found {entries!r}; see the shipped feature_config.yaml")
    datasets: list[Dataset] = []
    unknown: list[str] = []
    for i, raw in enumerate(entries):
        datasets.append(_dataset(raw, f"{path}: datasets[{i}]", path.parent))
        unknown += [f"{datasets[-1].name}.{key}" for key in unknown_keys(Dataset, raw)]
    names = [dataset.name for dataset in datasets]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: dataset {name} is defined twice; expected each name once")
    sections: dict[str, dict[str, Any]] = {}
    for section in ("whisper", "metrics"):
        sections[section] = content.get(section) or {}
        if not isinstance(sections[section], dict):
            raise UserError(
                f"{path}: expected a mapping `{section}:`, found {sections[section]!r}; see the shipped file"
            )
    return FeatureConfig(path=path, datasets=tuple(datasets), unknown=tuple(unknown), **sections)


def select_datasets(
    config: FeatureConfig,
    *,
    names: Sequence[str] = (),
    splits: Sequence[str] = (),
    channel: str | None = None,
) -> tuple[Dataset, ...]:
    """Pick dataset entries by name, split and ear; what is not given restricts nothing.

    Parameters
    ----------
    names : sequence of str
        Dataset names; ``signal_eval_left``, as the published README writes it, means ``eval_left``.
    splits : sequence of str
        Splits.
    channel : str, optional
        ``left`` or ``right``.

    Raises
    ------
    UserError
        A name or split that the config lacks, or nothing is left.
    """
    known_names = [dataset.name for dataset in config.datasets]
    known_splits = list(dict.fromkeys(dataset.split for dataset in config.datasets))
    wanted = [_canonical_name(name, known_names) for name in names]
    for name in wanted:
        if name not in known_names:
            raise UserError(f"no dataset {name!r} in {config.path}; {nearest(name, known_names)}")
    for split in splits:
        if split not in known_splits:
            raise UserError(f"no split {split!r} in {config.path}; {nearest(split, known_splits)}")
    chosen = tuple(
        dataset
        for dataset in config.datasets
        if (not wanted or dataset.name in wanted)
        and (not splits or dataset.split in splits)
        and (channel is None or dataset.channel == channel)
    )
    if not chosen:
        raise UserError(f"no dataset of {config.path} fits all of --datasets, --splits and --channel; drop one of them")
    return chosen


def present_datasets(
    config: FeatureConfig,
    *,
    names: Sequence[str] = (),
    splits: Sequence[str] = (),
    channel: str | None = None,
    default_names: Sequence[str] = (),
    default_splits: Sequence[str] = (),
) -> tuple[Dataset, ...]:
    """Dataset entries to work on: those asked for, else those of the defaults whose tables exist.

    Parameters
    ----------
    names, splits, channel
        What the user asked for, as for `select_datasets`.
    default_names, default_splits : sequence of str
        What the config says, where the user names neither dataset nor split.

    Raises
    ------
    UserError
        As `select_datasets`; or a table that was asked for is not there; or no table is.
    """
    asked = bool(names or splits)
    chosen = select_datasets(
        config,
        names=names if asked else default_names,
        splits=splits if asked else default_splits,
        channel=channel,
    )
    present = tuple(dataset for dataset in chosen if dataset.csv_path.is_file())
    absent = [dataset for dataset in chosen if not dataset.csv_path.is_file()]
    if absent and (asked or not present):
        raise UserError(
            f"dataset {absent[0].name}: expected its table {absent[0].csv_path}, found none; "
            f"make it with: python metadata_to_csv.py --json {metadata_beside(absent[0].csv_path)}"
        )
    return present


def _canonical_name(name: str, known: Sequence[str]) -> str:
    short = name.removeprefix("signal_")
    return short if name not in known and short in known else name


def _dataset(raw: object, where: str, folder: Path) -> Dataset:
    if not isinstance(raw, dict):
        raise UserError(f"{where}: expected an entry with name, split, csv_path, found {raw!r}; see the shipped file")
    dataset = options_from(Dataset, raw, where)
    if dataset.channel not in CHANNELS:
        raise UserError(f"{where}: expected channel left or right, found {dataset.channel!r}; mend the config")
    paths = ("csv_path", "signal_dir", "reference_dir", "degraded_dir", "audio_dir")
    resolved = {name: folder / portable_path(str(raw[name])) for name in paths if raw.get(name) is not None}
    return Dataset(**{**vars(dataset), **resolved})
