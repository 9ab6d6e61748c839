"""scow.song.folder: pairs of songs and lyrics, and the table that a killed run continues."""

import os
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from browser import assert_clean, browse
from helpers import DEMO, MODELS, load_whisper, run_script, start_script, wait_until

from scow.errors import UserError
from scow.song.folder import COLUMNS, pair_with_lyrics

pytestmark = pytest.mark.slow

SONG = DEMO / "song" / "demo_song.flac"
ROW = DEMO / "demo" / "unprocessed" / "row_none_unproc.flac"


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song with a line that fails, an excerpt, a damaged file, a song without lyrics."""
    load_whisper("tiny.en")
    folder = tmp_path_factory.mktemp("folder") / "songs"
    folder.mkdir()
    shutil.copy(SONG, folder / "a song & more.flac")
    lyrics = SONG.with_suffix(".lrc").read_text(encoding="utf-8") + "[02:00.00]never, sung\n"
    (folder / "a song & more.lrc").write_text(lyrics, encoding="utf-8")
    shutil.copy(ROW, folder / "b.flac")
    (folder / "b.txt").write_text("row row row your boat gently down the stream", encoding="utf-8")
    (folder / "c.mp3").write_text("no audio", encoding="utf-8")
    (folder / "c.txt").write_text("hello", encoding="utf-8")
    (folder / "d.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def finished(songs: Path) -> subprocess.CompletedProcess:
    """The first run on all, with pages."""
    return run_script(*predict(songs, "--html", songs.parent / "pages", "--no-audio", "--jobs", 2), code=1)


def predict(songs: Path, *options: object) -> tuple[str, ...]:
    fixed = ("--csv", songs.parent / "scores.csv", "--model-dir", MODELS, "--cuts=1")
    return ("predict.py", songs, *fixed, *map(str, options))


def test_pair_with_lyrics_by_name(tmp_path):
    songs, lyrics = tmp_path / "songs", tmp_path / "lyrics"
    names = ("x.y.flac", "one.MP3", "two.wav", "._two.wav", "café.ogg", "notes.pdf")
    for name in (*names, "folder.flac/three.flac", ".x/four.wav"):
        (songs / name).parent.mkdir(parents=True, exist_ok=True)
        (songs / name).touch()
    lyrics.mkdir()
    texts = ("x.y.srt", "x.lrc", "one.txt", "one.LRC", "folder.flac/three.lrc", "three.txt", "four.txt", "other.txt")
    for name in (*texts, unicodedata.normalize("NFD", "café.vtt")):
        (lyrics / name).parent.mkdir(exist_ok=True)
        (lyrics / name).touch()
    found, missing = pair_with_lyrics(songs, lyrics)
    pairs = {song.name: unicodedata.normalize("NFC", words.name) for song, words in found.items()}
    assert pairs == {"café.ogg": "café.vtt", "one.MP3": "one.LRC", "three.flac": "three.lrc", "x.y.flac": "x.y.srt"}
    assert [name for name, _ in missing] == ["two.wav"]
    (lyrics / "folder.flac" / "three.lrc").unlink()
    assert [name for name, _ in pair_with_lyrics(songs, lyrics)[1]] == ["folder.flac/three.flac", "two.wav"]
    with pytest.raises(UserError, match=r"songs \("):
        pair_with_lyrics(lyrics, songs)


def test_folder_gives_a_table_pages_and_a_list_of_failures(songs, finished):
    pages, done = songs.parent / "pages", finished
    assert "3 songs or lines could not be predicted" in done.stderr
    for failed in ("c.mp3: ", "d.wav: expected lyrics", "a song & more.flac, 2:00.0 never, sung: begins at 120"):
        assert f"  {failed}" in done.stderr
    table = pd.read_csv(songs.parent / "scores.csv")
    assert table.columns.tolist() == COLUMNS
    assert table["file"].tolist() == 4 * ["a song & more.flac"] + ["b.flac"]
    assert table["score"].tolist() == pytest.approx([81.4, 72.1, 88.2, float("nan"), 81.9], abs=0.1, nan_ok=True)
    assert table.loc[table["score"].isna(), "reason"].str.contains("begins at").tolist() == [True]
    assert re.findall(r"^(\S.*\S) +(8\d\.\d)$", done.stdout, re.MULTILINE) == [
        ("a song & more.flac", "81.6"),
        ("b.flac", "81.9"),
    ]
    index = (pages / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', index)
    assert links == [("a%20song%20%26%20more.flac.html", "a song &amp; more.flac"), ("b.flac.html", "b.flac")]
    for width in (390, 1280):
        assert_clean(browse(pages / "index.html", songs.parent / "browser", width))
    before = {path: path.stat().st_mtime_ns for path in pages.glob("*flac.html")}
    assert len(before) == 2
    (pages / "b.flac.html").unlink()
    again = run_script(*predict(songs, "--html", pages, "--no-audio"))
    assert "predicting: 2/2 songs" in again.stderr  # b.flac, of which the page is missing, and c.mp3
    assert [path.stat().st_mtime_ns == time for path, time in sorted(before.items())] == [True, False]
    page = pages / "a song & more.flac.html"
    page.write_text(re.sub(r'"made-with" content="\w+"', "", page.read_text(encoding="utf-8")), encoding="utf-8")
    again = run_script(*predict(songs, "--html", pages, "--no-audio"))
    assert "predicting: 2/2 songs" in again.stderr  # that of the page that another model made, and c.mp3
    assert "made-with" in page.read_text(encoding="utf-8")


def test_killed_run_goes_on_and_gives_the_same_table(songs, finished, tmp_path):
    whole = (songs.parent / "scores.csv").read_bytes()
    songs, csv = shutil.copytree(songs, tmp_path / "songs"), tmp_path / "scores.csv"
    with start_script(*predict(songs)) as process:
        wait_until(csv.exists, "the first song")
        process.kill()
        process.wait()
    first = csv.read_bytes()
    assert b"a song & more" in first
    run_script(*predict(songs), code=1)
    assert csv.read_bytes() == whole
    (songs / "b.txt").write_text("row your boat", encoding="utf-8")
    os.utime(songs / "b.txt", (csv.stat().st_mtime + 3600,) * 2)
    other = run_script(*predict(songs, "--hearing-loss", "moderate", "--already-simulated"))
    assert "predicting: 3/3 songs" in other.stderr
    assert "predicting: 2/2 songs" in run_script(*predict(songs)).stderr  # the lyrics of b are newer
    table = pd.read_csv(csv)
    assert table.groupby("hearing_loss").size().to_dict() == {"Moderate": 5, "No Loss": 5}
    assert table.loc[table["file"] == "b.flac", "n_words"].tolist() == [3, 3]
