"""scow.song.lyrics_files: lyrics of any form and encoding as lines, and lines as words."""

import json

import pytest
from helpers import REFUSALS, ROOT, golden, refusal
from hypothesis import given
from hypothesis import strategies as st

from scow.errors import UserError
from scow.song import lyrics_files
from scow.song.lyrics_files import TimedLine, check_words, clean_row, lyric_words, parse_lyrics, read_lyrics
from scow.text.normalize import prompt_words

GOLDEN = golden("lyrics_files.json")


@pytest.mark.parametrize("case", GOLDEN["timed"], ids=lambda case: case["text"][:20])
def test_parse_lyrics_with_times(case):
    lyrics = parse_lyrics(case["text"])
    assert not lyrics.failed
    expected = [(pytest.approx(start), pytest.approx(end), words) for start, end, words in case["lines"]]
    assert [(line.start_s, line.end_s, line.text) for line in lyrics.lines] == expected


def test_parse_lyrics_without_times_and_lists_what_has_no_place():
    text = "[Chorus]\n\nVerse 2:\n  Hello   you \n♪ ♪\n(ooh) at 5:15\nlove --> hate (x2)\n"
    assert parse_lyrics(text).text == ("Hello you", "(ooh) at 5:15", "love --> hate")
    assert parse_lyrics("(HEY) YOU").text == ("(HEY) YOU",)  # no direction where all is in capitals
    lyrics = parse_lyrics("a title\n[-00:02]early\n[00:05]row your boat 99\n划船\n[00:09]la / 啦")
    assert [line.text for line in lyrics.lines] == ["row your boat 99", "la /"]
    assert {(line.lyrics, line.reason.split()[0]) for line in lyrics.failed} == {
        ("a title", "has"), ("early", "begins"), ("划船", "expected"), ("啦", "expected"),
    }  # fmt: skip


ROWS = ("", "[00:0{i}.5]w{i}", "w{i}", "[00:01][00:0{i}]", "00:0{i},5 --> 00:09", "<b>w{i}</b>", "{i}", "[-0:0{i}]w{i}")


@given(st.lists(st.sampled_from(ROWS), max_size=9))
def test_every_word_is_in_a_line_or_listed(rows):
    text = "\n".join(row.format(i=i) for i, row in enumerate(rows, start=1))
    lyrics = parse_lyrics(text)
    shown = " ".join([*(line.text for line in lyrics.lines), *lyrics.text, *(line.lyrics for line in lyrics.failed)])
    for i in range(1, len(rows) + 1):
        assert (f"w{i}" in text) == (f"w{i}" in shown)


@given(st.text(max_size=60))
def test_clean_row_keeps_words_alone(row):
    cleaned = clean_row(row, capitals=False)
    assert bool(cleaned) == bool(lyric_words(cleaned))


def test_lyrics_corpus():
    folder = ROOT.parent / "shared" / "faults" / "lyrics"
    if not folder.is_dir():
        pytest.skip("no corpus at ../shared/faults/lyrics")
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    del expected["about"]
    for name in [name for name in expected if "lines" in expected[name]]:
        lyrics = read_lyrics(folder / name)
        found = [(line.start_s, line.text) for line in lyrics.lines if lyrics_files.is_latin(line.text)]
        if name == "S09_html.srt":  # its last cue is sung as well, but has no entry
            assert found.pop() == (11.0, "merrily now")
        assert found == [(pytest.approx(start), text) for start, text in expected[name]["lines"]], name
        n_listed = len(lyrics.failed) + sum(not lyrics_files.is_latin(line.text) for line in lyrics.lines)
        assert n_listed == expected[name].get("listed", 0), name


def test_split_long_shares_words_among_equal_parts():
    parts = lyrics_files.split_long([TimedLine(10.0, 80.0, "a b c d e f"), TimedLine(90.0, 91.0, "g")])
    assert [part.text for part in parts] == ["a b", "c d", "e f", "g"]
    assert [part.start_s for part in parts] == pytest.approx([10.0, 10 + 70 / 3, 10 + 140 / 3, 90.0])
    assert all(part.end_s - part.start_s < 30 for part in parts)


@pytest.mark.parametrize("case", GOLDEN["lyric_words"] + GOLDEN["clean_row"], ids=str)
def test_words_and_rows_by_hand(case):
    if "words" in case:
        assert lyric_words(case["text"]) == tuple(case["words"].split())
    else:
        assert clean_row(case["row"], capitals=False) == case["sung"]


def test_lyric_words_agree_with_prompts_of_the_challenge(clip1):
    metadata = json.loads((clip1 / "cadenza_data_train/metadata/train_metadata.json").read_text(encoding="utf-8"))
    pairs = {(record["original_prompt"], record["prompt"]) for record in metadata}
    same = sum(lyric_words(original) == prompt_words(prompt) for original, prompt in pairs)
    # The rest was normalized by hand: "walkin" to walking, "oneway" to one way.
    assert same / len(pairs) > 0.95


@pytest.mark.parametrize(
    ("text", "reason"),
    [("... ?", "at least one word"), ("Привет мир", "Latin script, found 'привет'")],
)
def test_check_words_refuses(text, reason):
    with pytest.raises(UserError, match=f"^song.txt: expected .*{reason}"):
        check_words(text, "song.txt")
    assert check_words("Café, I can't", "x") == ("café", "i", "cannot")


NO_TEXT = [b"[00:01]\xc7\xe1\xc7\xe1\xb5\xd8\xcb\xb3", b"\x89PNG\r\n\x1a\n\x00\x80\xff"]
WRONG = {**REFUSALS["lyrics"], "1,000,001 bytes": ["a" * 1_000_001], "expected a text file in UTF-8": NO_TEXT}


@pytest.mark.parametrize("reason", WRONG)
def test_read_lyrics_names_the_file_that_it_refuses(tmp_path, reason):
    for content in WRONG[reason]:
        (tmp_path / "a.lrc").write_bytes(content if isinstance(content, bytes) else content.encode())
        with refusal(rf"a\.lrc: .*{reason}"):
            read_lyrics(tmp_path / "a.lrc")
    with refusal("expected a lyrics file, found none"):
        read_lyrics(tmp_path / "none.lrc")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252", "mac_roman"])
def test_read_lyrics_in_common_encodings_and_with_damaged_characters(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("don’t señor café".encode(encoding))
    lyrics = read_lyrics(path)
    assert lyrics.text == ("don’t señor café",)
    assert bool(lyrics.notes) == (encoding in ("cp1252", "mac_roman"))
    path.write_bytes("don’t go, it’s late".encode() + b"\xe2\x80")
    lyrics = read_lyrics(path)
    assert lyrics.text == ("don’t go, it’s late",)
    assert "1 damaged character" in lyrics.notes[0]
