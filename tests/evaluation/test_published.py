"""The official figures: one place in the library, and the README says the same."""

from __future__ import annotations

import re

from helpers import ROOT

from scow.evaluation.clip1_results import CLIP1_RESULTS


def test_readme_says_the_same() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|*]+?) \| (\d\d\.\d\d) \| (\d\d\.\d\d) \| (0\.\d\d) \|", readme, flags=re.M)
    said = {name.split(",")[0]: tuple(map(float, figures)) for name, *figures in rows}
    ours = {r.system.split(",")[0]: (r.valid_rmse, r.eval_rmse, r.eval_r) for r in CLIP1_RESULTS}
    assert len(ours) == 8
    assert said == ours


def test_figures_by_split() -> None:
    first = CLIP1_RESULTS[0]
    assert [first.rmse(split) for split in ("valid", "eval", "demo")] == [25.89, 26.44, None]
