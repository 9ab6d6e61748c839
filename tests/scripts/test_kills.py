"""SIGKILL before every file operation of stages 1 to 5; then the same command again.

After the kill every file under a final name is whole: absent, the old one or the new one. After the rerun all files are
those of a run that was not killed, byte by byte but for dates in the provenance, and there are no others.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from corpus import make_corpus
from helpers import ROOT, contents, data_overrides, load_whisper, make_response_tables, run_script

pytestmark = pytest.mark.slow

# Runs a script in this process, which dies before the operation of that number, or says how many there were.
KILLER = """
import os, runpy, signal, sys
number, folder, script, *args = sys.argv[1:]
done = 0
def count(event, values):
    global done
    writes = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    changes = event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate")
    if (writes or changes) and folder in str(values[0]):
        done += 1
        if done == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
sys.argv = [script, *args]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    print("operations:", done)
"""
HEADER = b"signal,table,model,transcript\n"  # written to see that it can be
EVERY = int(os.environ.get("KILL_EVERY", "8"))  # operation that is tried; 1 for docs/RELIABILITY.md


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One signal with its audio, and tables to train on."""
    load_whisper("tiny.en")
    corpus = make_corpus(tmp_path_factory.mktemp("kills") / "start", {"0001": "you know you"})
    make_response_tables(corpus.root / "t", n_signals=12)
    (corpus.root / "killer.py").write_text(KILLER, encoding="utf-8")
    return corpus.root


def command(stage: str, root: Path) -> list[str]:
    tables, config = (root / "t" / "t_l.csv", root / "t" / "t_r.csv"), root / "feature_config.yaml"
    data = data_overrides(["tiny.en"], root / "t" / "metadata.json", csv=tables, valid=tables)
    return {
        "1": ["metadata_to_csv.py", "--json", str(root / "t" / "metadata.json")],
        "2": ["whisper_inference.py", "--config", str(config), "--embeddings",
              "--transcripts", str(root / "transcripts.csv")],
        "2, pseudo-prompts": ["whisper_inference.py", "--config", str(config), "--pseudo-prompt", "tiny.en"],
        "3": ["compute_metrics.py", "--config", str(config)],
        "4": ["train.py", "-cp", str(ROOT / "checkpoints" / "lite"), f"train.save_dir={root}/ck", *data,
              "data.prior_metadata=null"],
        "5": ["infer.py", "-cp", f"{root}/ck", "infer.splits=[valid]", "infer.details=true"],
    }[stage]  # fmt: skip


def run(stage: str, root: Path, number: int) -> tuple[int, str, str]:
    script, *args = command(stage, root)
    done = run_script(root / "killer.py", number, root, ROOT / script, *args, cwd=root)
    return done.returncode, done.stdout, done.stderr


def content(root: Path) -> dict[str, bytes]:
    """Every file by name, without dates and the folder's name."""
    dated = contents(root).items()
    return {name: re.sub(rb'("date": ")[^"]*', rb"\1", found).replace(bytes(root), b"ROOT") for name, found in dated}


@pytest.mark.parametrize("stage", ["1", "2", "2, pseudo-prompts", "3", "4", "5"])
def test_kill_before_every_file_operation(start: Path, tmp_path: Path, stage: str) -> None:
    begin = shutil.copytree(start, tmp_path / "begin")
    if stage == "5":
        assert run("4", begin, 0)[0] == 0
        config = begin / "ck" / "config.yaml"
        config.write_text(config.read_text(encoding="utf-8").replace(str(begin), "."), encoding="utf-8")
    whole = shutil.copytree(begin, tmp_path / "whole")
    code, out, err = run(stage, whole, 0)
    assert code == 0, err
    total = int(out.split("operations:")[1])
    assert total > 2
    before, after = content(begin), content(whole)
    for number in range(1, total + 1, EVERY if total > EVERY else 1):
        root = shutil.copytree(begin, tmp_path / "killed")
        code, _, _ = run(stage, root, number)
        assert code < 0
        for name, found in content(root).items():
            if not re.search(r"(^|/)\.[^/]*$|\.partial\.jsonl$", name):
                known = before.get(name), after.get(name), HEADER if name == "transcripts.csv" else None
                assert found in known, f"{name} after a kill at {number} of {total}"
        code, _, err = run(stage, root, 0)
        assert code == 0, (number, err)
        assert content(root).keys() == after.keys(), f"rerun after a kill at {number} of {total}"
        assert content(root) == after, f"rerun after a kill at {number} of {total}"
        shutil.rmtree(root)
