"""scow.models.groups: groups stay whole."""

import numpy as np
import pytest

from scow.errors import UserError
from scow.models.groups import group_folds, split_by_group

GROUPS = [f"g{i}" for i in np.random.default_rng(0).integers(0, 23, 200)]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_split_by_group(share):
    rest, held = split_by_group(GROUPS, share, np.random.default_rng(0))
    assert sorted([*rest, *held]) == list(range(len(GROUPS)))
    groups_held = {GROUPS[i] for i in held}
    assert not groups_held & {GROUPS[i] for i in rest}
    n = len(set(GROUPS))
    assert len(groups_held) == min(max(round(share * n), 1), n - 1)
    turned = GROUPS[::-1]  # by name: another order of the signals holds out the same groups
    assert {turned[i] for i in split_by_group(turned, share, np.random.default_rng(0))[1]} == groups_held
    assert {GROUPS[i] for i in split_by_group(GROUPS, share, np.random.default_rng(1))[1]} != groups_held


@pytest.mark.parametrize("n_folds", [2, 5, 23])
def test_group_folds(n_folds):
    folds = group_folds(GROUPS, n_folds, np.random.default_rng(4))
    assert sorted(np.concatenate(folds)) == list(range(len(GROUPS)))
    sets = [{GROUPS[i] for i in fold} for fold in folds]
    assert sum(map(len, sets)) == len(set(GROUPS))  # no group in two folds
    assert max(map(len, sets)) - min(map(len, sets)) <= 1
    turned = GROUPS[::-1]
    assert [{turned[i] for i in fold} for fold in group_folds(turned, n_folds, np.random.default_rng(4))] == sets


def test_too_few_groups():
    for n_folds in (-1, 0, 1, 24):
        with pytest.raises(UserError, match=f"cross_validation.folds: expected 2 to 23, .*found {n_folds}"):
            group_folds(GROUPS, n_folds, np.random.default_rng(0))
    with pytest.raises(UserError, match="at least 2 prompts"):
        split_by_group(["a", "a"], 0.5, np.random.default_rng(0))
