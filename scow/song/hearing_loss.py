"""What listeners with a hearing loss hear of a song: both ears, in pieces, in parallel, and kept for the next time.

Each ear is simulated by itself (`scow.song.msbg`), with the same audiogram in both. The simulation depends on level: a mix
is presented at `level_db_spl` (mean power of both ears, dB re 20 µPa), by default 65, conversation and quiet listening
to music. Afterwards it is brought back to the level of the mix, one gain for both ears, because in the challenge's
data the severities of an excerpt are equally loud. It comes out some 20 ms late and a few milliseconds longer, as in
the challenge's data.

It is slow, so results are kept in a folder, under a name that hashes samples, audiogram, level and versions, and read
back from there.

pyclarity is optional (extra ``hearing-loss``); nothing else of this package needs it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import numpy as np

from scow.data.audio import FILE_RATE_HZ, ONE_BIT, StereoSignal, at_level, level_dbfs
from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError
from scow.io import atomic_write
from scow.song.msbg import HOP, active_gain, audiogram_of, ear_with, full_scale_db_spl, simulate_ear, simulate_piece

SIMULATED = HEARING_LOSSES[1:]
DEFAULT_LEVEL_DB_SPL = 65.0
LEVEL_RANGE_DB_SPL = (40.0, 90.0)  # below, nothing is heard with a hearing loss; above, nobody listens
VERSION = 1  # of what this file does around pyclarity; a new one forgets what was kept

PIECE = HOP * 6_900  # 10.01 s
OVERLAP = HOP * 690  # 1.001 s
SECONDS_PER_PROCESS = 20.0  # of one ear, at least: what a process computes in the time that it takes to start
INSTALL = "pip install 'pyclarity>=0.9,<0.10' (it needs Python 3.11 or newer)"

Progress = Callable[[str, int, int], None]


def installed() -> bool:
    """Whether pyclarity is there."""
    return importlib.util.find_spec("clarity") is not None


def require_installed() -> None:
    """Say how to get pyclarity where it is not there.

    Raises
    ------
    UserError
    """
    if not installed():
        raise UserError(f"simulating a hearing loss: expected the package pyclarity, found none; {INSTALL}")


def check_level(level_db_spl: float) -> float:
    """Return a level at which a simulation makes sense.

    Raises
    ------
    UserError
        Another level.
    """
    low, high = LEVEL_RANGE_DB_SPL
    if not low <= level_db_spl <= high:
        raise UserError(f"level: expected {low:g} to {high:g} dB SPL, found {level_db_spl:g}; choose another")
    return level_db_spl


def simulate(
    signal: StereoSignal,
    hearing_losses: Sequence[str],
    level_db_spl: float = DEFAULT_LEVEL_DB_SPL,
    *,
    cache_dir: Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> dict[str, StereoSignal]:
    """Let a song be heard with one or more hearing losses.

    Parameters
    ----------
    signal : StereoSignal
        Of any length, not silent.
    hearing_losses : sequence of str
        Of `SIMULATED`.
    level_db_spl : float
        Level of the mix at the ears.
    cache_dir : Path, optional
        Folder of results; None keeps nothing.
    processes : int, optional
        By default one per core, fewer for short signals; with 1 all is done in this process.
    progress : callable, optional
        Takes a label, how many pieces are done, and of how many.

    Returns
    -------
    dict of str to StereoSignal
        By severity, at the level of `signal`.

    Raises
    ------
    UserError
        pyclarity is not installed, a severity or a level is out of range, or the folder cannot be written.
    """
    check_level(level_db_spl)
    unknown = [name for name in hearing_losses if name not in SIMULATED]
    if unknown:
        raise UserError(f"expected a hearing loss of {', '.join(SIMULATED)} to simulate, found {unknown[0]!r}")
    if not hearing_losses:
        return {}
    require_installed()
    if cache_dir is not None:  # before hours of work, not after
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to {cache_dir}: {error.strerror or error}; choose another --cache-dir"
            ) from error
        if not os.access(cache_dir, os.W_OK):
            raise UserError(f"cannot write to {cache_dir}: no right to; choose another --cache-dir")
    paths = {name: cache_dir / _name(signal, name, level_db_spl) if cache_dir else None for name in hearing_losses}
    results = {name: kept for name, path in paths.items() if path and (kept := _read_kept(path)) is not None}
    missing = [name for name in hearing_losses if name not in results]
    for name, samples in _simulate_pieces(signal.samples, missing, level_db_spl, processes, progress).items():
        results[name] = samples.astype(np.float32)
        path = paths[name]
        if path:
            with atomic_write(path) as temporary, temporary.open("wb") as handle:
                np.save(handle, results[name])
    return {name: StereoSignal(results[name], signal.rate_hz) for name in hearing_losses}


def simulate_mix(mix: np.ndarray, hearing_loss: str, level_db_spl: float) -> np.ndarray:
    """Let a mix in double precision be heard with a hearing loss, in this process.

    Parameters
    ----------
    mix : ndarray, shape (2, n), float64
    hearing_loss : str
        Of `SIMULATED`.
    level_db_spl : float
        Level of the mix at the ears.

    Returns
    -------
    ndarray, shape (2, n + a few), float64
        Not yet brought back to the level of the mix.
    """
    ear = ear_with(hearing_loss)
    presented = at_level(mix, level_db_spl - full_scale_db_spl(ear))
    return np.stack([simulate_ear(ear, channel) for channel in presented])


def _simulate_pieces(
    samples: np.ndarray,
    hearing_losses: Sequence[str],
    level_db_spl: float,
    processes: int | None,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Simulate all ears, severities and pieces in parallel processes, and join them."""
    if not hearing_losses:
        return {}
    ear = ear_with(hearing_losses[0])
    presented = at_level(samples.astype(np.float64), level_db_spl - full_scale_db_spl(ear))
    # Ears that are alike are simulated once, a silent one not at all.
    alike = bool(np.array_equal(samples[0], samples[1]))
    heard = [i for i in range(1 if alike else 2) if float(np.abs(samples[i]).max()) > ONE_BIT]
    gains = {i: active_gain(ear, presented[i]) for i in heard}
    starts = range(0, samples.shape[1], PIECE)
    tasks = [(name, i, start) for name in hearing_losses for i in heard for start in starts]
    n = samples.shape[1] + (HOP * 3 + -samples.shape[1] % HOP)
    joined = {name: np.zeros((2, n)) for name in hearing_losses}
    pieces = [
        (name, presented[i, max(0, start - OVERLAP) : start + PIECE + OVERLAP], gains[i]) for name, i, start in tasks
    ]
    ear_s = len(hearing_losses) * len(heard) * samples.shape[1] / FILE_RATE_HZ
    useful = max(1, int(ear_s / SECONDS_PER_PROCESS))
    workers = min(processes or min(os.cpu_count() or 1, useful), len(tasks))
    for done, (k, heard_piece) in enumerate(_as_they_come(pieces, workers), start=1):
        name, i, start = tasks[k]
        piece = heard_piece[start - max(0, start - OVERLAP) :]
        if start + PIECE < samples.shape[1]:
            piece = piece[:PIECE]
        joined[name][i, start : start + len(piece)] = piece[: n - start]
        if progress:
            progress("hearing loss", done, len(tasks))
    level = level_dbfs(samples)
    for stereo in joined.values():
        if alike:
            stereo[1] = stereo[0]
    return {name: at_level(stereo, level) for name, stereo in joined.items()}


