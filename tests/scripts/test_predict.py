"""predict.py: what a user types, reads and gets back as exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import DEMO, MODELS, Script, load_whisper, write_stereo

import predict
from scow.cli import run_script

SONG = DEMO / "song" / "demo_song.flac"
CLIP = DEMO / "demo" / "signals" / "twinkle_moderate.flac"
LYRICS = "twinkle twinkle little star how i wonder what you are"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The script in this process, which has torch loaded already."""
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments), "--model-dir", str(MODELS)])
    return run_script(predict.main)


def test_a_clip_as_a_user_runs_it(run_script_file: Script, tmp_path):
    load_whisper("tiny.en")
    report = tmp_path / "report.html"
    done = run_script_file(
        "predict.py", CLIP, "--lyrics", LYRICS, "--hearing-loss", "moderate", "--already-simulated", "--html", report
    )
    assert done.returncode == 0, done.stderr
    assert "checkpoint lite (Whisper tiny.en)" in done.stdout
    assert "Moderate    33.0" in done.stdout  # as `make demo` shows in README.md
    assert "\x1b" not in done.stdout
    assert f"wrote {report}" in done.stderr
    assert "Moderate hearing loss: 33.0" in report.read_text(encoding="utf-8")


def test_a_song_with_lines_that_fail_ends_with_1_and_lists_them(monkeypatch, capsys, tmp_path):
    load_whisper("tiny.en")
    lyrics = tmp_path / "song.lrc"
    lyrics.write_text("[00:09.28]how I wonder what you are\n[03:00]never sung\n[04:00]звезда\n", encoding="utf-8")
    assert run(monkeypatch, SONG, "--lyrics", lyrics, "--json") == 1
    shown = capsys.readouterr()
    plain = json.loads(shown.out)
    assert [line["lyrics"] for line in plain["lines"]] == ["how I wonder what you are"]
    assert plain["scores"] == {"No Loss": pytest.approx(plain["lines"][0]["severities"][0]["score"], abs=1e-3)}
    assert "2 of 3 lines could not be predicted:" in shown.err
    assert "  3:00.0 never sung: begins at 180.00 s" in shown.err


@pytest.fixture
def files(tmp_path) -> Path:
    """Files with which things go wrong."""
    (tmp_path / "empty.flac").write_bytes(b"")
    soundfile.write(tmp_path / "silence.wav", np.zeros((44_100, 2)), 44_100)
    write_stereo(tmp_path / "surround.flac", channels=6)
    write_stereo(tmp_path / "good.flac")
    (tmp_path / "no_times.lrc").write_text("hello\nworld\n", encoding="utf-8")
    (tmp_path / "late.lrc").write_text("[05:00.00]hello\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["empty.flac", "--lyrics", "hello"], "found 0 bytes"),
        (["none.flac", "--lyrics", "hello"], "expected an audio file, found none"),
        (["silence.wav", "--lyrics", "hello"], "silent; expected some sample"),
        (["surround.flac", "--lyrics", "hello"], "expected 1 or 2 channels, found 6"),
        (["good.flac", "--lyrics", ""], "expected lyrics with at least one word, found none"),
        (["good.flac", "--lyrics", "你好"], "expected English lyrics in Latin script"),
        (
            ["good.flac", "--lyrics", "no_times.lrc"],
            "expected times ([mm:ss.xx] before each line) and words, found none",
        ),
        (["good.flac", "--lyrics", "late.lrc"], "begins at 300.00 s, but the song ends at 1.00 s"),
        (["good.flac", "--lyrics", "empty.txt"], "expected lyrics, found an empty file"),
        (["good.flac", "--lyrics", "hello", "--hearing-loss", "severe"], "no severity 'severe'"),
        (["good.flac", "--lyrics", "hello", "--hearing-loss", "all", "--already-simulated"], "the one severity"),
        (["good.flac", "--lyrics", "hello", "--level-db-spl", "200"], "expected 40 to 90 dB SPL, found 200"),
        (["good.flac", "--lyrics", "hello", "--checkpoint", "liet"], "no checkpoint 'liet'; did you mean lite"),
        (["good.flac", "--lyrics", "hello", "--checkpoint", "published"], "expected a word model, found a network"),
    ],
)
def test_wrong_input_is_one_line_and_2(monkeypatch, capsys, files, arguments, reason):
    load_whisper("tiny.en")
    monkeypatch.chdir(files)
    assert run(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.strip().splitlines()
    assert line.startswith("error: ")
    assert reason in line


def test_without_pyclarity_a_simulation_says_how_to_get_it(monkeypatch, capsys, files):
    from scow.song import hearing_loss

    load_whisper("tiny.en")
    monkeypatch.setattr(hearing_loss, "installed", lambda: False)
    assert run(monkeypatch, files / "good.flac", "--lyrics", "hello", "--hearing-loss", "mild") == 2
    assert "pip install 'pyclarity" in capsys.readouterr().err


def test_clipping_is_noted_and_heard_as_it_is(monkeypatch, capsys, tmp_path):
    load_whisper("tiny.en")
    samples, rate_hz = soundfile.read(CLIP)
    soundfile.write(tmp_path / "clipped.wav", np.clip(samples * 30, -0.99, 0.99), rate_hz)
    assert run(monkeypatch, tmp_path / "clipped.wav", "--lyrics", LYRICS) == 0
    assert "note: The recording is clipped" in capsys.readouterr().out
