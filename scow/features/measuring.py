"""The job of stage 3: STOI, eSTOI, PESQ and DNSMOS of both ears of a signal.

A file is decoded once for both ears and all metrics, and resampled once for STOI, eSTOI and PESQ (DNSMOS has a
resampler of its own); ears that are identical, sample for sample, are measured once. All of it runs on one thread, so
that as many processes as there are cores share them evenly, and every sum is the same wherever it is computed.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scow.data.audio import StereoSignal, read_stereo, resample_poly
from scow.data.feature_config import Dataset
from scow.data.metadata import signal_file, unprocessed_file
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS
from scow.errors import SignalError
from scow.features.dnsmos import Dnsmos
from scow.features.intrusive import Measured, quality
from scow.features.partial import Done, Failure, Outcome
from scow.features.tasks import SignalTask, lost, made_by

LIBRARIES = ("pystoi", "pesq", "onnxruntime", "scipy", "numpy", "soundfile")


@dataclass(frozen=True)
class Measuring:
    """Measure signals.

    Attributes
    ----------
    dnsmos_model : Path or None
        ``sig_bak_ovr.onnx``; None: that of the installed speechmos.
    """

    dnsmos_model: Path | None

    def prepare(self, batch: Sequence[SignalTask]) -> None:
        """Nothing: reading a file takes a hundredth of the time of measuring it, and would need a second thread."""

    def compute(self, batch: Sequence[SignalTask], prepared: None) -> Done:  # noqa: ARG002
        """The missing metrics of a batch of signals."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            outcomes = tuple(self._measure(task) for task in batch)
        return Done(outcomes, made_by("cpu", "float32", LIBRARIES))

    def lost(self, batch: Sequence[SignalTask], reason: str) -> Done:
        """Outcomes that say why there is none."""
        return lost(batch, reason)

    def _measure(self, task: SignalTask) -> Outcome:
        signal = _Signal(task.signal)
        values: dict[str, dict[str, float]] = {}
        failures: tuple[Failure, ...] = ()
        for ear, dataset in task.ears.items():
            for columns, measure in ((INTRUSIVE_COLUMNS, self._quality), (DNSMOS_COLUMNS, self._dnsmos)):
                wanted = tuple(column for column in columns if column in task.columns[ear])
                if not wanted:
                    continue
                try:
                    measured = measure(signal, ear, dataset, wanted)
                except SignalError as error:
                    failures += task.failures(ear, columns, error)
                    continue
                values.setdefault(ear, {}).update(measured.values)
                for column, why in measured.reasons.items():
                    failures += task.failures(ear, (column,), why)
        return Outcome(task.signal, values, failures)

    def _quality(self, signal: _Signal, ear: str, dataset: Dataset, columns: tuple[str, ...]) -> Measured:
        assert dataset.reference_dir is not None  # features.fill_metrics has seen to it
        degraded_path = signal_file(dataset.degraded_dir or dataset.signal_dir, signal.name)
        degraded, key = signal.ear_at_16_khz(degraded_path, ear)
        reference_path = unprocessed_file(dataset.reference_dir, signal.name)
        reference = signal.reference_at_16_khz(reference_path)
        return signal.once((key, reference_path, columns), lambda: quality(reference, degraded, columns))

    def _dnsmos(self, signal: _Signal, ear: str, dataset: Dataset, columns: tuple[str, ...]) -> Measured:
        samples = signal.file(signal_file(dataset.audio_dir or dataset.signal_dir, signal.name)).channel(ear)
        judged = signal.once((_key(samples), columns), lambda: Measured(loaded_dnsmos(self.dnsmos_model)(samples)))
        return Measured({column: judged.values[column] for column in columns})


@dataclass(frozen=True)
class _Signal:
    """Files of one signal, each decoded and resampled once, and what has been measured of it."""

    name: str
    _files: dict[Path, StereoSignal | SignalError] = field(default_factory=dict)
    _resampled: dict[object, np.ndarray] = field(default_factory=dict)
    _measured: dict[object, Measured] = field(default_factory=dict)

    def file(self, path: Path) -> StereoSignal:
        if path not in self._files:
            try:
                self._files[path] = read_stereo(path)
            except SignalError as error:
                self._files[path] = error
        found = self._files[path]
        if isinstance(found, SignalError):
            raise found
        return found

    def ear_at_16_khz(self, path: Path, ear: str) -> tuple[np.ndarray, bytes]:
        """An ear, and a key that is the same for the same samples."""
        samples = self.file(path).channel(ear)
        key = _key(samples)
        if key not in self._resampled:
            self._resampled[key] = resample_poly(samples)
        return self._resampled[key], key

    def reference_at_16_khz(self, path: Path) -> np.ndarray:
        if path not in self._resampled:
            self._resampled[path] = resample_poly(self.file(path).mono)
        return self._resampled[path]

    def once(self, key: object, measure: Callable[[], Measured]) -> Measured:
        if key not in self._measured:
            self._measured[key] = measure()
        return self._measured[key]


@functools.lru_cache(maxsize=1)
def loaded_dnsmos(path: Path | None) -> Dnsmos:
    """The DNSMOS network, loaded at its first use in a process."""
    return Dnsmos(path)


def _key(samples: np.ndarray) -> bytes:
    return hashlib.sha256(samples.tobytes()).digest()
