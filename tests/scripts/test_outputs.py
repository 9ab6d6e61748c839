"""No output replaces an input of its run, another output, or a file of another kind; said before the long work."""

from pathlib import Path

import pytest
import torch
import yaml
from helpers import DEMO, assert_user_error, make_records, make_tables, run_script, write_metadata

from scow.models.checkpoint import save_checkpoint
from scow.models.config import TransformerConfig
from scow.models.transformer import Transformer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, tables, metadata, scores and a song in one folder."""
    left, right = make_tables(tmp_path, 6, ("tiny",))
    write_metadata(tmp_path / "metadata.json", make_records(6))
    paths = {f"{split}_path_{side}": path for split in ("valid", "eval") for side, path in (("l", left), ("r", right))}
    config = {"exp_name": "mine", "data": {"feature_cols": ["tiny"]} | {key: str(path) for key, path in paths.items()}}
    config |= {
        "model": {"d_model": 8, "nhead": 2},
        "infer": {"splits": ["valid", "eval"], "output_name": {"valid": "v.csv"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        save_checkpoint(tmp_path / "model.pt", Transformer(TransformerConfig(d_model=8, nhead=2), ("tiny",)), {})
    (tmp_path / "scores.csv").write_text("".join(f"{i:04d},50.0\n" for i in range(6)), encoding="utf-8")
    (tmp_path / "song.flac").write_bytes((DEMO / "song" / "demo_song.flac").read_bytes())
    (tmp_path / "page.txt").write_text("<!doctype html><p>la la", encoding="utf-8")
    (tmp_path / "notes.svg").write_text("my own notes\n", encoding="utf-8")
    (tmp_path / "metadata_l.csv").write_text("my own notes\n", encoding="utf-8")
    return tmp_path


EVALUATE = ["evaluate.py", "scores.csv", "--metadata", "metadata.json"]
INFER = ["infer.py", "-cp", "."]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["predict.py", "song.flac", "--lyrics", "la la", "--html", "song.flac"],
        ["predict.py", "song.flac", "--lyrics", "la la", "--figures", "scores.csv"],
        ["predict.py", "song.flac", "--lyrics", "la la", "--labels", "scores.csv"],
        ["predict.py", "song.flac", "--lyrics", "page.txt", "--html", "page.txt"],
        *[[*command, "--figures", "."] for command in (["predict.py", "song.flac", "--lyrics", "la la"], EVALUATE)],
        [*EVALUATE, "--html", "scores.csv"],
        [*EVALUATE, "--json", "new", "--html", "./new"],
        [*INFER, "infer.output_name.valid=model.pt"],
        [*INFER, "infer.output_name.valid=t_l.csv"],
        [*INFER, "+infer.output_name.eval=v.csv"],
        ["train.py", "data.metadata=null", "train.save_dir=.", "data.csv_path_l=model.pt", "data.csv_path_r=t_r.csv"],
        ["train.py", "data.metadata=[scores.csv]", "train.save_dir=song.flac"],
        ["whisper_inference.py", "--splits=demo", "--models=tiny.en", "--transcripts=scores.csv"],
        ["metadata_to_csv.py", "--json", "metadata.json", "--force"],
    ],
    ids=" ".join,
)
def test_output_over_another_file_is_refused(folder, command):
    if command[0] == "infer.py":
        command = [*command[:2], folder, *command[3:]]
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    done = run_script(command[0], *command[1:], cwd=folder)
    assert_user_error(done)
    assert any(word in done.stderr for word in ("of this run", "of another kind", "a folder to write"))
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before
    assert done.stdout == ""


@pytest.mark.slow
def test_outputs_of_the_same_kind_are_replaced(folder):
    for _ in range(2):
        assert run_script(*EVALUATE, "--json", "a.json", "--html", "a.html", cwd=folder).returncode == 0
        done = run_script("infer.py", "-cp", folder, cwd=folder)
        assert (done.returncode, (folder / "v.csv").is_file()) == (0, True), done.stderr
