"""Sweeps: the table and the folders, and train.py --multirun as a user runs it."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import HEARD_COLUMNS, ROOT, assert_user_error, make_heard_tables, make_tables
from test_train import SMALL, start, training_tables

from scow.errors import UserError
from scow.io import read_yaml
from scow.models.checkpoint import load_checkpoint
from scow.models.transformer import TransformerConfig
from scow.training.cross_validation import CrossValidation
from scow.training.fit_transformer import Epoch, Fit
from scow.training.sweep import COLUMNS, Figures, Sweep, figures_of, folder_name, inputs_of, read_rows, write_row
from scow.training.train import Trained


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """In the scripts: two of them run at once, and a thread each is all that two cores have."""
    variable = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    del os.environ["OMP_NUM_THREADS"]
    if variable is not None:
        os.environ["OMP_NUM_THREADS"] = variable


def row(folder: str, **values: str) -> dict[str, str]:
    return {**dict.fromkeys(COLUMNS, ""), "folder": folder, **values}


# --- folders


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["seed=1"], "seed=1"),
        (["seed=-1", "model.c=1e-05"], "model.c=1e-05,seed=-1"),
        (["+train.folds=2"], "+train.folds=2"),
    ],
)
def test_a_folder_is_named_after_its_overrides_in_alphabetical_order(overrides, name):
    assert folder_name(overrides) == folder_name(reversed(overrides)) == name


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.csv_path_l=../../elsewhere/t.csv"],
        ["data.csv_path_l=/t.csv"],
        ["model.without=[prior,ear]"],
        ["exp='a b'"],
        ["exp=é"],
        [f"data.feature_cols={'x' * 300}"],
    ],
)
def test_what_is_awkward_in_a_name_is_replaced_and_told_apart_by_a_hash(overrides):
    name = folder_name(overrides)
    assert re.fullmatch(r"[A-Za-z0-9_.=,+-]+-[0-9a-f]{8}", name)
    assert len(name) <= 109
    assert name != folder_name([overrides[0].replace("=", "=/")])


# --- the table


def test_rows_are_added_replaced_and_given_the_columns_of_all(tmp_path):
    path = tmp_path / "new" / "sweep.csv"
    assert read_rows(path) == []
    write_row(path, {"seed": "1", **row("a", rmse="25.1", exit_code="0")})
    write_row(path, {"seed": "2", **row("b", reason="not finished")})
    write_row(path, {"c": "0.1", **row("c", rmse="26")})
    write_row(path, {"seed": "2", **row("b", exit_code="2", reason="seed: expected this, found that")})
    write_row(path, {"seed": "1", **row("a", figures="cross-validated", rmse="27", exit_code="0")})
    with path.open(encoding="utf-8", newline="") as handle:
        header, *rows = list(csv.reader(handle))
    assert header == ["seed", "c", *COLUMNS]
    assert rows == [
        ["1", "", "", "25.1", "", "0", "", "a", ""],
        ["2", "", "", "", "", "2", "seed: expected this, found that", "b", ""],
        ["", "0.1", "", "26", "", "", "", "c", ""],
        ["1", "", "cross-validated", "27", "", "0", "", "a", ""],
    ]
    assert [path.name for path in path.parent.iterdir()] == ["sweep.csv"]


@pytest.mark.parametrize("content", [b"", b"signal,word\n1,la\n", b"\xff\xfe\x00"])
def test_another_file_in_the_place_of_the_table_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "sweep.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"sweep\.csv: expected the table of a sweep, .* found another file"):
        write_row(path, row("a"))
    assert path.read_bytes() == content


def test_a_table_that_a_spreadsheet_has_saved_is_read(tmp_path):
    path = tmp_path / "sweep.csv"
    write_row(path, {"seed": "1", **row("a")})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(path) == [{"seed": "1", **row("a")}]


# --- figures


def trained(*kept: tuple[float, float | None]) -> Trained:
    epochs = [Epoch(1, 0.1, 20.0, rmse, r) for rmse, r in kept]
    fits = tuple(Fit(None, (epoch,), epoch) for epoch in epochs)  # type: ignore[arg-type]
    return Trained(Path(), None, fits, None)  # type: ignore[arg-type]


def test_figures_of_a_network_are_those_of_the_epochs_that_were_kept():
    assert figures_of(trained((26.5, 0.7))) == Figures("validation", 26.5, 0.7)
    assert figures_of(trained((26.0, 0.5), (28.0, 0.75))) == Figures("validation", 27.0, 0.625)
    assert figures_of(trained((26.0, 0.5), (28.0, None))) == Figures("validation", 27.0, None)


def test_figures_of_a_cross_validation_are_means_over_repeats():
    truth = np.array([0.0, 50.0, 100.0])
    scores = np.array([truth + 3, truth - [0, 5, 5]])  # errors 3 and sqrt(50 / 3); r 1 and 97.5 / sqrt(..), by hand
    result = CrossValidation(scores, np.zeros((2, 3), int), None, truth, np.zeros(3, int), ("a", "b", "c"))
    found = figures_of(result)
    assert found.kind == "cross-validated"
    assert found.rmse == pytest.approx((3 + np.sqrt(50 / 3)) / 2)
    assert found.r == pytest.approx((1 + np.corrcoef(scores[1], truth)[0, 1]) / 2)


# --- what a run depends on


def test_the_hash_changes_with_config_and_content_and_with_nothing_else(tmp_path):
    left, right = make_tables(tmp_path, 6)
    data = {"csv_path_l": str(left), "csv_path_r": str(right), "feature_cols": ["tiny.en"]}
    config = {"exp_name": "x", "seed": 1, "data": data, "train": {"save_dir": "out"}}
    before = inputs_of(config)
    os.utime(left)
    assert inputs_of(config | {"seed": 1}) == before
    assert inputs_of(config | {"seed": 2}) != before
    assert inputs_of(config | {"data": data | {"feature_cols": ["stoi"]}}) != before
    right.write_bytes(right.read_bytes() + b"\n")
    assert inputs_of(config) != before
    right.unlink()
    assert len(inputs_of(config)) == 16  # that a table is missing is for the run to say
    with pytest.raises(UserError, match="seed: expected 0 or a positive number, found -1"):
        inputs_of(config | {"seed": -1})


# --- train.py --multirun


def word_tables(folder: Path) -> list[str]:
    (left, right), metadata = make_heard_tables(folder, 36)
    return [
        *(f"data.csv_path_l={left}", f"data.csv_path_r={right}", f"data.metadata={metadata}"),
        *("data.prior_metadata=null", f"data.feature_cols=[{','.join(HEARD_COLUMNS)}]"),
    ]


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def word_sweep(tmp_path_factory) -> tuple[Path, dict[str, subprocess.CompletedProcess], dict[str, list]]:
    """The default model: a sweep of which one run fails; again, one run's hash being another; cross-validated."""
    folder = tmp_path_factory.mktemp("words")
    arguments = ["-m", *word_tables(folder / "data"), "seed=1,-1,2"]
    sweep = folder / "checkpoints" / "final_sweep"
    done, kept = {}, {}

    def run(name: str, *more: str) -> None:
        done[name] = start("train.py", *arguments, *more, cwd=folder)
        kept[f"{name} times"] = [(sweep / f"seed={seed}" / "model.pt").stat().st_mtime_ns for seed in (1, 2)]
        kept[name] = read_rows(sweep / "sweep.csv")

    run("first")
    write_row(sweep / "sweep.csv", kept["first"][2] | {"inputs": "0123456789abcdef", "rmse": "1.0"})
    run("again")
    run("cv", "cv=true", "cross_validation.folds=3", "cross_validation.repeats=1")
    return folder, done, kept


