"""scow.song.lyrics_files: LRC, SRT and plain lyrics as lines, and lines as words."""

from __future__ import annotations

import json

import pytest

from scow.errors import UserError
from scow.song.lyrics_files import (
    TimedLine,
    check_words,
    lyric_words,
    parse_lrc,
    parse_srt,
    plain_lines,
    read_lyrics,
    split_long,
    timed_lines,
)
from scow.text.normalize import prompt_words

LRC = """[ar:Somebody]
[ti:A song]
[00:12.00][01:15.3]Hello my friend
[00:14.00]
[00:20.50]<00:20.50> the <00:21.00> sun <00:21.40> goes down
[00:23:75]after a while
[00:26]♪
[length: 02:00]
no time here
"""
SRT = """1
00:00:01,000 --> 00:00:03,500
<i>Hello</i>
world

3
01:01:05.2 --> 01:01:08,040 X1:0
{\\an8}Good night

2
00:00:04,000 --> 00:00:05,000
[Music]
"""


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (
            parse_lrc,
            LRC,
            [
                (12.0, 14.0, "Hello my friend"),  # the line without words ends it
                (20.5, 23.75, "the sun goes down"),
                (23.75, 26.0, "after a while"),
                (75.3, 79.8, "Hello my friend"),  # 1.5 s for each of three words
            ],
        ),
        (parse_lrc, "[00:10.00]you", [(10.0, 14.0, "you")]),  # 4 s at least
        (parse_lrc, "[offset:+500]\n[00:10]you", [(9.5, 13.5, "you")]),
        (parse_lrc, "[Offset: 20000]\n[00:10]you", [(0.0, 4.0, "you")]),
        (parse_lrc, "[offset:soon]\n[00:10]you", [(10.0, 14.0, "you")]),
        (parse_srt, SRT, [(1.0, 3.5, "Hello world"), (3665.2, 3668.04, "Good night")]),
        (parse_srt, "00:01,5 --> 00:03,250\nno hours", [(1.5, 3.25, "no hours")]),
        (parse_srt, "1\n00:00:04,000 -->\nno end", []),
    ],
)
def test_lines_of_timed_lyrics(parse, text, expected):
    assert [(line.start_s, line.end_s, line.text) for line in parse(text)] == [
        (pytest.approx(start), pytest.approx(end), words) for start, end, words in expected
    ]


def test_split_long_shares_words_among_equal_parts():
    parts = split_long([TimedLine(10.0, 80.0, "a b c d e f"), TimedLine(90.0, 91.0, "g")])
    assert [part.text for part in parts] == ["a b", "c d", "e f", "g"]
    assert [part.start_s for part in parts] == pytest.approx([10.0, 10 + 70 / 3, 10 + 140 / 3, 90.0])
    assert all(part.end_s - part.start_s < 30 for part in parts)


def test_plain_lines_leave_out_headings_and_notes():
    assert plain_lines("[Chorus]\n\n  Hello   you \n♪ ♪\n(ooh)\n") == ("Hello you", "(ooh)")


def test_lyric_words_are_normalized_as_prompts():
    assert lyric_words("I'm 99 red-hot, don’t! – ? ...") == tuple("i am ninety nine red hot do not ?".split())


def test_lyric_words_agree_with_prompts_of_the_challenge(clip1):
    metadata = json.loads((clip1 / "cadenza_data_train/metadata/train_metadata.json").read_text(encoding="utf-8"))
    pairs = {(record["original_prompt"], record["prompt"]) for record in metadata}
    same = sum(lyric_words(original) == prompt_words(prompt) for original, prompt in pairs)
    # The rest was normalized by hand: "walkin" to walking, "oneway" to one way.
    assert same / len(pairs) > 0.95


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "at least one word"), ("... ?", "at least one word"), ("Привет мир", "Latin script, found 'привет'")],
)
def test_check_words_refuses(text, reason):
    with pytest.raises(UserError, match=f"^song.txt: expected .*{reason}"):
        check_words(text, "song.txt")
    assert check_words("Café, I can't", "x") == ("café", "i", "cannot")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.lrc", b"hello\nworld", "expected times .*found none"),
        ("a.srt", b"hello\nworld", "expected times .*found none"),
        ("a.lrc", b" \n", "empty file"),
        ("a.lrc", None, "expected a lyrics file, found none"),
    ],
)
def test_timed_lines_names_the_file_that_it_refuses(tmp_path, name, content, reason):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: .*{reason}"):
        timed_lines(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_read_lyrics_in_common_encodings(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("café".encode(encoding))
    assert read_lyrics(path) == "café"
