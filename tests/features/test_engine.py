"""The engine on this machine: order, one thread per worker, and workers that die."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import TESTS_PATH, Item, began, n_threads, square

from scow.errors import UserError
from scow.features.engine import Engine, open_engine

pytestmark = pytest.mark.slow


def items(folder: Path, n: int, then: dict[int, str] | None = None) -> list[Item]:
    """Numbers from 0, and what happens at some of them."""
    return [(folder, i, (then or {}).get(i, "")) for i in range(n)]


@pytest.fixture(scope="module")
def two() -> Iterator[Engine]:
    """Two workers for several tests."""
    with pytest.MonkeyPatch.context() as patch, open_engine(2) as engine:
        patch.setenv("PYTHONPATH", TESTS_PATH)
        patch.setenv("OMP_NUM_THREADS", "2")
        yield engine


def test_workers_compute_with_one_thread_and_items_that_kill_them_are_none(two: Engine, tmp_path: Path) -> None:
    assert [found for _, found in two.map(n_threads, [0, 1])] == [(1, {1})] * 2
    found = dict(two.map(square, items(tmp_path, 12, {3: "kill", 11: "kill"})))
    assert found == {i: None if i in (3, 11) else i * i for i in range(12)}
    assert os.getpid() not in dict(began(tmp_path))


def test_user_error_of_a_worker_comes_through(two: Engine, tmp_path: Path) -> None:
    try:
        with pytest.raises(UserError, match=r"^3: expected a good number, found a bad one$"):
            list(two.map(square, items(tmp_path, 20, {3: "user error", **dict.fromkeys(range(5, 20), "wait")})))
        assert len(began(tmp_path)) < 10, "the others are not computed"
    finally:
        (tmp_path / "release").touch()
