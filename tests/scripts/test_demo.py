"""`make demo`: stages 1 to 5 on the demo, each in a fresh process."""

import pytest
from helpers import MODELS, load_whisper, run_script


@pytest.mark.slow
def test_demo_prints_a_score_for_each_signal(tmp_path):
    load_whisper("tiny.en")  # skips where the weights are missing
    done = run_script("tools/run_demo.py", "--work-dir", tmp_path / "demo", "--model-dir", MODELS, code=0)
    rows = [line.split() for line in done.stdout.splitlines()[-6:]]
    scores = {row[0]: float(row[-1]) for row in rows}
    assert scores == pytest.approx(
        {"row_none": 81.9, "row_mild": 69.9, "row_moderate": 39.8}
        | {"twinkle_none": 84.1, "twinkle_mild": 80.7, "twinkle_moderate": 33.0},
        abs=0.2,
    )
