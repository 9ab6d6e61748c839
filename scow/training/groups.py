"""Splitting signals so that what belongs together stays together.

The three severities of an excerpt share their lyrics and their music, and so do the excerpts of a track. A split that
tears them apart measures memory, not prediction. Groups are names: a prompt's text or a track's id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scow.errors import UserError


def split_by_group(groups: Sequence[str], share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split into (rest, held out) so that each group is on one side.

    Parameters
    ----------
    groups : sequence of str, length n
    share : float
        Share of the groups to hold out; at least one group is on each side.
    rng : Generator

    Returns
    -------
    tuple of ndarray
        Indices, ascending.

    Raises
    ------
    UserError
        Fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise UserError(
            f"expected signals of at least 2 prompts to split for validation, found {len(names)}; add signals"
        )
    n_held = min(max(round(share * len(names)), 1), len(names) - 1)
    held = {names[i] for i in rng.permutation(len(names))[:n_held]}
    outside = np.array([group in held for group in groups])
    return np.flatnonzero(~outside), np.flatnonzero(outside)


def group_folds(
    groups: Sequence[str], n_folds: int, rng: np.random.Generator, setting: str = "cross_validation.folds"
) -> list[np.ndarray]:
    """Indices of each fold, every group whole in one of them, folds of about the same number of groups.

    Parameters
    ----------
    groups : sequence of str, length n
    n_folds : int
    rng : Generator
    setting : str
        What `n_folds` is called in the config, for the error message.

    Raises
    ------
    UserError
        Fewer groups than folds.
    """
    names = sorted(set(groups))
    if not 2 <= n_folds <= len(names):
        raise UserError(f"{setting}: expected 2 to {len(names)} (the number of groups), found {n_folds}; mend it")
    fold_of = {names[i]: place % n_folds for place, i in enumerate(rng.permutation(len(names)))}
    folds = np.array([fold_of[group] for group in groups])
    return [np.flatnonzero(folds == fold) for fold in range(n_folds)]
