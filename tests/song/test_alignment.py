"""scow.song.alignment: times for lyrics without times, from invented segments of a transcript (alignment.yaml)."""

import pytest
from helpers import golden, refusal

from scow.features.whisper import Segment
from scow.song.alignment import align

GOLDEN = golden("alignment.yaml")


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_align(name):
    case = GOLDEN["cases"][name]
    segments = [Segment(*segment) for segment in case.get("segments", GOLDEN["segments"])]
    lines, matched = align(case["lyrics"], segments, case.get("song_s", 60.0))
    texts = [text or lyrics for (_, _, text, _), lyrics in zip(case["lines"], case["lyrics"] * 2, strict=False)]
    assert [line.text for line in lines] == texts
    assert sum(matched) == sum(n for *_, n in case["lines"])
    for line, (start, end, *_) in zip(lines, case["lines"], strict=True):
        assert start is None or line.start_s == pytest.approx(start)
        assert end is None or line.end_s == pytest.approx(end)
        assert line.start_s <= line.end_s


@pytest.mark.parametrize("segments", [(), (Segment(0.0, 5.0, "something else entirely"),)])
def test_align_refuses_lyrics_of_another_song(segments):
    with refusal("none of its 2"):
        align(["no match"], segments, 10.0)
