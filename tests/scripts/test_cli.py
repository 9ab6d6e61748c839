"""The outer edge of all scripts: exit codes, one-line errors, and hydra kept quiet."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import assert_user_error
from omegaconf import OmegaConf

from scow.cli import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PARTIAL,
    ShowProgress,
    TaskDone,
    listed,
    plain_config,
    report_failures,
    run_script,
)
from scow.errors import SignalError, UserError

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def raising(error: BaseException) -> int:
    raise error


# --- exit codes


@pytest.mark.parametrize("code", [EXIT_OK, EXIT_PARTIAL])
def test_a_body_that_ends_says_the_exit_code_and_nothing_else(code, capsys):
    assert run_script(lambda: code) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [UserError, SignalError])
def test_a_user_error_is_one_line_and_exit_code_2(kind, capsys):
    assert run_script(lambda: raising(kind("t.csv: expected this, found that; do so"))) == 2
    assert capsys.readouterr() == ("", "error: t.csv: expected this, found that; do so\n")


def test_ctrl_c_is_one_line_and_exit_code_130(capsys):
    assert run_script(lambda: raising(KeyboardInterrupt())) == EXIT_INTERRUPTED == 130
    assert capsys.readouterr() == ("", "interrupted; run the same command again to go on\n")


@pytest.mark.parametrize("error", [ValueError("defect"), KeyError("defect"), SystemExit("defect")])
def test_a_defect_is_not_dressed_up_as_a_user_error(error, capsys):
    with pytest.raises(type(error), match="defect"):
        run_script(lambda: raising(error))
    assert capsys.readouterr() == ("", "")


def test_a_real_ctrl_c_ends_a_real_script_with_130(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from scow.cli import run_script\n"
        "def body():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(30)\n"
        "    return 0\n"
        "sys.exit(run_script(body))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "interrupted; run the same command again to go on\n"
    assert time.monotonic() - began < 20


# --- failures and lists


def test_no_failures_are_success_and_silence(capsys):
    assert report_failures([]) == 0
    assert capsys.readouterr() == ("", "")


def test_failures_are_counted_and_listed_each_with_its_reason(capsys):
    failures = [("0001 left (tiny, base)", "the left ear is silent"), ("0002 right", "truncated")]
    assert report_failures(failures) == 1
    assert capsys.readouterr() == (
        "",
        "2 could not be computed; their cells are empty:\n"
        "  0001 left (tiny, base): the left ear is silent\n"
        "  0002 right: truncated\n",
    )


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (None, ()),
        ([], ()),
        (["valid"], ("valid",)),
        (["train,valid", "eval"], ("train", "valid", "eval")),
        (["train,", "valid"], ("train", "valid")),
        (["train", ",", "valid", ",eval"], ("train", "valid", "eval")),
        ([""], ()),
        ([","], ()),
    ],
)
def test_names_may_have_commas_spaces_or_both_between_them(values, names):
    assert listed(values) == names


@pytest.mark.parametrize("value", ["train, valid", "train valid", " train ,valid "])
def test_names_in_quotes_may_have_spaces_between_them_too(value):
    assert listed([value]) == ("train", "valid")


# --- hydra

SCRIPT = """
import sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from scow.cli import TaskDone, config_folder, plain_config, run_hydra, run_script
from scow.errors import UserError

@hydra.main(version_base="1.3", config_path="checkpoints/final", config_name="config")
def main(cfg):
    raise TaskDone(run_script(lambda: run(plain_config(cfg))))

def run(cfg):
    if cfg["code"] == 2:
        raise UserError("infer.code: found 2; take another")
    print(config_folder(HydraConfig.get()).name, cfg["name"], Path.cwd().name)
    return cfg["code"]

if __name__ == "__main__":
    sys.exit(run_hydra(main, Path(__file__)))
