"""Folders of songs: one table of scores, and a page per song.

1. Songs are the files of a folder, and of the folders in it, with an ending of `AUDIO`; hidden ones are left out. The
   lyrics of a song have its name and an ending of `LYRICS`, the first of these that is there; they are in the same
   place of the same folder or of another one.
2. Each song is predicted by itself (`scow.song.song.predict_song`). What fails is listed, and the others go on.
3. The table has a row per song, line and hearing loss (`COLUMNS`), and is written whole after each song. It replaces
   rows of the same song, hearing loss, level, checkpoint and number of cuts; all others stay.
4. A song that the table has with these is not computed again, unless its audio or lyrics are newer than the table, or
   its page is missing or was made with another model.pt or other options. So a killed run goes on where it was.
5. The index has the mean score of each song of the folder that the table has, the lowest first.

A line that could not be predicted has a reason and no score. File names that are no UTF-8 are written with escapes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import joblib
import pandas as pd
from markupsafe import Markup

from scow.data.tables import write_table
from scow.errors import UserError, expect
from scow.features.engine import DIED, open_engine
from scow.io import check_outputs, locked, reading
from scow.reports.render import render, write_text
from scow.song.hearing_loss import Progress
from scow.song.predictor import Predictor
from scow.song.report import is_made_with, write_song_report
from scow.song.results import SongPrediction
from scow.song.song import PredictOptions, predict_song
from scow.song.terminal import clock

AUDIO = (
    *(".aac", ".ac3", ".aif", ".aiff", ".ape", ".au", ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4v", ".mka", ".mkv"),
    *(".mov", ".mp3", ".mp4", ".mpg", ".oga", ".ogg", ".opus", ".ts", ".tta", ".wav", ".webm", ".wma", ".wv"),
)
LYRICS = (".lrc", ".srt", ".vtt", ".txt")
KEY = ["file", "hearing_loss", "level_db_spl", "checkpoint", "cuts"]
COLUMNS = [
    *("file", "line", "start_s", "end_s", "lyrics", "hearing_loss", "level_db_spl", "n_words"),
    *("score", "low", "high", "floor", "caught", "checkpoint", "cuts", "reason"),
]
Failures = list[tuple[str, str]]  # song or line, reason


def predict_folder(
    folder: Path,
    lyrics: Path,
    csv: Path,
    options: PredictOptions,
    *,
    predictor: Callable[[], Predictor] = Predictor.load,
    jobs: int = 1,
    pages: Path | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, Failures]:
    """Predict the songs of a folder with the lyrics of a folder; write the table and, to the folder `pages`, the pages.

    Returns the mean scores, a row per song and a column per hearing loss, and what failed. Each job calls `predictor`.
    """
    options.validate()
    songs, failures = pair_with_lyrics(folder, lyrics)
    names = {audio: shown(audio.relative_to(folder)) for audio in songs}
    page_of = {audio: pages / f"{name}.html" for audio, name in names.items()} if pages else {}
    index = [pages / "index.html"] if pages else []
    outputs = [(page, "a report", b"<!doctype html>") for page in [*page_of.values(), *index]]
    check_outputs([(csv, "scores", b"(\xef\xbb\xbf)?file,line,"), *outputs], [*songs, *songs.values()])
    loaded = predictor()
    settings = {(loss, _level(loss, options), loaded.name, str(options.cuts)) for loss in options.hearing_losses}
    keys = {audio: {(name, *rest) for rest in settings} for audio, name in names.items()}
    made_with = joblib.hash(repr((loaded.sha256, replace(options, cache_dir=None, jobs=None))))
    of_job = replace(options, jobs=1) if jobs > 1 else options
    predict = partial(_predict, options=of_job, predictor=predictor, made_with=made_with)
    with open_engine(jobs) as engine, locked([csv]):
        table = read_song_table(csv) if csv.exists() else pd.DataFrame(columns=COLUMNS)
        there = set(_keys(table))
        tasks = [
            (audio, words, names[audio], page_of.get(audio))
            for audio, words in songs.items()
            if not keys[audio] <= there
            or _is_newer((audio, words), csv)
            or (pages and not is_made_with(page_of[audio], made_with))
        ]
        for done, (i, result) in enumerate(engine.map(predict, tasks), start=1):
            if isinstance(result, pd.DataFrame):
                others = table[~_keys(table).isin(_keys(result))]
                table = pd.concat([others, result]).sort_values("file", kind="stable")
                write_table(table, csv)
            else:
                failures.append((tasks[i][2], result or DIED))
            if progress:
                progress("predicting", done, len(tasks))
    table = table[_keys(table).isin(set().union(*keys.values()))]
    with reading(csv, "a table of scores"):
        failures += _failed_lines(table)
        scores = mean_scores(table, options.hearing_losses)
    for path in index:
        links = [Markup('<a href="{}">{}</a>').format(f"{quote(song)}.html", song) for song in scores.index]
        write_text(path, render("songs.html.j2", scores=scores.set_axis(links), failures=failures))
    return scores, failures


def pair_with_lyrics(folder: Path, lyrics: Path) -> tuple[dict[Path, Path], Failures]:
    """The songs of a folder, at least one, with their lyrics files, and songs that have none."""
    expect(lyrics.is_dir(), "--lyrics", f"a folder, as {folder} is one", lyrics)
    songs = [path for path in _files(folder) if path.suffix.lower() in AUDIO]
    expect(songs, folder, f"songs ({', '.join(AUDIO)})", "none")
    texts = {(_stem(path, lyrics), path.suffix.lower()): path for path in _files(lyrics)}
    found, missing = {}, []
    for song in songs:
        stem = _stem(song, folder)
        words = [texts[stem, ending] for ending in LYRICS if (stem, ending) in texts]
        if words:
            found[song] = words[0]
        else:
            reason = f"expected lyrics {stem}.lrc, .srt, .vtt or .txt in {lyrics}, found none"
            missing.append((shown(song.relative_to(folder)), reason))
    return found, missing


def _files(folder: Path) -> list[Path]:
    """Files of a folder and of those in it, without hidden ones."""
    inside = (path for path in folder.rglob("[!.]*") if path.is_file())
    return sorted(path for path in inside if not any(name.startswith(".") for name in path.relative_to(folder).parts))


def _stem(path: Path, folder: Path) -> str:
    inside = path.relative_to(folder).with_suffix("").as_posix()
    return unicodedata.normalize("NFC", inside)  # macOS writes letters and accents apart


def shown(path: Path) -> str:
    """A file's name, with the folders it is in, as the table has it."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_newer(paths: Sequence[Path], other: Path) -> bool:
    return any(path.stat().st_mtime > other.stat().st_mtime for path in paths)