def _as_they_come(pieces: Sequence[tuple[str, np.ndarray, float]], workers: int) -> Iterator[tuple[int, np.ndarray]]:
    """Simulate pieces and give each with its index, the first that is done first; one worker is this process."""
    if workers == 1:
        for k, piece in enumerate(pieces):
            yield k, simulate_piece(*piece)
        return
    # Spawned, not forked: the caller's threads (torch's) would not survive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(simulate_piece, *piece): k for k, piece in enumerate(pieces)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "hearing loss: a process died that was simulating it; free some memory, and in a script of your own "
                'call this below if __name__ == "__main__"'
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _name(signal: StereoSignal, hearing_loss: str, level_db_spl: float) -> str:
    """File name of a kept result: a hash of all that it depends on."""
    audiogram = audiogram_of(hearing_loss)
    total = hashlib.sha256(np.ascontiguousarray(signal.samples, dtype=np.float32).tobytes())
    total.update(np.asarray([audiogram.frequencies, audiogram.levels], dtype=np.float64).tobytes())
    facts = (VERSION, PIECE, float(level_db_spl), importlib.metadata.version("pyclarity"))
    total.update(repr(facts).encode())
    return f"{total.hexdigest()[:32]}.npy"


def _read_kept(path: Path) -> np.ndarray | None:
    """A kept result; None where there is none, or one that does not load."""
    with suppress(OSError, ValueError):
        samples: np.ndarray = np.load(path, allow_pickle=False)
        if samples.ndim == 2 and samples.shape[0] == 2 and samples.dtype == np.float32:
            return samples
    return None
