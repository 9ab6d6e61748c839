"""Every kind of input file, damaged at random, through the real scripts.

Whatever the damage, a script ends in time with exit code 0, 1 or 2 and without a traceback; a refusal is one line; what
it read is unchanged; no control character reaches the terminal; every score is a number from 0 to 100.

200 files by default; ``MUTANTS=1500 pytest -m "" tests/scripts/test_fuzz.py`` is the run of docs/RELIABILITY.md.
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import DEMO, ROOT, contents, data_overrides, golden, load_whisper, make_response_tables, run_script

from scow.data.provenance import write_provenance
from scow.data.scores import write_scores
from scow.data.tables import read_table, write_table

pytestmark = pytest.mark.slow

MUTANTS = int(os.environ.get("MUTANTS", "200"))
TIMEOUT_S = 20
COLUMNS = ("tiny.en", "dns_sig", "dns_bak", "dns_ovrl")
GOLDEN = golden("fuzz.yaml")
INPUTS = {name: command.split() for name, command in GOLDEN["inputs"].items()}
NASTY = [b"\xff\xfe", b"0" * 400, *(text.encode() for text in GOLDEN["nasty"])]


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a range, bits, lines or a number."""
    a = int(rng.integers(len(content)))
    b = a + int(rng.integers(1, 60))
    nasty = NASTY[rng.integers(len(NASTY))]
    lines = content.split(b"\n")
    i, j = rng.integers(0, len(lines), 2).tolist()
    numbers = [match.span() for match in re.finditer(rb"\d+(\.\d+)?", content)] or [(a, a)]
    first, last = numbers[rng.integers(len(numbers))]
    changed = (
        content[:a] + content[b:],
        content[:a] + nasty + content[a:],
        content[:a] + nasty + content[b:],
        content[:a],
        content[:a] + bytes([content[a] ^ (1 << int(rng.integers(8)))]) + content[a + 1 :],
        b"\n".join([*lines[:i], *lines[i + 1 :]]),
        b"\n".join([*lines[:i], lines[j], *lines[i:]]),
        content[:first] + nasty + content[last:],
        content[:first] + b"%d" % rng.integers(-5, 5000) + content[last:],
    )
    return changed[rng.integers(len(changed))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project of whole files: metadata, tables, a checkpoint, scores, a song with its lyrics."""
    load_whisper("tiny.en")
    root = tmp_path_factory.mktemp("fuzz") / "world"
    tables, metadata = make_response_tables(root / "m", columns=COLUMNS)
    shutil.copy(metadata, root / "m" / "valid.json")
    responses = '{"0000": [{"response": "love", "hits": 1, "correctness": 0.5}], "0001": [{"response": ""}]}'
    (root / "m" / "responses.json").write_text(responses, encoding="utf-8")
    source = {"definition": "published", "model": "tiny.en", "sha256": "0" * 64, "device": "cpu", "failures": {}}
    write_provenance(tables[0], {"tiny.en": source})
    overrides = [f"train.save_dir={root}/ck", *data_overrides(COLUMNS, metadata, csv=tables, valid=tables)]
    overrides += [f"data.prior_metadata={metadata}"]
    run_script("train.py", "-cp", ROOT / "checkpoints" / "lite", *overrides, cwd=root, code=0)
    for path in tables:  # few signals from here on
        table = read_table(path)
        write_table(table[table["signal"] < "0004"], path)
    config = root / "ck" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace(str(root), "."), encoding="utf-8")
    write_scores(root / "scores.csv", [f"{i:04d}" for i in range(36)], np.linspace(0, 100, 36))
    shutil.copy(ROOT / "feature_config.yaml", root / "feature_config.yaml")
    (root / "models").symlink_to(ROOT / "models")
    for name, text in GOLDEN["lyrics"].items():
        (root / name).write_text(text, encoding="utf-8")
    shutil.copy(DEMO / "demo" / "signals" / "row_none.flac", root / "song.flac")
    return root


def problems(world: Path, folder: Path, name: str, content: bytes) -> list[str]:
    """What is wrong with a run in a copy of the world in which a file has another content."""
    shutil.copytree(world, folder, symlinks=True)
    (folder / name).write_bytes(content)
    script, *arguments = (word.replace("{root}", str(folder)) for word in INPUTS[name])
    before = contents(folder)
    done = run_script(script, *arguments, cwd=folder, timeout=TIMEOUT_S)
    found = []
    if done.returncode not in (0, 1, 2) or "Traceback" in done.stderr:
        found.append(f"exit code {done.returncode}: {done.stderr[-400:]}")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode == 2 and (len(errors) != 1 or not done.stderr.rstrip().endswith(errors[-1])):
        found.append(f"not one line: {done.stderr[:600]}")
    if control := re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.stdout + done.stderr):
        found.append(f"control character {control[0]!r}")
    tables = {"m/metadata_l.csv", "m/metadata_r.csv"}
    after = contents(folder)
    if changed := [name for name, content in before.items() if after.get(name) != content and name not in tables]:
        found.append(f"changed: {changed}")
    for path in (folder / "ck").glob("*_inference.csv"):
        scores = pd.read_csv(path, header=None, dtype={0: str}, keep_default_na=False)[1].astype(float)
        if not scores.between(0, 100).all():
            found.append(f"scores {scores.tolist()}")
    return found


@pytest.mark.parametrize("name", INPUTS)
def test_damaged_input(world: Path, tmp_path: Path, name: str) -> None:
    whole = (world / name).read_bytes()
    assert problems(world, tmp_path / "whole", name, whole) == [], "the undamaged file"
    rng = np.random.default_rng(list(INPUTS).index(name))
    found = {}
    share = 0.25 if name in GOLDEN["lyrics"] else 0.5 if name == "song.flac" else 1.25  # a song takes long
    for number in range(round(share * MUTANTS / len(INPUTS))):
        folder = tmp_path / str(number)
        if wrong := problems(world, folder, name, mutate(whole, rng)):
            found[number] = wrong
        else:
            shutil.rmtree(folder)
    assert found == {}
