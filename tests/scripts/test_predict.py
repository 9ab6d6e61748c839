"""predict.py and `make demo`: what a user types, reads and gets back as exit code."""

import json
import re

import pytest
from helpers import DEMO, MODELS, load_whisper, run_script

SONG = DEMO / "song" / "demo_song.flac"
EXCERPT = DEMO / "demo" / "signals" / "twinkle_moderate.flac"
pytestmark = pytest.mark.slow
LYRICS = "twinkle twinkle little star how i wonder what you are"


@pytest.fixture(autouse=True)
def _weights() -> None:
    load_whisper("tiny.en")


def test_excerpt_with_its_hearing_loss(tmp_path):
    report, figures = tmp_path / "report.html", tmp_path / "figures"
    options = ("--hearing-loss", "moderate", "--already-simulated", "--html", report, "--figures", figures)
    labels = tmp_path / "labels.txt"
    done = run_script(
        "predict.py", EXCERPT, "--lyrics", LYRICS, *options, "--labels", labels, "--labels-below", "30", code=0
    )
    assert re.search(
        r"^\d\.\d+\t\d\.\d+\t\d+: star$|[(, ]star \d+[,)]", labels.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert "checkpoint lite (Whisper tiny.en)" in done.stdout
    assert "Moderate    33.0" in done.stdout  # as `make demo` shows in README.md
    assert "\x1b" not in done.stdout
    names = {f"{name}.{suffix}" for name in ("scores", "waveform-moderate") for suffix in ("pdf", "svg")}
    assert {path.name for path in figures.iterdir()} == names
    page = report.read_text(encoding="utf-8")
    assert "33.0" in page
    assert set(re.findall('data-sound="(.*?)"', page)) == {"Moderate"}


def test_song_with_all_hearing_losses(tmp_path):
    pytest.importorskip("clarity")
    options = ("--hearing-loss", "all", "--cache-dir", tmp_path, "--html", tmp_path / "report.html", "--no-audio")
    done = run_script("predict.py", SONG, "--lyrics", SONG.with_suffix(".lrc"), *options, code=0)
    assert "<audio" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    scores = dict(re.findall(r"^(No Loss|Mild|Moderate) +([\d.]+) +[\d.]+$", done.stdout, re.MULTILINE))
    expected = {"No Loss": 80.6, "Mild": 68.8, "Moderate": 46.9}  # as in README.md
    assert {name: float(score) for name, score in scores.items()} == pytest.approx(expected, abs=0.3)


def test_song_with_lines_that_fail_ends_with_1_and_lists_them(tmp_path):
    lyrics = tmp_path / "song.lrc"
    lyrics.write_text("[00:09.28]how I wonder what you are\n[03:00]never sung\n[04:00]звезда\n", encoding="utf-8")
    done = run_script("predict.py", SONG, "--lyrics", lyrics, "--json", "--cuts=1", code=1)
    plain = json.loads(done.stdout)
    assert [line["lyrics"] for line in plain["lines"]] == ["how I wonder what you are"]
    assert plain["scores"] == {"No Loss": pytest.approx(plain["lines"][0]["severities"][0]["score"], abs=1e-3)}
    assert "2 of 3 lines could not be predicted:" in done.stderr
    assert "  3:00.0 never sung: begins at 180.00 s" in done.stderr


def test_demo_prints_a_score_for_each_signal(tmp_path):
    """`make demo`: stages 1 to 5, each in a fresh process."""
    done = run_script("tools/run_demo.py", "--work-dir", tmp_path / "demo", "--model-dir", MODELS, code=0)
    rows = [line.split() for line in done.stdout.splitlines()[-6:]]
    assert {row[0]: float(row[-1]) for row in rows} == pytest.approx(
        {"row_none": 81.9, "row_mild": 69.9, "row_moderate": 39.8}
        | {"twinkle_none": 84.1, "twinkle_mild": 80.7, "twinkle_moderate": 33.0},
        abs=0.2,
    )