def test_each_run_has_its_folder_and_its_row_and_a_failing_one_is_listed(word_sweep):
    folder, done, kept = word_sweep
    first = done["first"]
    assert first.returncode == 1, first.stderr
    rows = kept["first"]
    assert [(row["seed"], row["exit_code"]) for row in rows] == [("1", "0"), ("-1", "2"), ("2", "0")]
    assert [row["folder"] for row in rows] == [f"checkpoints/final_sweep/seed={seed}" for seed in (1, -1, 2)]
    assert [row["figures"] for row in rows] == ["out of fold", "", "out of fold"]
    assert (rows[1]["rmse"], rows[1]["r"]) == ("", "")
    assert rows[1]["reason"] == "seed: expected 0 or a positive number, found -1; mend it"
    for one in (rows[0], rows[2]):
        facts = load_checkpoint(folder / one["folder"] / "model.pt", TransformerConfig(), HEARD_COLUMNS).facts
        assert str(facts["seed"]) == one["seed"]
        assert float(one["rmse"]) == pytest.approx(facts["out_of_fold"]["rmse"], abs=5e-7)
        assert float(one["r"]) == pytest.approx(facts["out_of_fold"]["r"], abs=5e-7)
        assert one["reason"] == ""
    assert rows[0]["rmse"] != rows[2]["rmse"]


