"""Simulated hearing losses of the lines of a song, by the Cambridge model (MSBG) as published in pyclarity.

1. Level. The model depends on level. The song is presented at `level_db_spl`: the mean power of both channels of the
   whole song, in dB re 20 µPa. Each channel of a line then has its own level, as much above or below as in the song.
2. Simulation. Each channel of each line goes by itself through pyclarity's ``Ear`` (`scow.song.msbg`), with
   AUDIOGRAM_MILD or AUDIOGRAM_MODERATE, the same for both channels, or with own audiograms: from the free field to the
   cochlea, spectral smearing (Baer and Moore 1993), loudness recruitment in a gammatone filterbank (Moore and Glasberg
   1993), and back. The channel is scaled to a root mean square of 1, and `equiv_0db_spl` + `ahr` is the level of that,
   because pyclarity fails on what is below -80 dB. It first sets the parts of its input above -12 dB to the level of
   the whole; in a line without long pauses this changes the level by less than 0.3 dB.
3. Level again. One gain per hearing loss, for all lines and both channels, gives the simulated lines the mean power
   that they have in the song, because in the challenge's data an excerpt is equally loud with each hearing loss.

A simulated line is some 20 ms late and a few milliseconds longer, as in the challenge's data. Equal channels are
simulated once, silent ones stay silent. Results are kept in a folder by joblib.Memory, by samples, level, hearing loss
and version of pyclarity. pyclarity is optional; nothing else in this package needs it.

References: T. Baer and B. C. J. Moore, "Effects of spectral smearing on the intelligibility of sentences in noise",
JASA 94, 1993. B. C. J. Moore and B. R. Glasberg, "Simulation of the effects of loudness recruitment and threshold
elevation on the intelligibility of speech in quiet and in a background of speech", JASA 94, 1993.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import reprlib
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from scow.data.audio import FILE_RATE_HZ, StereoSignal, is_silent, level_dbfs
from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError, expect
from scow.features.engine import open_engine
from scow.io import read_json

SIMULATED = HEARING_LOSSES[1:]
LEVELS_DB_HL = (-10.0, 100.0)  # of own audiograms; the model of loudness ends at 105
DEFAULT_LEVEL_DB_SPL = 65.0  # conversation, quiet listening to music
VERSION = 2  # of what is computed here; part of the cache's key, with that of pyclarity
SECONDS_PER_PROCESS = 60.0  # of one channel: computing less takes no longer than starting a process
INSTALL = "pip install 'pyclarity>=0.9,<0.10' (it needs Python 3.11 or newer)"

logging.getLogger("joblib").setLevel(logging.ERROR)  # a damaged file in the cache is computed again

Progress = Callable[[str, int, int], None]  # label, done, total
Audiogram = tuple[tuple[float, float], ...]  # Hz and dB HL, by frequency
Loss = str | Audiogram  # one of SIMULATED, with pyclarity's audiogram of this name, or an own audiogram
Key = tuple[Loss, str]  # and the hash of a channel
Task = tuple[np.ndarray, float, Loss, str]  # channel, level of full scale in dB SPL, hearing loss, versions


def simulate(
    song: StereoSignal,
    lines: Sequence[StereoSignal],
    hearing_losses: Sequence[str],
    level_db_spl: float = DEFAULT_LEVEL_DB_SPL,
    cache_dir: Path | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    audiograms: tuple[Audiogram, Audiogram] | None = None,
) -> dict[str, list[StereoSignal]]:
    """Lines of a song by hearing loss, of `SIMULATED`; by default a process per core computes, and nothing is kept.

    Own `audiograms` of the left and the right ear take the place of the standard one.
    """
    if not hearing_losses:
        return {}
    if cache_dir is not None:
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache_dir).close()
        except OSError as error:
            raise UserError(f"cannot write to {cache_dir}: {error.strerror}; choose another --cache-dir") from error
    full_scale = level_db_spl - level_dbfs(song.samples)
    version = f"{importlib.metadata.version('pyclarity')} {VERSION}"
    keys = [[joblib.hash(channel) for channel in line.samples] for line in lines]
    channels = {
        key: channel
        for line, both in zip(lines, keys, strict=True)
        for key, channel in zip(both, line.samples, strict=True)
        if not is_silent(channel)
    }
    ears: dict[str, tuple[Loss, Loss]] = {name: audiograms or (name, name) for name in hearing_losses}
    tasks = {
        (loss, key): (channels[key], full_scale, loss, version)
        for both_ears in ears.values()
        for both in keys
        for loss, key in zip(both_ears, both, strict=True)
        if key in channels
    }
    simulated = _run(tasks, cache_dir, jobs, progress)

    level = level_dbfs(np.concatenate([line.samples for line in lines], axis=1))
    results = {}
    for name in hearing_losses:
        stereo = [_stereo([simulated.get(of_ear) for of_ear in zip(ears[name], both, strict=True)]) for both in keys]
        back = 10 ** ((level - level_dbfs(np.concatenate(stereo, axis=1))) / 20)
        levelled = [(back * samples).astype(np.float32) for samples in stereo]
        results[name] = [StereoSignal(samples, FILE_RATE_HZ) for samples in levelled]
    return results


def simulate_channel(task: Task) -> np.ndarray:
    """One channel with a hearing loss: (n,) -> (n + at most 255,) float32."""
    from threadpoolctl import threadpool_limits

    channel, full_scale_db_spl, hearing_loss, _ = task
    level = level_dbfs(channel)
    scale = 10 ** (level / 20)
    ear = _ear(hearing_loss)
    ear.equiv_0db_spl = full_scale_db_spl + level - ear.ahr
    with threadpool_limits(1):  # several threads use several times the CPU and save no time
        processed = ear.process(channel.astype(np.float64) / scale)
    return (scale * processed).astype(np.float32)


@cache
def _ear(hearing_loss: Loss) -> Any:
    from clarity.utils import audiogram

    from scow.song.msbg import FastEar

    ear = FastEar(src_pos="ff", sample_rate=FILE_RATE_HZ)
    if isinstance(hearing_loss, str):
        ear.set_audiogram({"Mild": audiogram.AUDIOGRAM_MILD, "Moderate": audiogram.AUDIOGRAM_MODERATE}[hearing_loss])
    else:
        frequencies, levels = zip(*hearing_loss, strict=True)
        ear.set_audiogram(audiogram.Audiogram(levels=np.array(levels), frequencies=np.array(frequencies)))
    return ear


def read_audiograms(path: Path) -> tuple[Audiogram, Audiogram]:
    """Audiograms of the left and the right ear from JSON: ``{"left": {"250": 20, "500": 25, ...}, "right": {...}}``."""
    content = read_json(path, "audiograms")
    expected = f"left and right, each at least 2 of {LEVELS_DB_HL[0]:g} to {LEVELS_DB_HL[1]:g} dB HL by frequency in Hz"
    found = []
    for side in ("left", "right"):
        points = content.get(side) if isinstance(content, dict) else None
        pairs = list(points.items()) if isinstance(points, dict) else []
        good = len(pairs) > 1 and all(
            re.fullmatch(r"\d{2,5}", hz) and type(db) in (int, float) and LEVELS_DB_HL[0] <= db <= LEVELS_DB_HL[1]
            for hz, db in pairs
        )
        expect(good, path, expected, reprlib.repr(content))
        found.append(tuple(sorted((float(hz), float(db)) for hz, db in pairs)))
    return found[0], found[1]


def _run(
    tasks: dict[Key, Task], cache_dir: Path | None, jobs: int | None, progress: Progress | None
) -> dict[Key, np.ndarray]:
    """Results of `simulate_channel`, from the cache or computed in parallel."""
    cached = joblib.Memory(cache_dir, verbose=0).cache(simulate_channel)
    missing = [key for key, task in tasks.items() if not cached.check_call_in_cache(task)]
    results = {key: cached(tasks[key]) for key in tasks.keys() - missing}
    missing_s = sum(len(tasks[key][0]) for key in missing) / FILE_RATE_HZ
    jobs = jobs or max(1, min(os.cpu_count() or 1, int(missing_s / SECONDS_PER_PROCESS)))
    with open_engine(jobs) as engine:
        for done, (i, result) in enumerate(engine.map(cached, [tasks[key] for key in missing]), start=1):
            if result is None:
                raise UserError("hearing loss: the process that simulated it died; is there enough memory?")
            results[missing[i]] = result
            if progress:
                progress("hearing loss", done, len(missing))
    return results


def _stereo(channels: Sequence[np.ndarray | None]) -> np.ndarray:
    """Both channels, zeros for a silent one; at least one is not silent."""
    length = max(len(channel) for channel in channels if channel is not None)
    return np.stack([np.zeros(length, np.float32) if channel is None else channel for channel in channels])
