"""scow.song.alignment: lyrics without times, laid along what Whisper heard."""

from __future__ import annotations

import pytest

from scow.errors import UserError
from scow.features.whisper import Segment
from scow.song.alignment import MARGIN_S, SLOWEST_S, align

HEARD = (Segment(10.0, 14.0, "Hello my dear friend."), Segment(40.0, 44.0, "The sun is going down again"))


def test_a_line_lies_where_its_words_were_heard():
    alignment = align(["Hello, my dear friend!", "the sun is going down again"], HEARD, 60.0)
    assert [(line.start_s, line.end_s) for line in alignment.lines] == [(9.5, 14.5), (39.5, 44.5)]
    assert alignment.anchored == (4, 6)
    assert alignment.unheard == 0


def test_words_that_nobody_heard_are_laid_beside_those_that_were():
    alignment = align(["Hello my old dear friend oh dear", "the sun is going"], HEARD, 60.0)
    first = alignment.lines[0]
    # "oh dear" goes on from "friend" at a slow pace rather than filling the solo of 26 s.
    assert (first.start_s, first.end_s) == pytest.approx((10.0 - MARGIN_S, 14.0 + 2 * SLOWEST_S + MARGIN_S))
    assert alignment.lines[1].start_s == pytest.approx(39.5)


def test_an_unheard_line_is_placed_before_the_next_and_counted():
    alignment = align(["hello my dear friend", "nobody knows this", "the sun is going down again"], HEARD, 60.0)
    assert alignment.anchored[1] == 0
    assert alignment.unheard == 1
    assert alignment.lines[1].end_s == pytest.approx(40.0 + MARGIN_S)
    assert alignment.lines[1].start_s == pytest.approx(40.0 - 3 * SLOWEST_S - MARGIN_S)


def test_unheard_lines_at_both_ends_stay_inside_the_song():
    lines = ["what came first was long and slow and never heard", "hello my dear friend", "and gone"]
    alignment = align(lines, (Segment(1.0, 3.0, "hello my dear friend"),), 3.2)
    assert alignment.lines[0].start_s == 0.0
    assert alignment.lines[2].end_s == 3.2
    assert all(line.start_s <= line.end_s for line in alignment.lines)


def test_repeated_lines_are_met_in_their_order():
    heard = [
        Segment(10.0 * i, 10.0 * i + 4, text) for i, text in enumerate(["row the boat", "gently now", "row the boat"])
    ]
    alignment = align(["row the boat", "gently now", "row the boat"], heard, 30.0)
    assert [line.start_s for line in alignment.lines] == [0.0, 9.5, 19.5]


def test_lyrics_in_one_piece_are_broken_where_the_segment_changes():
    alignment = align(["Hello my dear old friend the sun is going down again"], HEARD, 60.0)
    assert [line.text for line in alignment.lines] == ["Hello my dear old friend", "the sun is going down again"]
    assert [line.start_s for line in alignment.lines] == [9.5, 39.5]


@pytest.mark.parametrize("heard", [(), (Segment(0.0, 5.0, "something else entirely"),)])
def test_lyrics_of_another_song_are_refused(heard):
    with pytest.raises(UserError, match=r"Whisper heard none of its 2; check that they belong together"):
        align(["no match"], heard, 10.0)
