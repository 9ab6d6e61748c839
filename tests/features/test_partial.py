"""Partial results: what is appended is there after a kill, damage costs only itself, and results merge."""

import re
import tempfile
from pathlib import Path

import pytest
from helpers import REFUSALS
from hypothesis import given
from hypothesis import strategies as st

from scow.features.partial import ChannelResult, append_partial, merge_results, read_partial, start_partial

HEADING = {"words": "abc", "overwrite": []}
CHUNKS = [
    [ChannelResult(signal, channel, {"stoi": 0.1}, {"pesq": "silent “é”"}) for channel in ("left", "right")]
    for signal in "abc"
]
ALL = [result for chunk in CHUNKS for result in chunk]


def three_chunks(folder: Path) -> Path:
    """A file of three chunks."""
    path = folder / "t_l.both.metrics.partial.jsonl"
    path.unlink(missing_ok=True)
    assert start_partial(path, HEADING) == []
    for chunk in CHUNKS:
        append_partial(path, chunk)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return three_chunks(tmp_path)


def test_torn_last_line_is_cut_off_at_every_byte(path: Path) -> None:
    content = path.read_bytes()
    last = content[:-1].rindex(b"\n") + 1
    for end in (last, last + 1, (last + len(content)) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        assert start_partial(path, HEADING) == ALL[:4]
        append_partial(path, CHUNKS[2])
        assert read_partial(path) == (HEADING, ALL)


DAMAGE = [b"\xff\xfe", b"\0" * 40, b"null", b"[" * 100_000, b"[0, []]", b'[{"signal": "x", "channel": "left"}]']


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_line_costs_only_its_own_results(path: Path, damage: bytes) -> None:
    heading, kept, first, second, third, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([heading, kept, first, damage, third, b""]))
    assert start_partial(path, HEADING) == ALL[:2] + ALL[4:]
    path.write_bytes(b"\n".join([damage, kept, first, second, b""]))
    assert start_partial(path, HEADING) == []


@pytest.mark.parametrize("values", REFUSALS["partial"], ids=str)
def test_whole_line_with_other_values_is_left_out(path: Path, values: dict) -> None:
    append_partial(path, [ChannelResult("c", "left", values)])
    assert start_partial(path, HEADING) == ALL


@given(st.data())
def test_line_with_any_digit_changed_is_left_out(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = three_chunks(Path(folder))
        content = path.read_bytes()
        where = data.draw(st.sampled_from([found.start() for found in re.finditer(rb"\d", content)]))
        digit = data.draw(st.sampled_from(sorted(set(b"0123456789") - {content[where]})))
        path.write_bytes(content[:where] + bytes([digit]) + content[where + 1 :])
        i_line = content[:where].count(b"\n")  # after the heading and what was kept, three chunks
        chunks = CHUNKS[: max(0, i_line - 2)] + CHUNKS[max(0, i_line - 1) :] if i_line else []
        assert start_partial(path, HEADING) == [result for chunk in chunks for result in chunk]


def test_merge_keeps_the_last_value_and_a_reason_only_where_there_is_no_value() -> None:
    first = ChannelResult("1", "left", {"stoi": 0.5}, {"estoi": "no file", "pesq": "no file"}, {"date": "monday"})
    second = ChannelResult("1", "left", {"stoi": 0.6, "estoi": 0.7}, {"pesq": "silent"}, {"date": "tuesday"})
    other = ChannelResult("1", "right", failures={"stoi": "no file"})
    assert merge_results([first, other, second]) == {("1", "left"): second, ("1", "right"): other}
