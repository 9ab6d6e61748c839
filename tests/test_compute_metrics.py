"""Stage 3 as a user runs it: bad files among good ones, a rerun, each group alone, and wrong options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from conftest import Script, assert_user_error, write_stereo
from test_features import Corpus, run_stage
from test_whisper_inference import BAD, GOOD, Run, spoilt_corpus

from scow.tables import BASE_COLUMNS, DNSMOS_COLUMNS, METRIC_COLUMNS, QUALITY_COLUMNS, read_table, write_table


def named(columns: Sequence[str]) -> str:
    return f"({', '.join(columns)})"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """After stage 1; never changed, only copied. Besides the bad signals, three bad unprocessed files."""
    corpus = spoilt_corpus(tmp_path_factory.mktemp("stage3") / "spoilt")
    for path in corpus.tables:
        table = read_table(path)
        good = table[table["signal"] == GOOD[0]]
        more = [good.assign(signal=f"u-{kind}") for kind in ("missing", "mono", "silent")]
        write_table(pd.concat([table, *more], ignore_index=True), path)
    for kind in ("missing", "mono", "silent"):
        write_stereo(corpus.signals / f"u-{kind}.flac", 0.8, seed=4)
    write_stereo(corpus.unprocessed / "u-mono_unproc.flac", 0.8, channels=1)
    soundfile.write(corpus.unprocessed / "u-silent_unproc.flac", np.zeros((35_280, 2)), 44_100, subtype="PCM_16")
    return corpus


@pytest.fixture(scope="module")
def finished(spoilt: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    corpus = spoilt.copy(tmp_path_factory.mktemp("stage3") / "finished")
    return Run(corpus, run_stage("compute_metrics.py", "--config", corpus.config), corpus.root)


def failures_of(run: Run, name: str, ear: str) -> dict[str, str]:
    """Reasons by the columns that they name."""
    begin = f"  {name} {ear} "
    lines = [line for line in run.done.stderr.splitlines() if line.startswith(begin)]
    return {line[len(begin) :].split(": ")[0]: line for line in lines}


def test_exit_code_and_no_traceback(finished: Run) -> None:
    assert finished.done.returncode == 1, finished.done.stderr
    assert "Traceback" not in finished.done.stderr
    assert "Warning" not in finished.done.stderr


@pytest.mark.parametrize("name", BAD)
def test_bad_signals_are_listed_with_reason_and_stay_empty(finished: Run, name: str) -> None:
    for ear, path in zip(("left", "right"), finished.corpus.tables, strict=True):
        reasons = failures_of(finished, name, ear)
        assert set(reasons) == {named(METRIC_COLUMNS)}
        assert all(BAD[name][1] in reason for reason in reasons.values())
        table = read_table(path)
        assert table.loc[table["signal"] == name, list(METRIC_COLUMNS)].isna().all(axis=None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("u-missing", "u-missing_unproc.flac, found none"), ("u-mono", "expected 2 channels, found 1")],
)
def test_bad_unprocessed_file_costs_only_what_needs_it(finished: Run, name: str, reason: str) -> None:
    for ear, path in zip(("left", "right"), finished.corpus.tables, strict=True):
        reasons = failures_of(finished, name, ear)
        assert set(reasons) == {named(QUALITY_COLUMNS)}
        assert reason in reasons[named(QUALITY_COLUMNS)]
        rows = read_table(path).set_index("signal").loc[name]
        assert rows[list(QUALITY_COLUMNS)].isna().all(axis=None)
        assert rows[list(DNSMOS_COLUMNS)].notna().all(axis=None)


def test_undefined_pesq_is_the_only_empty_cell(finished: Run) -> None:
    for ear, path in zip(("left", "right"), finished.corpus.tables, strict=True):
        assert set(failures_of(finished, "u-silent", ear)) == {"(pesq)"}
        rows = read_table(path).set_index("signal").loc["u-silent", list(METRIC_COLUMNS)]
        assert rows.isna().any().to_dict() == {column: column == "pesq" for column in METRIC_COLUMNS}


def test_good_signals_and_the_good_ear_are_filled(finished: Run) -> None:
    left, right = (read_table(path).set_index("signal") for path in finished.corpus.tables)
    for table in (left, right):
        assert list(table.columns) == [*BASE_COLUMNS[1:], *METRIC_COLUMNS]
        assert table.loc[list(GOOD), list(METRIC_COLUMNS)].notna().all(axis=None)
    assert left.loc["half", list(METRIC_COLUMNS)].notna().all(axis=None)
    assert right.loc["half", list(METRIC_COLUMNS)].isna().all(axis=None)


def test_says_what_it_wrote(finished: Run) -> None:
    columns = ", ".join(METRIC_COLUMNS)
    # Good, and with some value: 0001, 0002, u-missing, u-mono, u-silent, and the left ear of half.
    assert finished.done.stdout.splitlines() == [
        f"{finished.corpus.tables[0]}: {columns}: 6 signals computed, 0 were there",
        f"{finished.corpus.tables[1]}: {columns}: 5 signals computed, 0 were there",
    ]
    count = 2 * len(BAD) + 1 + 2 * 2 + 2  # both ears; half's right ear; u-missing, u-mono; u-silent
    assert f"{count} could not be computed; their cells are empty:" in finished.done.stderr


def only_good(corpus: Corpus, folder: Path) -> Corpus:
    copy = corpus.copy(folder)
    for path in copy.tables:
        table = read_table(path)
        write_table(table[table["signal"].isin(GOOD)], path)
    return copy


def test_rerun_computes_nothing_and_leaves_the_bytes(finished: Run, tmp_path: Path) -> None:
    corpus = only_good(finished.corpus, tmp_path / "c")
    before = corpus.bytes()
    done = run_stage("compute_metrics.py", "--config", corpus.config, "--splits=mini")
    assert done.returncode == 0, done.stderr
    assert [line.split(": ")[-1] for line in done.stdout.splitlines()] == ["0 signals computed, 2 were there"] * 2
    assert corpus.bytes() == before


@pytest.mark.parametrize(("flag", "columns"), [("--quality", QUALITY_COLUMNS), ("--dns", DNSMOS_COLUMNS)])
def test_one_group_and_one_dataset(
    finished: Run, spoilt: Corpus, tmp_path: Path, flag: str, columns: tuple[str, ...]
) -> None:
    corpus = only_good(spoilt, tmp_path / "c")
    before = corpus.tables[0].read_bytes()
    done = run_stage("compute_metrics.py", "--config", corpus.config, flag, "--datasets", "signal_mini_right")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{corpus.tables[1]}: {', '.join(columns)}: 2 signals computed, 0 were there\n"
    assert corpus.tables[0].read_bytes() == before
    table = read_table(corpus.tables[1])
    assert list(table.columns) == [*BASE_COLUMNS, *columns]
    expected = read_table(finished.corpus.tables[1])
    expected = expected[expected["signal"].isin(GOOD)].reset_index(drop=True)
    # 1e-9: pystoi adds noise of one float64 epsilon to eSTOI.
    pd.testing.assert_frame_equal(table, expected[list(table.columns)], rtol=0, atol=1e-9)


def test_defaults_of_the_config(spoilt: Corpus, tmp_path: Path) -> None:
    corpus = only_good(spoilt, tmp_path / "c")
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    content["metrics"] = {"quality": False, "default_datasets": ["signal_mini_left"]}
    corpus.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = run_stage("compute_metrics.py", "--config", corpus.config)
    assert done.stdout == f"{corpus.tables[0]}: {', '.join(DNSMOS_COLUMNS)}: 2 signals computed, 0 were there\n"


@pytest.mark.parametrize(
    ("metrics", "arguments", "fragments"),
    [
        ({}, ("--splits=min",), ("no split 'min'", "did you mean mini?")),
        ({}, ("--datasets", "min_left"), ("no dataset 'min_left'", "did you mean mini_left")),
        ({"dnsmos_model": "gone.onnx"}, (), ("metrics.dnsmos_model: expected an ONNX file at", "gone.onnx")),
        ({"dnsmos_model": "feature_config.yaml"}, ("--dns",), ("cannot be loaded as an ONNX model",)),
        ({"quality": False, "dns": False}, (), ("expected metrics to compute",)),
        ({"default_datasets": ["evl"]}, (), ("no dataset 'evl'",)),
    ],
)
def test_wrong_options_are_one_line(
    run_script_file: Script,
    spoilt: Corpus,
    tmp_path: Path,
    metrics: dict[str, object],
    arguments: tuple[str, ...],
    fragments: tuple[str, ...],
) -> None:
    corpus = only_good(spoilt, tmp_path / "c")
    content = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    corpus.config.write_text(yaml.safe_dump({**content, "metrics": metrics}), encoding="utf-8")
    before = corpus.bytes()
    assert_user_error(run_script_file("compute_metrics.py", "--config", corpus.config, *arguments), *fragments)
    assert corpus.bytes() == before
