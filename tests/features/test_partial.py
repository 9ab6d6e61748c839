"""Partial results: what is appended is there after a kill, damage costs only itself, and results merge."""

from __future__ import annotations

from pathlib import Path

import pytest

from scow.features.partial import ChannelResult, append_partial, merge_results, read_partial, start_partial

HEADING = {"words": "abc", "overwrite": []}
CHUNKS = [
    [ChannelResult(signal, channel, {"stoi": 0.1}, {"pesq": "silent “é”"}) for channel in ("left", "right")]
    for signal in "abc"
]
ALL = [result for chunk in CHUNKS for result in chunk]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of three chunks."""
    path = tmp_path / "t_l.both.metrics.partial.jsonl"
    assert start_partial(path, HEADING) == []
    for chunk in CHUNKS:
        append_partial(path, chunk)
    return path


def test_torn_last_line_is_cut_off_at_every_byte(path: Path) -> None:
    content = path.read_bytes()
    last = content[:-1].rindex(b"\n") + 1
    for end in (last, last + 1, (last + len(content)) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        assert start_partial(path, HEADING) == ALL[:4]
        append_partial(path, CHUNKS[2])
        assert read_partial(path) == (HEADING, ALL)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"\0" * 40, b"null", b'[{"signal": "x", "other": 1}]', b'["x"]'])
def test_damaged_line_costs_only_its_own_results(path: Path, damage: bytes) -> None:
    heading, kept, first, second, third, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([heading, kept, first, damage, third, b""]))
    assert start_partial(path, HEADING) == ALL[:2] + ALL[4:]
    path.write_bytes(b"\n".join([damage, kept, first, second, b""]))
    assert start_partial(path, HEADING) == []


def test_merge_keeps_the_last_value_and_a_reason_only_where_there_is_no_value() -> None:
    first = ChannelResult("1", "left", {"stoi": 0.5}, {"estoi": "no file", "pesq": "no file"}, {"date": "monday"})
    second = ChannelResult("1", "left", {"stoi": 0.6, "estoi": 0.7}, {"pesq": "silent"}, {"date": "tuesday"})
    other = ChannelResult("1", "right", failures={"stoi": "no file"})
    assert merge_results([first, other, second]) == {("1", "left"): second, ("1", "right"): other}