def test_the_end_of_a_sweep_is_its_table_and_what_failed(word_sweep):
    _, done, kept = word_sweep
    *_, header, one, failed, two, wrote = done["first"].stdout.splitlines()
    assert header.split() == ["seed", "figures", "rmse", "r", "exit_code", "folder"]
    for line, of in ((one, kept["first"][0]), (two, kept["first"][2])):
        figures = [f"{float(of['rmse']):.2f}", f"{float(of['r']):.3f}", "0", of["folder"]]
        assert line.split() == [of["seed"], "out", "of", "fold", *figures]
    assert failed.split() == ["-1", "2", "checkpoints/final_sweep/seed=-1"]
    assert wrote == "wrote checkpoints/final_sweep/sweep.csv"
    assert done["first"].stderr.splitlines() == [
        "1 could not be computed; their cells are empty:",
        "  checkpoints/final_sweep/seed=-1: seed: expected 0 or a positive number, found -1; mend it",
    ]


def test_a_sweep_leaves_nothing_but_checkpoints_and_its_table(word_sweep):
    folder, _, _ = word_sweep
    made = ("config.yaml", "cross_validation.json", "model.pt")
    expected = [f"checkpoints/final_sweep/seed={seed}/{name}" for seed in (1, 2) for name in made]
    assert [path for path in tree(folder) if not path.startswith("data/")] == [
        *expected,
        "checkpoints/final_sweep/sweep.csv",
    ]
    assert not (folder / "checkpoints" / "final_sweep" / "seed=-1").exists()


def test_the_same_sweep_again_trains_only_what_has_changed_and_gives_the_same(word_sweep):
    _, done, kept = word_sweep
    assert done["again"].returncode == 1
    lines = done["again"].stdout.splitlines()
    assert lines[:2] == ["run 1: seed=1 -> checkpoints/final_sweep/seed=1", "done before, not run again"]
    assert lines.count("done before, not run again") == 1
    assert kept["again times"][0] == kept["first times"][0]
    assert kept["again times"][1] > kept["first times"][1]
    assert kept["again"] == kept["first"]
    assert lines[-5:] == done["first"].stdout.splitlines()[-5:]


def test_cross_validated_figures_join_the_table(word_sweep):
    folder, done, kept = word_sweep
    assert done["cv"].returncode == 1
    assert kept["cv times"] == kept["again times"]
    assert kept["cv"][:3] == kept["first"]
    rows = kept["cv"][3:]
    assert [(row["seed"], row["figures"], row["exit_code"]) for row in rows] == [
        ("1", "cross-validated", "0"),
        ("-1", "cross-validated", "2"),
        ("2", "cross-validated", "0"),
    ]
    for one in (rows[0], rows[2]):
        written = read_yaml(folder / one["folder"] / "cross_validation.json")  # JSON is YAML
        assert float(one["rmse"]) == pytest.approx(written["rmse"], abs=5e-7)
        assert float(one["r"]) == pytest.approx(written["r"], abs=5e-7)


