"""Score files, as this project writes them and as others do."""

import numpy as np
import pytest

from scow.data.scores import read_scores, write_scores
from scow.errors import UserError


def test_write_scores_and_read_them_back(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    write_scores(path, ["0012", "a,b", "nan"], np.array([0.1234564, 100.0, 1e-9]))
    assert path.read_bytes() == b'0012,0.123456\n"a,b",100.000000\nnan,0.000000\n'
    assert read_scores(path).scores == {"0012": 0.123456, "a,b": 100.0, "nan": 0.0}
    assert str(read_scores(path)) == f"{path}: 3 scores, no header, scale 0-100 (largest value 100)"


@pytest.mark.parametrize(
    ("text", "given", "scores", "header", "scale"),
    [
        ("signal_id,intelligibility_score\na,50\nb,7.5\n", None, {"a": 50.0, "b": 7.5}, True, "0-100"),
        ("\ufeffsignal,score\r\na,0.5\r\nb,1.0\r\n\r\n", None, {"a": 50.0, "b": 100.0}, True, "0-1"),
        ("a, 1.0001\nb ,0.0\nc,1.0", None, {"a": 1.0001, "b": 0.0, "c": 1.0}, False, "0-100"),
        ("a,0.5\nb,0.75\n", "0-100", {"a": 0.5, "b": 0.75}, False, "0-100"),
    ],
)
def test_read_scores_infers_header_and_scale(tmp_path, text, given, scores, header, scale):
    (tmp_path / "s.csv").write_text(text, encoding="utf-8", newline="")
    found = read_scores(tmp_path / "s.csv", given)
    assert (found.scores, found.header, found.scale) == (scores, header, scale)


@pytest.mark.parametrize(
    ("text", "scale", "message"),
    [
        ("", None, "empty"),
        ("signal,score\n", None, "only a header"),
        ("a,1\na,2\n", None, "found a twice"),
        *[
            (f"a,1\n{row}\n", None, f"'{row}'")
            for row in ("b,x", "b,", "b,inf", "b,nan", "b", "b,1,2", ",2", "b,1_0", "b,٣", "b,１", "b,5%")
        ],
        ("a,0.5\nb,0\nc,85\nd,0.75\n", None, "one scale, found 2 of 4 .*--scale"),
        ("a,100.5\n", None, "0-100, found 100.5 for a"),
        (b"\xff\xfe", None, "utf-8"),
    ],
)
def test_read_scores_refuses_what_cannot_be_used_in_one_line(tmp_path, text, scale, message):
    path = tmp_path / "s.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for wrong, expected in ((path, message), (tmp_path / "missing.csv", "no such file")):
        with pytest.raises(UserError, match=rf"^{wrong}: .*{expected}") as caught:
            read_scores(wrong, scale)
        assert "\n" not in str(caught.value)
