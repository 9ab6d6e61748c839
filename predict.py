"""Predict how many words of a song a listener catches, and which are lost.

python predict.py song.flac --lyrics "do you know i am truly alone"
python predict.py song.mp3 --lyrics song.lrc --hearing-loss all --html report.html
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEARING_LOSSES = {
    "none": ("No Loss",),
    "mild": ("Mild",),
    "moderate": ("Moderate",),
    "all": ("No Loss", "Mild", "Moderate"),
}


def main() -> int:
    """Parse the options, predict, print."""
    parser = argparse.ArgumentParser(description="Predict how many words of a song a listener catches.")
    parser.add_argument(
        "audio", type=Path, metavar="AUDIO", help="FLAC, WAV, MP3, M4A, Opus, video …; mono or stereo, any rate"
    )
    parser.add_argument(
        "--lyrics",
        required=True,
        help="the words themselves, or a file: LRC, SRT, WebVTT, or text without times (then they are approximate)",
    )
    parser.add_argument(
        "--hearing-loss",
        default="none",
        metavar="none|mild|moderate|all",
        help="of the listeners (default: none); mild and moderate are simulated by pyclarity",
    )
    parser.add_argument(
        "--already-simulated", action="store_true", help="this --hearing-loss is in the file: do not simulate it"
    )
    parser.add_argument(
        "--level-db-spl",
        type=float,
        default=65.0,
        metavar="DB",
        help="level of the song in the simulation (default: 65)",
    )
    parser.add_argument("--checkpoint", help="name or folder (default: the best whose Whisper models are on disk)")
    parser.add_argument("--model-dir", type=Path, help="folder of Whisper weights (default: models)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument(
        "--cache-dir", type=Path, default=HERE / "build" / "hearing_loss", help="folder that keeps simulations"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of text")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a report for a browser")
    parser.add_argument("--no-audio", action="store_true", help="leave the audio of the lines out of the report")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="also write the report's figures, as PDF and SVG")
    return predict(parser.parse_args())


def predict(given: argparse.Namespace) -> int:
    """Predict a song and print it."""
    import json

    from scow.cli import Progress, report_failures
    from scow.io import check_outputs
    from scow.song.predictor import Predictor
    from scow.song.report import write_song_figures, write_song_report
    from scow.song.song import PredictOptions, predict_song
    from scow.song.terminal import clock, song_text, takes_colours

    listen = given.html is not None and not given.no_audio
    options = PredictOptions(
        hearing_losses=HEARING_LOSSES.get(given.hearing_loss.lower(), (given.hearing_loss,)),
        already_simulated=given.already_simulated,
        level_db_spl=given.level_db_spl,
        cache_dir=given.cache_dir,
        keep_audio=listen,
        word_times=listen or given.json,
    )

    def load() -> Predictor:
        return Predictor.load(given.checkpoint, model_dir=given.model_dir, device=given.device)

    pages = [(given.html, "a report", b"<!doctype html>")] if given.html else []
    figures = [(given.figures / "scores.pdf", "a figure", b"%PDF")] if given.figures else []
    check_outputs([*pages, *figures], [given.audio])
    song = predict_song(given.audio, given.lyrics, options, predictor=load, progress=Progress())
    print(json.dumps(song.plain(), indent=2) if given.json else song_text(song, colours=takes_colours(sys.stdout)))
    if given.json or not sys.stdout.isatty():
        for note in song.notes:
            print(f"note: {note}", file=sys.stderr)
    if given.html:
        write_song_report(given.html, song)
        print(f"wrote {given.html}", file=sys.stderr)
    if given.figures:
        write_song_figures(given.figures, song)
        print(f"wrote {given.figures}", file=sys.stderr)
    failed = [(f"{clock(line.start_s)} {line.lyrics}", line.reason) for line in song.failed]
    return report_failures(failed, f"of {len(song.lines) + len(failed)} lines could not be predicted")


if __name__ == "__main__":
    # Imports are inside: each process that simulates a hearing loss starts by importing this file.
    from scow.cli import run_script

    sys.exit(run_script(main))
