"""The demo data: two sung phrases, each at three severities, in the challenge's layout and without listeners.

``python tools/make_demo_audio.py`` writes ``data/cadenza_data_demo``. It needs the packages of
``requirements-demo-audio.txt``, which the pipeline itself does not need. For each phrase of `demo_song.SONGS`:

1. a synthetic voice and a synthetic band are mixed (`demo_mix.make_mix`): the unprocessed excerpt, and the signal of
   `No Loss`;
2. the Cambridge hearing-loss simulation (MSBG, `scow.song.hearing_loss`) makes of it the signals of `Mild` and
   `Moderate`, each ear by itself. It delays a signal by some 20 ms, which stay, as they do in the challenge's data;
3. the simulated signals are brought back to the level of the mix, one gain for both ears: in the challenge's data
   the severities of an excerpt are equally loud.

For ``predict.py`` there is also a song: both mixes one after the other, with the times of its three lines as LRC.

The metadata has no listener's answer, since nobody has listened: no response, no correctness. With the same seed,
options and package versions the files are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow lies beside tools/ and need not be installed

from demo_mix import MIX_LEVEL_DBFS, make_mix
from demo_song import LEAD_S, SAMPLE_RATE_HZ, SONGS, Song
from demo_voice import VoiceOptions

from scow.cli import EXIT_OK, run_script
from scow.data.audio import at_level
from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError
from scow.io import atomic_write
from scow.song.hearing_loss import DEFAULT_LEVEL_DB_SPL, SIMULATED, check_level, simulate_mix

ROOT = Path(__file__).resolve().parent.parent
CONSONANTS_S = 0.2
ID_ENDINGS = {"No Loss": "none", "Mild": "mild", "Moderate": "moderate"}


@dataclass(frozen=True)
class DemoOptions:
    """How the demo is made.

    Attributes
    ----------
    output_dir : Path
        The split's folder, which gets ``demo/`` and ``metadata/``.
    seed : int
        Of the noise in the mix, 0 or more.
    level_db_spl : float
        Level at which the mix is played to the simulated ears, dB re 20 µPa. What a hearing loss takes away depends
        on it; 65 dB is conversation and quiet listening to music.
    """

    output_dir: Path = ROOT / "data" / "cadenza_data_demo"
    seed: int = 0
    level_db_spl: float = DEFAULT_LEVEL_DB_SPL


def make_demo(options: DemoOptions) -> list[Path]:
    """Make all signals and their metadata.

    Parameters
    ----------
    options : DemoOptions
        Where to, and how.

    Returns
    -------
    list of Path
        The files that were written, metadata last.

    Raises
    ------
    UserError
        Where an option is out of range or a file cannot be written.
    """
    check_level(options.level_db_spl)
    if options.seed < 0:
        raise UserError(f"seed: 0 or more expected, {options.seed} found")
    audio_dir = options.output_dir / "demo"
    written: list[Path] = []
    records: list[dict[str, str | int]] = []
    mixes: list[np.ndarray] = []
    for number, song in enumerate(SONGS):
        mix = make_mix(song, VoiceOptions(), np.random.default_rng([options.seed, number]))
        for severity in HEARING_LOSSES:
            record = metadata_record(song, severity)
            processed = mix
            if severity in SIMULATED:
                processed = at_level(simulate_mix(mix.T, severity, options.level_db_spl), MIX_LEVEL_DBFS).T
            signal = audio_dir / "signals" / f"{record['signal']}.flac"
            unprocessed = audio_dir / "unprocessed" / f"{record['signal']}_unproc.flac"
            write_flac(signal, processed)
            write_flac(unprocessed, mix)
            written += [signal, unprocessed]
            records.append(record)
        mixes.append(mix)
    song_file = options.output_dir / "song" / "demo_song.flac"
    write_flac(song_file, np.concatenate(mixes))
    with atomic_write(song_file.with_suffix(".lrc")) as temporary:
        temporary.write_text(song_lines(SONGS), encoding="utf-8")
    written += [song_file, song_file.with_suffix(".lrc")]
    metadata = options.output_dir / "metadata" / "demo_metadata.json"
    with atomic_write(metadata) as temporary:
        temporary.write_text(json.dumps(records, indent=4) + "\n", encoding="utf-8")
    return [*written, metadata]


def metadata_record(song: Song, severity: str) -> dict[str, str | int]:
    """Describe one signal as an unlabelled release of the challenge does."""
    return {
        "signal": f"{song.name}_{ID_ENDINGS[severity]}",
        "fma": song.track,
        "original_prompt": song.lyrics,
        "prompt": song.prompt,
        "n_words": len(song.prompt.split()),
        "hearing_loss": severity,
    }


def song_lines(songs: Sequence[Song]) -> str:
    """Lyrics of songs that follow one another, as LRC; a line begins with the consonants before its first beat."""
    rows, start_s = ["[ti:Demo song]"], 0.0
    for song in songs:
        for pulse, words in song.lines:
            at = start_s + LEAD_S + pulse * song.pulse_s - CONSONANTS_S
            rows.append(f"[{int(at // 60):02d}:{at % 60:05.2f}]{words}")
        start_s += song.n_samples / SAMPLE_RATE_HZ
    return "\n".join(rows) + "\n"


def write_flac(path: Path, stereo: np.ndarray) -> None:
    """Write a stereo signal of shape (samples, 2) as a 16-bit FLAC file.

    Raises
    ------
    UserError
        Where the signal would be clipped, or the file cannot be written.
    """
    peak = float(np.max(np.abs(stereo)))
    if peak >= 1.0:
        raise UserError(f"{path.name}: a peak below 1 expected, {peak:.2f} found: lower MIX_LEVEL_DBFS in demo_mix.py")
    with atomic_write(path) as temporary:
        try:
            soundfile.write(temporary, stereo, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC", compression_level=1.0)
        except soundfile.LibsndfileError as error:
            raise UserError(f"cannot write {path}: {error}; check the folder's rights and free space") from error


def parse_options(arguments: Sequence[str] | None = None) -> DemoOptions:
    """Read the command line."""
    default = DemoOptions()
    parser = argparse.ArgumentParser(description="Make the demo data: two sung phrases at three severities.")
    parser.add_argument("--output-dir", type=Path, default=default.output_dir, help="default: data/cadenza_data_demo")
    parser.add_argument("--seed", type=int, default=default.seed, help="of the noise in the mix (default: %(default)s)")
    parser.add_argument(
        "--level-db-spl",
        type=float,
        default=default.level_db_spl,
        help="level at which the mix is played to the simulated ears (default: %(default)s)",
    )
    return DemoOptions(**vars(parser.parse_args(arguments)))


def main() -> int:
    """Make the demo data and say what was written."""
    written = make_demo(parse_options())
    for path in written:
        print(f"wrote {path} ({path.stat().st_size:,} bytes)")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_script(main))