"""


@pytest.fixture
def hydra_script(tmp_path):
    """Run a script of two checkpoints as a user does, in a folder of its own."""
    for name in ("final", "lite"):
        folder = tmp_path / "repo" / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"exp: {name}\nname: is-${{exp}}\ncode: 0\n")
    script = tmp_path / "repo" / "script.py"
    script.write_text(SCRIPT)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=elsewhere,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_hydra_script_runs_in_the_users_folder_and_leaves_nothing_there(hydra_script, tmp_path):
    done = hydra_script()
    assert (done.returncode, done.stdout, done.stderr) == (0, "final is-final elsewhere\n", "")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_hydra_script_takes_another_checkpoint_and_hands_on_its_exit_code(hydra_script):
    done = hydra_script("-cp", "checkpoints/lite", "code=1", "name=mine")
    assert (done.returncode, done.stdout, done.stderr) == (1, "lite mine elsewhere\n", "")


def test_options_and_overrides_come_in_any_order(hydra_script):
    done = hydra_script("code=1", "-cp", "checkpoints/lite", "name=mine", "--run", "+more=2")
    assert (done.returncode, done.stdout, done.stderr) == (1, "lite mine elsewhere\n", "")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("code=2",), ("error: infer.code: found 2; take another",)),
        (("nosuch=3",), ("error: config or override:", "nosuch")),
        (("name=${nosuch}",), ("error: config: ", "nosuch", "; mend the config")),
        (("-cp", "checkpoints/fina"), ("-cp: expected a folder with config.yaml", "did you mean final?")),
        (
            ("--config-path=checkpoints/xyz",),
            ("--config-path: expected a folder with config.yaml", "known: final, lite"),
        ),
        (("-m", "code=0,1"), ("--multirun: only train.py sweeps; run script.py once per",)),
        (("code=0,1", "--multi"), ("--multirun: only train.py sweeps",)),
        (("code=0,1", "hydra.mode=MULTIRUN"), ("--multirun: only train.py sweeps",)),
        (("--run", "--cfg", "job"), ("expected only one of --run, --cfg; leave the others out",)),
    ],
)
def test_what_is_wrong_with_a_hydra_command_is_said_in_one_line(hydra_script, arguments, fragments):
    assert_user_error(hydra_script(*arguments), *fragments)


def test_a_plain_config_has_its_interpolations_resolved():
    cfg = OmegaConf.create({"exp": "final", "train": {"save_dir": "checkpoints/${exp}"}, 3: "three"})
    assert plain_config(cfg) == {"exp": "final", "train": {"save_dir": "checkpoints/final"}, "3": "three"}


def test_a_config_that_refers_to_a_value_that_it_lacks_is_a_user_error_in_one_line():
    cfg = OmegaConf.create({"train": {"save_dir": "checkpoints/${exp_name}"}})
    with pytest.raises(UserError, match=r"^config: .*exp_name.*; mend the config$"):
        plain_config(cfg)


def test_a_config_that_is_a_list_is_a_user_error():
    with pytest.raises(UserError, match=r"^expected a config with named sections, found list; see the shipped config$"):
        plain_config(OmegaConf.create([1, 2]))


def test_an_exit_code_passes_whoever_catches_every_exception():
    assert not isinstance(TaskDone(1), Exception)
    with pytest.raises(TaskDone, match="1") as done:
        raising(TaskDone(1))
    assert done.value.exit_code == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_seldom_one_in_a_log(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        now[0] = 0.0
        monkeypatch.setattr(sys, "stderr", stream)
        show = ShowProgress()
        for done in (1, 2, 3, 4):
            now[0] += 6.0
            show("listening", done, 4)
    assert terminal.getvalue() == "".join(f"\r\x1b[Klistening: {done}/4" for done in (1, 2, 3, 4)) + "\n"
    assert log.getvalue() == "listening: 2/4\nlistening: 4/4\n"


def test_failures_are_counted_in_the_callers_words(capsys):
    assert report_failures([("0:12", "silent")], "of 3 lines could not be predicted") == 1
    assert capsys.readouterr().err == "1 of 3 lines could not be predicted:\n  0:12: silent\n"
