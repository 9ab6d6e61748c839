"""Configs of checkpoints from elsewhere: they are data, and their outputs stay in the checkpoint's folder."""

from pathlib import Path

import pytest
import yaml
from helpers import ROOT, assert_user_error, contents, make_tables, run_script
from reference_transformer import small_checkpoint

pytestmark = pytest.mark.slow

TRAP = "{_target_: builtins.open, file: executed, mode: w}"
CASES = yaml.safe_load((ROOT / "tests/golden/hostile_configs.yaml").read_text(encoding="utf-8").replace("TRAP", TRAP))
GROWTH = "\n".join(f"k{i}: '${{k{i + 1}}}${{k{i + 1}}}${{k{i + 1}}}'" for i in range(40))
HOSTILE = CASES["hostile"] | CASES["outside"] | {"growth": GROWTH}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint from elsewhere with tables to predict and to train on, and a config beside its own."""
    folder = tmp_path / "work" / "downloads"
    folder.mkdir(parents=True)
    tables = make_tables(tmp_path / "work", 6, ("tiny",))
    config = small_checkpoint(folder, tables, ("csv", "valid", "../s")) | {"seed": 0, "device": "cpu"}
    config |= {"train": {"save_dir": "checkpoints/${exp_name}", "epochs": 1}}
    (folder / "base.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "other.yaml").write_text(f"hydra: {{callbacks: {{e: {TRAP}}}}}\n", encoding="utf-8")
    return folder


def with_lines(folder: Path, text: str) -> None:
    """A config that is right but for the top-level sections in `text`."""
    keys = {line.partition(":")[0] for line in text.splitlines()}
    config = yaml.safe_load((folder / "base.yaml").read_text(encoding="utf-8"))
    rest = yaml.safe_dump({key: value for key, value in config.items() if key not in keys})
    (folder / "config.yaml").write_text(f"{text}\n{rest}", encoding="utf-8")


@pytest.mark.parametrize("script", ["infer.py", "train.py"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_config_is_refused(folder, script, name):
    with_lines(folder, HOSTILE[name])
    before = contents(folder.parent.parent)
    options = ["-m", "seed=1,2"] if name in ("launcher", "sweep", "name by reference") else []
    if script == "infer.py" and "save_dir" in name:
        options = ["exp_name=mine"]  # with which infer.py reads train.save_dir
    if script == "train.py" and "infer:" in HOSTILE[name]:
        pytest.skip("train.py does not read infer:")
    done = run_script(script, "-cp", folder, *options, cwd=folder.parent)
    assert_user_error(done)
    assert contents(folder.parent.parent) == before


@pytest.mark.parametrize(
    "options", [["-cp", "{}", "-cn", "other"], ["--config-pa={}", "--config-name=other.yaml"], ["-cd", "{}"]]
)
def test_every_way_to_choose_a_config(folder, options):
    with_lines(folder, HOSTILE["callback"])
    before = contents(folder.parent.parent)
    assert_user_error(run_script("infer.py", *(text.format(folder) for text in options), cwd=folder.parent))
    assert contents(folder.parent.parent) == before


def test_overrides_of_the_user_work(folder):
    """What a config may not say, the command line may; the shipped settings of hydra are no others."""
    with_lines(folder, "hydra: {sweep: {dir: 'checkpoints/${exp_name}_sweep'}}")
    options = ["hydra.verbose=false", "exp_name=${oc.env:NAME}", "hydra.sweep.dir=../swept", "seed=1,2"]
    done = run_script("train.py", "-cp", folder, "-m", *options, cwd=folder.parent, env={"NAME": "mine"})
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((folder.parent.parent / "swept").glob("*/model.pt"))) == 2
    done = run_script("infer.py", "--config-path", folder.parent.parent / "swept" / "seed=1", cwd=folder.parent, code=0)
    options = ["exp_name=mine", "train.save_dir=../out", "hydra.run.dir=logs"]
    run_script("train.py", "-cp", folder, *options, cwd=folder.parent, code=0)
    assert (folder.parent.parent / "out" / "model.pt").is_file()
