"""What is noted beside a table: by real stages, by reruns that fill gaps, and what a mismatch says."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from test_features import Corpus, make_corpus, write_pair

from scow import __version__
from scow.data.provenance import (
    ColumnProvenance,
    Source,
    differences,
    provenance_path,
    read_provenance,
    sources_of,
    write_provenance,
)
from scow.data.tables import METRIC_COLUMNS, read_table, write_table
from scow.errors import UserError
from scow.features.dnsmos import installed_model
from scow.features.measuring import LIBRARIES
from scow.features.runner import MetricOptions, StageResult, fill_metrics
from scow.io import sha256_of

TINY = Source("published", "tiny", "a" * 64)


def measure(corpus: Corpus, *, overwrite: bool = False, **options: object) -> StageResult:
    return fill_metrics(corpus.datasets(), MetricOptions(**options), overwrite=overwrite)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three signals after stage 3, one of them without files; never changed, only copied."""
    corpus = make_corpus(tmp_path_factory.mktemp("provenance") / "c", dict.fromkeys(["0001", "0002", "gone"], "you"))
    for i, name in enumerate(["0001", "0002"]):
        write_pair(corpus, name, seed=i)
    measure(corpus)
    return corpus


@pytest.fixture
def corpus(measured: Corpus, tmp_path: Path) -> Corpus:
    return measured.copy(tmp_path / "c")


def empty(path: Path, signal: str, column: str) -> None:
    table = read_table(path)
    table.loc[table["signal"] == signal, column] = np.nan
    write_table(table, path)


def test_what_a_stage_notes(measured: Corpus) -> None:
    content = json.loads((measured.root / "metadata" / "mini_l.provenance.json").read_text(encoding="utf-8"))
    assert content["format"] == "stereo-chorus-of-whispers/provenance/1"
    assert list(content["columns"]) == list(METRIC_COLUMNS)
    run = {
        "date": datetime.date.today().isoformat(),
        "device": "cpu",
        "dtype": "float32",
        "versions": {"scow": __version__, **{name: version(name) for name in LIBRARIES}},
        "signals": 2,
    }
    for column, known in content["columns"].items():
        network = column.startswith("dns")
        assert known["definition"] == "published"
        assert known["model"] == ("sig_bak_ovr" if network else None)
        assert known["sha256"] == (sha256_of(installed_model()) if network else None)
        assert known["runs"] == [run]
        assert known["unknown"] == 0
        assert list(known["failures"]) == ["gone"]
        assert "gone.flac, found none" in known["failures"]["gone"]


def test_a_rerun_that_fills_gaps_adds_to_the_runs(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(corpus, "gone", seed=9)
    monkeypatch.setattr("scow.features.tasks.__version__", "next")
    measure(corpus)
    for path in corpus.tables:
        for known in read_provenance(path).values():
            assert [(run["signals"], run["versions"]["scow"]) for run in known.runs] == [(2, __version__), (1, "next")]
            assert known.failures == {}
            assert known.unknown == 0


def test_the_same_way_on_the_same_day_is_one_run(corpus: Corpus) -> None:
    write_pair(corpus, "gone", seed=9)
    measure(corpus)
    assert [run["signals"] for run in read_provenance(corpus.tables[0])["stoi"].runs] == [3]


def test_signals_filled_before_anything_was_noted_are_unknown(corpus: Corpus) -> None:
    provenance_path(corpus.tables[0]).unlink()
    empty(corpus.tables[0], "0001", "stoi")
    measure(corpus)
    known = read_provenance(corpus.tables[0])["stoi"]
    assert known.unknown == 1
    assert [run["signals"] for run in known.runs] == [1]
    assert list(known.failures) == ["gone"]


def test_overwrite_starts_anew(corpus: Corpus) -> None:
    path = corpus.tables[0]
    other = replace(read_provenance(path)["dns_sig"], source=Source("another"), unknown=7)
    write_provenance(path, {**read_provenance(path), "dns_sig": other, "stoi": other})
    measure(corpus, quality=False, overwrite=True)
    known = read_provenance(path)
    assert known["dns_sig"] == read_provenance(corpus.tables[1])["dns_sig"]
    assert known["stoi"] == other, "not among the columns to overwrite"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"definition": "mine"}, "definition mine, now published"),
        ({"model": "other"}, "model other, now sig_bak_ovr"),
        ({"sha256": "b" * 64}, f"sha256 {'b' * 64}, now "),
    ],
)
def test_gaps_are_not_filled_with_numbers_of_another_source(corpus: Corpus, change: dict[str, str], said: str) -> None:
    path = corpus.tables[0]
    known = read_provenance(path)
    source = replace(known["dns_bak"].source, **change)
    write_provenance(path, {**known, "dns_bak": replace(known["dns_bak"], source=source)})
    empty(path, "0001", "dns_bak")
    before = path.read_bytes(), provenance_path(path).read_bytes()
    with pytest.raises(UserError, match=rf"mini_l\.csv: column dns_bak holds .*\({said}.*--overwrite"):
        measure(corpus)
    assert (path.read_bytes(), provenance_path(path).read_bytes()) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x"}', '{"format": null, "columns": {}}', "\0\0"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    table = tmp_path / "t_l.csv"
    provenance_path(table).write_text(content)
    with pytest.raises(UserError, match=r"t_l\.provenance\.json: expected the provenance of a table.*move it away$"):
        read_provenance(table)


