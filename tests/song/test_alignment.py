"""scow.song.alignment: times for lyrics without times, from invented segments of a transcript."""

import pytest

from scow.errors import UserError
from scow.features.whisper import Segment
from scow.song.alignment import MARGIN_S, SECONDS_PER_WORD, align

SEGMENTS = (Segment(10.0, 14.0, "Hello my dear friend."), Segment(40.0, 44.0, "The sun is going down again"))


def test_align_puts_a_line_where_its_words_are():
    lines, matched = align(["Hello, my dear friend!", "the sun is going down again"], SEGMENTS, 60.0)
    assert [(line.start_s, line.end_s) for line in lines] == [(9.5, 14.5), (39.5, 44.5)]
    assert matched == (4, 6)


def test_align_spaces_missing_words_from_their_neighbours():
    lines, _ = align(["Hello my old dear friend oh dear", "the sun is going"], SEGMENTS, 60.0)
    # "oh dear" follows "friend" at a slow pace instead of filling the solo of 26 s.
    end = 14.0 + 2 * SECONDS_PER_WORD + MARGIN_S
    assert (lines[0].start_s, lines[0].end_s) == pytest.approx((10.0 - MARGIN_S, end))
    assert lines[1].start_s == pytest.approx(39.5)


def test_align_puts_a_line_without_matches_before_the_next():
    lines, matched = align(["hello my dear friend", "nobody knows this", "the sun is going down again"], SEGMENTS, 60.0)
    assert matched == (4, 0, 6)
    assert lines[1].start_s == pytest.approx(40.0 - 3 * SECONDS_PER_WORD - MARGIN_S)
    assert lines[1].end_s == pytest.approx(40.0 + MARGIN_S)


def test_align_keeps_lines_inside_the_song():
    texts = ["what came first was long and slow and never heard", "hello my dear friend", "and gone"]
    lines, _ = align(texts, (Segment(1.0, 3.0, "hello my dear friend"),), 3.2)
    assert lines[0].start_s == 0.0
    assert lines[2].end_s == 3.2
    assert all(line.start_s <= line.end_s for line in lines)


def test_align_breaks_one_long_line_where_the_segment_changes():
    lines, _ = align(["Hello my dear old friend the sun is going down again"], SEGMENTS, 60.0)
    assert [line.text for line in lines] == ["Hello my dear old friend", "the sun is going down again"]
    assert [line.start_s for line in lines] == [9.5, 39.5]


@pytest.mark.parametrize("segments", [(), (Segment(0.0, 5.0, "something else entirely"),)])
def test_align_refuses_lyrics_of_another_song(segments):
    with pytest.raises(UserError, match="none of its 2"):
        align(["no match"], segments, 10.0)