def _level(hearing_loss: str, options: PredictOptions) -> str:
    """Level of the song in a simulation; empty without one."""
    return f"{options.level_db_spl:g}" if hearing_loss in options.simulated else ""


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[KEY])


def _predict(
    task: tuple[Path, Path, str, Path | None],
    options: PredictOptions,
    predictor: Callable[[], Predictor],
    made_with: str,
) -> pd.DataFrame | str:
    """Rows of a song, whose page is written, or the reason why there are none."""
    audio, lyrics, name, page = task
    try:
        song = predict_song(audio, lyrics, options, predictor=predictor)
        if page:
            write_song_report(page, song, made_with)
    except (UserError, OSError) as error:
        return str(error)
    return song_table(song, name, options)


def song_table(song: SongPrediction, file: str, options: PredictOptions) -> pd.DataFrame:
    """Rows of a song, its failed lines last; all cells are text."""
    failed = [
        {"start_s": line.start_s, "lyrics": line.lyrics, "hearing_loss": name, "reason": line.reason}
        for line in song.failed
        for name in song.hearing_losses
    ]
    tables = [of_lines.round(4).astype(str) for of_lines in (song.to_frame(), pd.DataFrame(failed))]
    table = pd.concat(tables).reindex(columns=COLUMNS).fillna("")
    levels = table["hearing_loss"].map(lambda name: _level(name, options))
    return table.assign(file=file, level_db_spl=levels, checkpoint=song.checkpoint, cuts=str(options.cuts))


def read_song_table(path: Path) -> pd.DataFrame:
    """A table of `predict_folder`; all cells are text."""
    with reading(path, "scores of songs"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    expect(
        list(table) == COLUMNS, path, f"the columns {', '.join(COLUMNS)}", f"{', '.join(table.columns)}; move it away"
    )
    return table


def mean_scores(table: pd.DataFrame, hearing_losses: Sequence[str]) -> pd.DataFrame:
    """Mean score of each song with each hearing loss, lines weighted by their words; the lowest last one first."""
    scored = table[table["score"] != ""].astype({"score": float, "n_words": float})
    sums = scored.assign(score=scored["score"] * scored["n_words"]).groupby(["file", "hearing_loss"])
    totals = sums[["score", "n_words"]].sum()
    means = (totals["score"] / totals["n_words"]).reset_index(name="mean")
    by_song = means.pivot_table("mean", "file", "hearing_loss").reindex(columns=list(hearing_losses))
    return by_song.sort_values(hearing_losses[-1])


def _failed_lines(table: pd.DataFrame) -> Failures:
    failed = table[table["reason"] != ""].drop_duplicates(["file", "start_s", "lyrics"])
    lines = zip(failed["file"], failed["start_s"], failed["lyrics"], failed["reason"], strict=True)
    return [(f"{file}, {clock(float(start_s))} {lyrics}", reason) for file, start_s, lyrics, reason in lines]