def test_a_run_of_a_sweep_equals_the_plain_run_and_infer_takes_its_folder(tmp_path, run_script_file):
    """Two keys, the published network, options among the overrides; the plain run still has the folder it had."""
    option, folder, *tables = training_tables(tmp_path)
    common = [*tables, *SMALL, "train.epochs=2"]
    swept = ["--multirun", "seed=3,4", option, folder, "train.lr=0.01,0.001"]
    with ThreadPoolExecutor(2) as pool:
        jobs = [[*common, *swept], [option, folder, *common, "seed=4", "train.lr=0.001"]]
        sweep, plain = pool.map(lambda job: start("train.py", *job, cwd=tmp_path), jobs)
    assert (sweep.returncode, plain.returncode) == (0, 0), sweep.stderr + plain.stderr
    names = [f"seed={seed},train.lr={lr}" for lr in ("0.01", "0.001") for seed in (3, 4)]
    base = tmp_path / "checkpoints" / "published_sweep"
    assert sorted(path.name for path in base.iterdir()) == sorted([*names, "sweep.csv"])
    rows = read_rows(base / "sweep.csv")
    assert [f"seed={row['seed']},train.lr={row['train.lr']}" for row in rows] == names
    assert {row["figures"] for row in rows} == {"validation"}
    assert (base / names[3] / "train_log.csv").read_bytes() == (
        tmp_path / "checkpoints" / "published" / "train_log.csv"
    ).read_bytes()
    assert f"validation RMSE {float(rows[3]['rmse']):.2f}, r" in plain.stdout.splitlines()[-1]
    config = read_yaml(base / names[1] / "config.yaml")
    assert (config["seed"], config["train"]["lr"]) == (4, 0.01)
    assert config["train"]["save_dir"] == f"checkpoints/published_sweep/{names[1]}"
    paths = [f"data.valid_path_{side}={tmp_path / f't_{side}.csv'}" for side in "lr"]
    done = run_script_file("infer.py", "-cp", base / names[1], *paths, "infer.splits=[valid]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (base / names[1] / "valid_inference.csv").is_file()
    assert not (tmp_path / "checkpoints" / "published" / "valid_inference.csv").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1,2", "train.save_dir=out"], r"^train\.save_dir: .* own folder; use hydra\.sweep\.dir instead$"),
        (["train.save_dir=a,b"], r"^train\.save_dir: .* own folder; use hydra\.sweep\.dir instead$"),
        (["exp_name=a,b"], r"^exp_name: expected one value"),
        (["seed=1,2", "hydra/launcher=basic"], r"^hydra/launcher: the runs of a sweep go one after another"),
    ],
)
def test_what_a_sweep_cannot_have_is_refused_before_anything_is_done(overrides, message):
    with pytest.raises(UserError, match=message):
        Sweep().defaults(overrides)


MISTAKES = {
    "unknown key": (["train.lrr=1,2"], ["config or override: ", "train.lrr"]),
    "a file": (
        ["seed=1,2", "hydra.sweep.dir=data/t_l.csv"],
        ["cannot write data/t_l.csv: ", "another hydra.sweep.dir"],
    ),
    "infer.py": (["infer.splits=[valid],[eval]"], ["--multirun: only train.py sweeps; run infer.py once per"]),
}
LATER_MISTAKES = {
    "all alike": (["seed=1,2", "data.csv_path_l=gone.csv"], ["gone.csv: expected a feature table"]),
    "not ours": (
        ["seed=1,2", "hydra.sweep.dir=shipped", "hydra.sweep.subdir=final"],
        ["shipped/final: holds a checkpoint that is not in shipped/sweep.csv; choose another hydra.sweep.dir"],
    ),
    "one folder": (
        ["seed=1,2", "hydra.sweep.dir=out", "hydra.sweep.subdir=one"],
        ["hydra.sweep.subdir: out/one is the folder of two runs"],
    ),
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory) -> tuple[Path, dict[str, subprocess.CompletedProcess]]:
    """All mistakes at once, two at a time, because starting a script takes seconds."""
    folder = tmp_path_factory.mktemp("mistakes")
    right = word_tables(folder / "data")
    (folder / "shipped" / "final").mkdir(parents=True)
    (folder / "shipped" / "final" / "model.pt").write_bytes(b"weights")
    every = MISTAKES | LATER_MISTAKES

    def run(name: str) -> subprocess.CompletedProcess:
        return start(name if name == "infer.py" else "train.py", "-m", *right, *every[name][0], cwd=folder)

    with ThreadPoolExecutor(2) as pool:
        return folder, dict(zip(every, pool.map(run, every), strict=True))


