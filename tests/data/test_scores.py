"""Score files, as this project writes them and as others do."""

import numpy as np
import pytest
from helpers import REFUSALS, golden, refusal

from scow.data.scores import read_scores, write_scores


def test_write_scores_and_read_them_back(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    write_scores(path, ["0012", "a,b", "nan"], np.array([0.1234564, 100.0, 1e-9]))
    assert path.read_bytes() == b'0012,0.123456\n"a,b",100.000000\nnan,0.000000\n'
    assert read_scores(path).scores == {"0012": 0.123456, "a,b": 100.0, "nan": 0.0}
    assert str(read_scores(path)) == f"{path}: 3 scores, no header, scale 0-100 (largest value 100)"


@pytest.mark.parametrize(("text", "given", "scores", "header", "scale"), golden("scores.yaml"))
def test_read_scores_infers_header_and_scale(tmp_path, text, given, scores, header, scale):
    (tmp_path / "s.csv").write_text(text, encoding="utf-8", newline="")
    found = read_scores(tmp_path / "s.csv", given)
    assert (found.scores, found.header, found.scale) == (scores, header, scale)


WRONG = {**REFUSALS["scores"], **{f"'{row}'": [f"a,1\n{row}\n"] for row in REFUSALS["score_rows"]}}


@pytest.mark.parametrize("message", WRONG)
def test_read_scores_refuses_what_cannot_be_used_in_one_line(tmp_path, message):
    path = tmp_path / "s.csv"
    contents = [(message, text.encode()) for text in WRONG[message]]
    for expected, content in [*contents, ("utf-8", b"\xff\xfe")]:
        path.write_bytes(content)
        with refusal(rf"^{path}: .*{expected}"):
            read_scores(path)
    with refusal(rf"^{tmp_path}/missing.csv: .*no such file"):
        read_scores(tmp_path / "missing.csv")
