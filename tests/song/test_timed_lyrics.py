"""scow.song.lyrics_files: LRC, SRT and plain lyrics as lines, and lines as words."""

from __future__ import annotations

import json

import pytest

from scow.errors import UserError
from scow.song.lyrics_files import (
    TimedLine,
    at_most_30_s,
    check_words,
    lyric_words,
    parse_lrc,
    parse_srt,
    plain_lines,
    read_lyrics,
    timed_lines,
)
from scow.text.normalize import prompt_words

LRC = """\ufeff[ar:Somebody]
[ti:A song]
[00:12.00][01:15.3]Hello my friend
[00:14.00]
[00:20.50]<00:20.50> the <00:21.00> sun <00:21.40> goes down
[00:23:75]after a while
[00:26]♪
[length: 02:00]
no time here
"""


def test_lrc_lines_come_in_time_with_their_ends():
    lines = parse_lrc(LRC.removeprefix("\ufeff"))
    assert lines == (
        TimedLine(12.0, 14.0, "Hello my friend"),  # the line without words ends it
        TimedLine(20.5, 23.75, "the sun goes down"),
        TimedLine(23.75, 26.0, "after a while"),
        TimedLine(75.3, 79.8, "Hello my friend"),  # 1.5 s for each of three words, nothing follows
    )


@pytest.mark.parametrize(("tag", "start"), [("+500", 9.5), ("-500", 10.5), ("0", 10.0), ("soon", 10.0)])
def test_a_positive_offset_brings_the_words_earlier(tag, start):
    assert parse_lrc(f"[offset:{tag}]\n[00:10.00]here")[0].start_s == start


def test_a_short_last_line_gets_four_seconds():
    assert parse_lrc("[00:10.00]you")[0] == TimedLine(10.0, 14.0, "you")


def test_srt_blocks_keep_their_ends():
    text = (
        "1\r\n00:00:01,000 --> 00:00:03,500\r\n<i>Hello</i>\r\nworld\r\n\r\n"
        "3\n01:01:05.2 --> 01:01:08,040 X1:0\n{\\an8}Good night\n\n"
        "2\n00:00:04,000 --> 00:00:05,000\n[Music]\n\nnonsense"
    )
    assert parse_srt(text) == (TimedLine(1.0, 3.5, "Hello world"), TimedLine(3665.2, 3668.04, "Good night"))


def test_a_line_of_70_s_becomes_three_with_their_shares_of_the_words():
    parts = at_most_30_s([TimedLine(10.0, 80.0, "a b c d e f"), TimedLine(90.0, 91.0, "g")])
    assert [part.text for part in parts] == ["a b", "c d", "e f", "g"]
    assert [part.start_s for part in parts] == pytest.approx([10.0, 10 + 70 / 3, 10 + 140 / 3, 90.0])
    assert all(part.end_s - part.start_s < 30 for part in parts)


def test_headings_and_notes_are_no_lines():
    assert plain_lines("[Chorus]\n\n  Hello   you \n♪ ♪\n(ooh)\n") == ("Hello you", "(ooh)")


def test_words_are_those_of_the_challenges_prompts():
    assert lyric_words("I'm 99 red-hot, don’t! – ? ...") == (
        "i",
        "am",
        "ninety",
        "nine",
        "red",
        "hot",
        "do",
        "not",
        "?",
    )


def test_words_agree_with_normalised_prompts_of_the_challenge(clip1):
    metadata = json.loads((clip1 / "cadenza_data_train/metadata/train_metadata.json").read_text(encoding="utf-8"))
    pairs = {(record["original_prompt"], record["prompt"]) for record in metadata}
    same = sum(lyric_words(original) == prompt_words(prompt) for original, prompt in pairs)
    # The rest was normalised by hand: "walkin" to walking, "oneway" to one way.
    assert same / len(pairs) > 0.95


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at least one word, found none"),
        ("... ?", "at least one word"),
        ("Привет мир", "Latin script, found 'привет'"),
    ],
)
def test_lyrics_that_no_model_knows_are_refused(text, reason):
    with pytest.raises(UserError, match=f"^song.txt: expected .*{reason}"):
        check_words(text, "song.txt")


def test_words_that_pass_come_back_normalised():
    assert check_words("Café, I can't", "x") == ("café", "i", "cannot")


@pytest.mark.parametrize("name", ["song.lrc", "song.srt"])
def test_a_timed_file_without_times_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("hello\nworld", encoding="utf-8")
    with pytest.raises(UserError, match=r"expected times .* found none; name it \.txt"):
        timed_lines(path)


def test_files_are_read_with_mark_and_in_windows_letters(tmp_path):
    path = tmp_path / "a.lrc"
    path.write_text(LRC, encoding="utf-8")
    assert len(timed_lines(path)) == 4
    path.write_bytes("café".encode("cp1252"))
    assert read_lyrics(path) == "café"
    path.write_bytes(b" \n")
    with pytest.raises(UserError, match="found an empty file"):
        read_lyrics(path)
    with pytest.raises(UserError, match=r"none\.lrc: expected a lyrics file, found none"):
        read_lyrics(tmp_path / "none.lrc")