@pytest.mark.parametrize("name", [*MISTAKES, *LATER_MISTAKES])
def test_mistake_in_a_whole_sweep_is_one_line(mistaken, name):
    _, done = mistaken
    assert_user_error(done[name], *(MISTAKES | LATER_MISTAKES)[name][1])
    if name in MISTAKES:
        assert done[name].stdout == ""


def test_a_mistaken_sweep_leaves_what_others_made_and_nothing_of_its_own(mistaken):
    folder, _ = mistaken
    assert [path for path in tree(folder) if not path.startswith("data/")] == [
        "checkpoints/final_sweep/sweep.csv",  # with the reason of "all alike"
        "out/one/config.yaml",
        "out/one/model.pt",
        "out/sweep.csv",
        "shipped/final/model.pt",
    ]
    assert (folder / "shipped" / "final" / "model.pt").read_bytes() == b"weights"
    assert [row["exit_code"] for row in read_rows(folder / "checkpoints/final_sweep/sweep.csv")] == ["2", "2"]


def test_a_defect_in_one_run_is_shown_and_listed_and_the_others_go_on(tmp_path):
    """A run whose training raises what no user can mend."""
    tables = word_tables(tmp_path / "data")
    code = (
        "import runpy, sys\n"
        "import scow.training.train\n"
        "real = scow.training.train.train\n"
        "def broken(config, **options):\n"
        "    if config.seed == 1:\n"
        "        raise RuntimeError('no such\\nthing')\n"
        "    return real(config, **options)\n"
        "scow.training.train.train = broken\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "-m", *tables, "seed=1,2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    rows = read_rows(tmp_path / "checkpoints" / "final_sweep" / "sweep.csv")
    assert [(row["exit_code"], row["reason"]) for row in rows] == [("1", "RuntimeError: no such thing"), ("0", "")]
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("seed=1: RuntimeError: no such thing")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_keeps_its_rows_and_goes_on(tmp_path, how):
    """The second run would take hours; it is stopped as soon as it trains."""
    option, folder, *tables = training_tables(tmp_path)
    arguments = [option, folder, *tables, *SMALL, "-m", "seed=1"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments, "train.epochs=1,1000000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert any(line.startswith("epoch 10:") for line in process.stdout)
        process.send_signal(how)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    sweep = tmp_path / "checkpoints" / "published_sweep"
    short, long = read_rows(sweep / "sweep.csv")
    assert (short["train.epochs"], short["exit_code"], short["figures"]) == ("1", "0", "validation")
    assert (long["train.epochs"], long["exit_code"], long["reason"]) == ("1000000", "", "not finished")
    assert not (sweep / "train.epochs=1000000" / "model.pt").exists()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors == "interrupted; run the same command again to go on\n"
        return
    done = start("train.py", *arguments, "train.epochs=1,2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done before, not run again") == 1
    rows = read_rows(sweep / "sweep.csv")
    assert rows[:2] == [short, long]
    assert (rows[2]["train.epochs"], rows[2]["exit_code"]) == ("2", "0")
    assert not (sweep / "multirun.yaml").exists()
