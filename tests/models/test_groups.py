"""scow.training.groups: what belongs together stays together."""

from __future__ import annotations

import numpy as np
import pytest

from scow.errors import UserError
from scow.models.groups import group_folds, split_by_group

GROUPS = [f"g{i}" for i in np.random.default_rng(0).integers(0, 23, 200)]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("seed", [0, 1])
def test_split_keeps_groups_whole(share, seed):
    rest, held = split_by_group(GROUPS, share, np.random.default_rng(seed))
    assert sorted([*rest, *held]) == list(range(len(GROUPS)))
    assert list(rest) == sorted(rest)
    assert list(held) == sorted(held)
    groups_rest, groups_held = {GROUPS[i] for i in rest}, {GROUPS[i] for i in held}
    assert not groups_rest & groups_held
    n = len(set(GROUPS))
    assert len(groups_held) == min(max(round(share * n), 1), n - 1)


def test_split_is_drawn_from_the_generator():
    held = {tuple(split_by_group(GROUPS, 0.2, np.random.default_rng(seed))[1]) for seed in (0, 0, 1, 2)}
    assert len(held) == 3
    # By name, not by place: another order of the signals holds out the same groups.
    turned = GROUPS[::-1]
    ours = {GROUPS[i] for i in split_by_group(GROUPS, 0.2, np.random.default_rng(0))[1]}
    assert {turned[i] for i in split_by_group(turned, 0.2, np.random.default_rng(0))[1]} == ours


@pytest.mark.parametrize("n_folds", [2, 5, 23])
def test_folds_are_a_partition_by_group(n_folds):
    folds = group_folds(GROUPS, n_folds, np.random.default_rng(4))
    assert len(folds) == n_folds
    assert sorted(np.concatenate(folds)) == list(range(len(GROUPS)))
    sets = [{GROUPS[i] for i in fold} for fold in folds]
    assert sum(map(len, sets)) == len(set(GROUPS))  # no group in two folds
    assert max(map(len, sets)) - min(map(len, sets)) <= 1
    again = group_folds(GROUPS, n_folds, np.random.default_rng(4))
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))


@pytest.mark.parametrize("n_folds", [-1, 0, 1, 24])
def test_folds_out_of_range(n_folds):
    with pytest.raises(UserError, match=f"cross_validation.folds: expected 2 to 23, .*found {n_folds}"):
        group_folds(GROUPS, n_folds, np.random.default_rng(0))


@pytest.mark.parametrize("groups", [[], ["a"], ["a", "a"]])
def test_one_group_cannot_be_split(groups):
    with pytest.raises(UserError, match=f"at least 2 prompts to split for validation, found {len(set(groups))}"):
        split_by_group(groups, 0.5, np.random.default_rng(0))


def test_folds_are_by_name_and_not_by_place():
    turned = GROUPS[::-1]
    ours = [{GROUPS[i] for i in fold} for fold in group_folds(GROUPS, 5, np.random.default_rng(1))]
    assert [{turned[i] for i in fold} for fold in group_folds(turned, 5, np.random.default_rng(1))] == ours
    other = [{GROUPS[i] for i in fold} for fold in group_folds(GROUPS, 5, np.random.default_rng(2))]
    assert other != ours
