"""Predict how many words of a song, or of each song of a folder, a listener catches, and which are lost."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.song.predictor import Predictor
    from scow.song.song import PredictOptions

HERE = Path(__file__).resolve().parent
HEARING_LOSSES = {
    "none": ("No Loss",),
    "mild": ("Mild",),
    "moderate": ("Moderate",),
    "all": ("No Loss", "Mild", "Moderate"),
}
EXAMPLES = """\
  python predict.py line.wav --lyrics "do you know i am truly alone"
  python predict.py song.mp3 --lyrics song.lrc --hearing-loss all --html report.html
  python predict.py old.wav new.wav --lyrics song.lrc --html comparison.html
  python predict.py song.mp3 --lyrics-out song.lrc
  python predict.py song.mp3 --lyrics song.lrc --hearing-loss moderate --labels labels.txt --labels-below 30
  python predict.py songs/ --lyrics lyrics/ --csv scores.csv --html pages/ --jobs 4
"""


def main() -> int:
    """Parse the options, predict, print."""
    layout = argparse.RawDescriptionHelpFormatter
    what = "Predict how many words of a song a listener catches."
    parser = argparse.ArgumentParser(description=what, epilog=f"examples:\n{EXAMPLES}", formatter_class=layout)
    file: dict[str, Any] = {"type": Path, "metavar": "FILE"}
    folder: dict[str, Any] = {"type": Path, "metavar": "DIR"}
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    add = parser.add_argument
    kinds = "FLAC, WAV, MP3, M4A, Opus, video …; mono or stereo, any rate; several mixes; or a folder of songs"
    add("audio", type=Path, nargs="+", metavar="AUDIO", help=kinds)
    words = "the words themselves, or a file: LRC, SRT, WebVTT, or text without times (then they are approximate); "
    words += "for a folder, the folder of lyrics with the songs' names (default: the same); without, they are guessed"
    add("--lyrics", help=words)
    listeners = "of the listeners (default: none); mild and moderate are simulated by pyclarity"
    add("--hearing-loss", default="none", metavar="none|mild|moderate|all", help=listeners)
    own = "JSON of own audiograms to simulate instead of the standard one of --hearing-loss mild or moderate"
    add("--audiogram", **file, help=own)
    add("--already-simulated", action="store_true", help="this --hearing-loss is in the file: do not simulate it")
    level = "level of the song in the simulation (default: 65)"
    add("--level-db-spl", type=float, default=65.0, metavar="DB", help=level)
    add("--cuts", **number, default=5, help="of each line of a song, to average over (default: 5; 1 is fast)")
    add("--checkpoint", help="name or folder (default: the best whose Whisper models are on disk)")
    add("--model-dir", type=Path, help="folder of Whisper weights (default: models)")
    add("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    add("--cache-dir", type=Path, default=HERE / "build" / "hearing_loss", help="folder that keeps simulations")
    add("--json", action="store_true", help="print everything as JSON instead of text")
    add("--html", **file, help="also write a report for a browser; for a folder of songs, a folder")
    add("--lyrics-out", **file, help="also write the lines and their times as LRC")
    add("--labels", **file, help="also write labels of hard lines and words for Audacity")
    add("--labels-below", type=float, default=50.0, metavar="N", help="percent of a line or word (default: 50)")
    add("--csv", **file, help="table of scores of a folder of songs")
    add("--jobs", **number, help="processes for a folder of songs (default: 1)")
    add("--no-audio", action="store_true", help="leave the audio of the lines out of the report")
    add("--figures", **folder, help="also write the report's figures, as PDF and SVG")
    add("--save-audio", **folder, help="also write each line, as it is and with each hearing loss, as WAV")
    return predict(parser.parse_args())


def predict(given: argparse.Namespace) -> int:
    """Predict a song, several mixes, or a folder of songs, and print scores and differences."""
    import json
    from functools import partial

    from scow.cli import Progress, report_failures
    from scow.errors import expect
    from scow.io import check_outputs, figure_outputs
    from scow.song.guess import write_lrc
    from scow.song.hearing_loss import read_audiograms
    from scow.song.labels import write_labels
    from scow.song.predictor import Predictor
    from scow.song.report import write_audio, write_song_figures, write_song_report
    from scow.song.song import FILE_NAME, PredictOptions, predict_song
    from scow.song.terminal import clock, song_text, takes_colours

    several = len(given.audio) > 1
    listen = given.html is not None and not given.no_audio and not several
    options = PredictOptions(
        hearing_losses=HEARING_LOSSES.get(given.hearing_loss.lower(), (given.hearing_loss,)),
        already_simulated=given.already_simulated,
        audiograms=read_audiograms(given.audiogram) if given.audiogram else None,
        level_db_spl=given.level_db_spl,
        cache_dir=given.cache_dir,
        cuts=given.cuts,
        keep_audio=listen or given.save_audio is not None,
        word_times=listen or given.json or given.labels is not None,
    )

    load = partial(Predictor.load, given.checkpoint, model_dir=given.model_dir, device=given.device)
    if not several and given.audio[0].is_dir():
        return predict_songs(given.audio[0], given, options, load)
    expect(given.csv is None and given.jobs is None, "AUDIO", "a folder, for --csv and --jobs", given.audio[0])
    expect(given.lyrics or not several, "--lyrics", "the words or a file, the same for all", "none")
    of_one_song = given.lyrics_out or given.labels or given.save_audio
    expect(not (of_one_song and several), "AUDIO", "one song, for what else is written", f"{len(given.audio)} mixes")
    expect(0 <= given.labels_below <= 100, "--labels-below", "0 to 100", given.labels_below)
    if given.lyrics_out:
        by_hand = "no file, because lyrics are corrected by hand"
        expect(not given.lyrics_out.exists(), given.lyrics_out, by_hand, "one; move it away")
    files = (
        (given.html, "a report", b"<!doctype html>"),
        (given.lyrics_out, "lyrics", b""),
        (given.labels, "labels", rb"\d+\.\d+\t\d"),
        (given.save_audio and given.save_audio / "001-no-loss.wav", "the audio of a line", b"RIFF"),
    )
    read = [Path(given.lyrics)] if FILE_NAME.fullmatch(given.lyrics or "") else []
    outputs = [*(file for file in files if file[0]), *figure_outputs(given.figures)]
    check_outputs(outputs, [*given.audio, *read])
    if several:
        return compare(given, options, load)
    song = predict_song(given.audio[0], given.lyrics, options, predictor=load, progress=Progress())
    print(json.dumps(song.plain(), indent=2) if given.json else song_text(song, colours=takes_colours(sys.stdout)))
    if given.json or not sys.stdout.isatty():
        for note in song.notes:
            print(f"note: {note}", file=sys.stderr)
    for path, write in (
        (given.html, write_song_report),
        (given.figures, write_song_figures),
        (given.save_audio, write_audio),
        (given.lyrics_out, lambda path, song: write_lrc(path, song.lines)),
        (given.labels, lambda path, song: write_labels(path, song, given.labels_below)),
    ):
        if path:
            write(path, song)
            print(f"wrote {path}", file=sys.stderr)
    failed = [(f"{clock(line.start_s)} {line.lyrics}", line.reason) for line in song.failed]
    return report_failures(failed, f"of {len(song.lines) + len(failed)} lines could not be predicted")


def compare(given: argparse.Namespace, options: PredictOptions, load: Callable[[], Predictor]) -> int:
    """Compare several mixes of a song and print the differences to the first."""
    from scow.cli import Progress, report_failures
    from scow.errors import expect
    from scow.song.compare import compare_songs
    from scow.song.report import write_comparison_report
    from scow.song.terminal import clock, comparison_text

    expect(not given.figures, "AUDIO", "one song, for --figures", f"{len(given.audio)} mixes")
    found = compare_songs(given.audio, given.lyrics, options, predictor=load, progress=Progress())
    print(found.to_frame().to_json(orient="records", indent=2) if given.json else comparison_text(found))
    if given.html:
        write_comparison_report(given.html, found)
        print(f"wrote {given.html}", file=sys.stderr)
    failed = [(f"{name}, {clock(line.start_s)} {line.lyrics}", line.reason) for name, line in found.failed]
    return report_failures(failed, "lines could not be predicted in a mix, and are left out of all")


def predict_songs(
    folder: Path, given: argparse.Namespace, options: PredictOptions, load: Callable[[], Predictor]
) -> int:
    """Predict a folder of songs and print the score of each."""
    from scow.cli import Progress, aligned, report_failures
    from scow.errors import expect
    from scow.song.folder import predict_folder

    expect(given.csv is not None, "--csv", "a file for the scores of a folder of songs", "none")
    expect(given.audiogram is None, "AUDIO", "one song or several mixes, for --audiogram", folder)
    of_one_song = given.json or given.figures or given.lyrics_out or given.labels or given.save_audio
    expect(not of_one_song, "AUDIO", "one song, for what is written other than --csv and --html", folder)
    scores, failures = predict_folder(
        folder,
        Path(given.lyrics or folder),
        given.csv,
        options,
        predictor=load,
        jobs=1 if given.jobs is None else given.jobs,
        pages=given.html,
        progress=Progress("songs", seconds_between_lines=0.0),
    )
    rows = [(song, *(f"{score:.1f}" for score in of_song)) for song, *of_song in scores.itertuples()]
    print(aligned([("song", *options.hearing_losses), *rows]))
    for path in (given.csv, given.html):
        if path:
            print(f"wrote {path}", file=sys.stderr)
    return report_failures(failures, "songs or lines could not be predicted")


if __name__ == "__main__":
    # Imports are inside: each process that simulates a hearing loss starts by importing this file.
    from scow.cli import run_script

    sys.exit(run_script(main))
