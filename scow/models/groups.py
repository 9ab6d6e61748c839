"""Splits of signals that keep groups whole.

The three hearing losses of an excerpt share their lyrics and their music, and so do the excerpts of a track. A split
that separates them measures memory, not prediction. Groups are names: a prompt's text or a track's id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scow.errors import expect


def split_by_group(groups: Sequence[str], share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of (rest, held out), ascending; `share` of the groups is held out, at least one is on each side."""
    names = sorted(set(groups))
    expect(len(names) >= 2, "train.val_split", "signals of at least 2 prompts to split", len(names))
    n_held = min(max(round(share * len(names)), 1), len(names) - 1)
    held = [names[i] for i in rng.permutation(len(names))[:n_held]]
    outside = np.isin(np.array(groups), held)
    return np.flatnonzero(~outside), np.flatnonzero(outside)


def group_folds(groups: Sequence[str], n_folds: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of each fold, folds of about the same number of groups."""
    names = sorted(set(groups))
    expected = f"2 to {len(names)}, the number of groups"
    expect(2 <= n_folds <= len(names), "cross_validation.folds", expected, n_folds)
    fold_of = {names[i]: place % n_folds for place, i in enumerate(rng.permutation(len(names)))}
    folds = np.array([fold_of[group] for group in groups])
    return [np.flatnonzero(folds == fold) for fold in range(n_folds)]