# --- what a checkpoint keeps ------------------------------------------------------------------------------------------


def note(path: Path, **sources: Source) -> Path:
    write_provenance(path, {column: ColumnProvenance(source) for column, source in sources.items()})
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    known = {"tiny": ColumnProvenance(TINY, ({"date": "x", "signals": 2},), 3, {"0001": "silent “é”"})}
    write_provenance(tmp_path / "t.csv", known)
    assert read_provenance(tmp_path / "t.csv") == known
    assert read_provenance(tmp_path / "other.csv") == {}


def test_sources_of_several_tables(tmp_path: Path) -> None:
    left = note(tmp_path / "l.csv", tiny=TINY, stoi=Source("published"))
    right = note(tmp_path / "r.csv", tiny=TINY)
    found = sources_of([left, right, tmp_path / "none.csv"], ["tiny", "stoi", "pesq"])
    assert found == {"tiny": vars(TINY), "stoi": {"definition": "published", "model": None, "sha256": None}}
    note(right, tiny=replace(TINY, sha256="b" * 64))
    assert sources_of([left, right], ["tiny"]) == {"tiny": {**vars(TINY), "sha256": None}}
    note(right, tiny=replace(TINY, definition="mine"))
    with pytest.raises(
        UserError, match=r"r\.csv: column tiny is 'mine' of tiny, in another training table 'published'"
    ):
        sources_of([left, right], ["tiny"])


def test_differences(tmp_path: Path) -> None:
    trained_on = {"tiny": vars(TINY)}
    assert differences(note(tmp_path / "t.csv", tiny=TINY), ["tiny"], trained_on) == []
    assert differences(tmp_path / "none.csv", ["tiny"], trained_on) == []
    other_file = note(tmp_path / "t.csv", tiny=replace(TINY, sha256="b" * 64))
    (line,) = differences(other_file, ["tiny"], trained_on)
    assert "column tiny comes from other weights (sha256 bbbbbbbbbbbb) than in training (aaaaaaaaaaaa)" in line
    assert differences(other_file, ["stoi"], trained_on) == [], "a column that the checkpoint does not take"
    assert differences(other_file, ["tiny"], {}) == [], "a checkpoint of published tables"
    for change in ({"definition": "mine"}, {"model": "base"}):
        path = note(tmp_path / "t.csv", tiny=replace(TINY, **change))
        with pytest.raises(
            UserError, match=r"t\.csv: column tiny is .*, but the checkpoint was trained on 'published'"
        ):
            differences(path, ["tiny"], trained_on)
    with pytest.raises(UserError, match=r"column tiny is 'mine' of tiny, but .* 'published' of tiny; compute"):
        differences(note(tmp_path / "t.csv", tiny=replace(TINY, definition="mine")), ["tiny"], {})
