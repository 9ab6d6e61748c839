"""Stage 2 as a user runs it: bad files among good ones (kills: test_kills.py, two jobs: test_compute_metrics.py)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from corpus import edit_channels, make_corpus
from helpers import run_script, write_stereo

from scow.data.tables import BASE_COLUMNS, read_table, write_table
from scow.features.whisper import Transcriber

GOOD = ("0001", "0002", "0003")


# Name of the signal -> what is done to its file, and what its reason must contain.
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "b-missing": (Path.unlink, "b-missing.flac, found none"),
    "b-truncated": (lambda path: path.write_bytes(path.read_bytes()[:40_000]), "expected a whole audio file"),
    "b-silent": (lambda path: edit_channels(path, np.zeros_like), "silent"),
    "../../escape": (lambda path: write_stereo(path), "plain file name"),
    "x" * 300: (lambda path: None, "plain file name"),
}


@pytest.mark.slow
def test_bad_files_are_listed_and_stay_empty(tmp_path: Path, tiny_en: Transcriber) -> None:
    """Three good signals, one with a silent right channel, and every kind of bad file; then the same again."""
    ids = {name if name.startswith("b-") else f"edited{i}": name for i, name in enumerate(BAD)}
    corpus = make_corpus(tmp_path / "c", dict.fromkeys([*GOOD, "half", *ids], "you know you"))
    for path in corpus.tables:  # stage 1 refuses some of the ids, but a table can be edited
        table = read_table(path)
        write_table(table.assign(signal=table["signal"].replace(ids)), path)
    edit_channels(corpus.signal("half"), lambda samples: samples * [1, 0])
    for name, (spoil, _) in BAD.items():
        spoil(corpus.signal(name))
    before = set(corpus.root.rglob("*"))
    transcripts = corpus.root / "out" / "transcripts.csv"
    done = run_script("whisper_inference.py", "--config", corpus.config, "--transcripts", transcripts, code=1)
    assert "Traceback" not in done.stderr
    assert f"\n{2 * len(BAD) + 1} could not be computed; their cells are empty:\n" in done.stderr
    reasons = [line for line in done.stderr.splitlines() if line.startswith("  ")]
    assert any(line.startswith("  half right (tiny.en): the right channel is silent") for line in reasons)
    for channel, path in zip(("left", "right"), corpus.tables, strict=True):
        table = read_table(path).set_index("signal")
        assert list(table.columns) == [*BASE_COLUMNS[1:], "tiny.en"]
        for name, (_, reason) in BAD.items():
            (line,) = [line for line in reasons if line.startswith(f"  {name} {channel} (tiny.en): ")]
            assert reason in line
        filled = [*GOOD, "half"] if channel == "left" else [*GOOD]
        assert sorted(table.index[table["tiny.en"].notna()].unique()) == filled
    rows = pd.read_csv(transcripts, dtype=str)
    assert list(rows.columns) == ["signal", "table", "model", "transcript"]
    assert len(rows) == 2 * len(GOOD) + 1
    new = {path.name for path in set(corpus.root.rglob("*")) - before if path.suffix != ".lock"}
    assert new == {"out", "transcripts.csv", "mini_l.provenance.json", "mini_r.provenance.json"}
    content = corpus.bytes()
    again = run_script("whisper_inference.py", "--config", corpus.config)
    assert (again.returncode, corpus.bytes()) == (1, content)
    assert f"tiny.en: 0 signals computed, {len(GOOD)} were there" in again.stdout
    assert sorted(line for line in again.stderr.splitlines() if line.startswith("  ")) == sorted(reasons)
