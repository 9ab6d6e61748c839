"""The outer edge of all scripts: exit codes, one-line errors, hydra without files."""

from __future__ import annotations

import io
import signal
import sys
import time
from pathlib import Path

import pytest
from helpers import assert_user_error, run_script, start_script, wait_until
from omegaconf import OmegaConf

from scow import cli
from scow.cli import Progress, aligned, listed, report_failures
from scow.errors import SignalError, UserError
from scow.hydra_cli import outcome_of, plain_config


def raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        (lambda: 0, 0, ""),
        (lambda: 1, 1, ""),
        (
            lambda: raising(UserError("t.csv: expected this,\nfound that")),
            2,
            "error: t.csv: expected this, found that\n",
        ),
        (lambda: raising(SignalError("too short")), 2, "error: too short\n"),
        (lambda: raising(KeyboardInterrupt()), 130, "interrupted; run the same command again to go on\n"),
    ],
)
def test_run_script_exit_code_and_message(body, code, stderr, capsys):
    assert cli.run_script(body) == code
    assert capsys.readouterr() == ("", stderr)


@pytest.mark.parametrize("error", [ValueError("defect"), KeyError("defect"), SystemExit("defect")])
def test_run_script_does_not_catch_defects(error):
    with pytest.raises(type(error), match="defect"):
        cli.run_script(lambda: raising(error))


def test_run_script_ends_with_130_after_sigint(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\nfrom scow.cli import run_script\n"
        "sys.exit(run_script(lambda: print('ready', flush=True) or time.sleep(600)))\n"
    )
    with start_script(script, cwd=tmp_path) as process:
        wait_until(lambda: "ready" in process.stdout, "the script to start")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr == "interrupted; run the same command again to go on\n"


def test_report_failures(capsys):
    assert report_failures([]) == 0
    assert capsys.readouterr() == ("", "")
    assert report_failures([("0001 left", "silent"), ("0002 right", "truncated")], "failed") == 1
    assert capsys.readouterr().err == "2 failed:\n  0001 left: silent\n  0002 right: truncated\n"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (None, ()),
        (["", ","], ()),
        (["train,valid", "eval"], ("train", "valid", "eval")),
        (["train", ",", "valid", ",eval"], ("train", "valid", "eval")),
        ([" train ,valid "], ("train", "valid")),
    ],
)
def test_listed_splits_at_commas_and_spaces(values, names):
    assert listed(values) == names


def test_aligned_columns():
    assert aligned([["a", "long"], ["1", "23456"]], longest=4) == "a  long\n-  ----\n1  234…"


# --- hydra

SCRIPT = """
import sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from scow.hydra_cli import config_folder, outcome_of, plain_config, run_hydra
from scow.errors import UserError

outcomes = []

@hydra.main(version_base="1.3", config_path="checkpoints/final", config_name="config")
def main(cfg):
    outcomes.append(outcome_of(lambda: run(plain_config(cfg))))

def run(cfg):
    if cfg["value"] == 2:
        raise UserError("value: expected another, found 2")
    print(config_folder(HydraConfig.get()).name, cfg["name"], Path.cwd().name)

if __name__ == "__main__":
    sys.exit(run_hydra(main, outcomes))
"""


@pytest.fixture(scope="module")
def hydra_script(tmp_path_factory) -> Path:
    """A script with two checkpoints whose configs, as published ones, have no section ``hydra:``."""
    root = tmp_path_factory.mktemp("hydra")
    for name in ("final", "lite"):
        folder = root / "repo" / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"exp: {name}\nname: is-${{exp}}\nvalue: 0\n")
    (root / "repo" / "script.py").write_text(SCRIPT)
    (root / "elsewhere").mkdir()
    return root / "repo" / "script.py"


def test_run_hydra_works_in_the_users_folder_and_leaves_nothing_there(hydra_script):
    cwd = hydra_script.parent.parent / "elsewhere"
    done = run_script(hydra_script, cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, "final is-final elsewhere\n", "")
    done = run_script(hydra_script, "-cp", "checkpoints/lite", "name=mine", "+more=2", cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, "lite mine elsewhere\n", "")
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["value=2"], ["value: expected another, found 2"]),
        (["nosuch=3"], ["config or override: ", "nosuch"]),
        (["value=["], ["config or override: "]),
        (["name=${nosuch}"], ["config: ", "nosuch"]),
        (["-cp", "checkpoints/fina"], ["checkpoints/fina"]),
        (["-cp", "."], ["config"]),
        (["-cp", "checkpoints/lite/config.yaml"], ["config_path"]),
        (["--run", "--cfg", "job"], ["--run"]),
    ],
    ids=str,
)
def test_run_hydra_mistake_is_one_line(hydra_script, arguments, fragments):
    done = run_script(hydra_script, *arguments, cwd=hydra_script.parent.parent / "elsewhere")
    assert_user_error(done, *fragments)
    assert done.stdout == ""


def test_plain_config_resolves_interpolations():
    cfg = OmegaConf.create({"exp": "final", "train": {"save_dir": "checkpoints/${exp}"}, 3: "three"})
    assert plain_config(cfg) == {"exp": "final", "train": {"save_dir": "checkpoints/final"}, 3: "three"}
    outcome = outcome_of(lambda: plain_config(OmegaConf.create({"train": {"save_dir": "${exp_name}"}})))
    assert isinstance(outcome, UserError)
    assert "exp_name" in str(outcome)


# --- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_a_line_every_30_s_in_a_log(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        now[0] = 0.0
        monkeypatch.setattr(sys, "stderr", stream)
        progress = Progress()
        for done in (1, 2, 3, 4):
            now[0] += 16.0
            progress("transcribing", done, 4)
    assert "\rtranscribing: 100%" in terminal.getvalue()
    assert log.getvalue() == "transcribing: 2/4, 32 s\ntranscribing: 4/4, 64 s\n"
