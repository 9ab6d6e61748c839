"""Every script: a mistake is one line and exit code 2, prints nothing else, and changes nothing (mistakes.yaml)."""

import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from corpus import make_corpus
from helpers import (
    DEMO,
    assert_user_error,
    contents,
    golden,
    load_whisper,
    make_records,
    make_tables,
    run_script,
    write_metadata,
)
from reference_transformer import small_checkpoint

pytestmark = pytest.mark.slow

GOLDEN = golden("mistakes.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, tables, metadata, scores, a song, a folder of songs, and a corpus."""
    load_whisper("tiny.en")
    root = tmp_path_factory.mktemp("mistakes")
    corpus = make_corpus(root / "corpus", {"0001": "you know you"})
    for name, section in GOLDEN["metrics"].items():
        config = yaml.safe_load(corpus.config.read_text(encoding="utf-8")) | {"metrics": section}
        corpus.config.with_stem(name).write_text(yaml.safe_dump(config), encoding="utf-8")
    write_metadata(root / "metadata.json", make_records(6))
    config = small_checkpoint(root, make_tables(root, 18), ("valid", "eval"))
    config["infer"] |= {"output_name": {"valid": "v.csv"}}
    (root / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (root / "models").symlink_to(DEMO.parents[1] / "models")
    (root / "songs").mkdir()
    for name in ("song.flac", "songs/b.flac"):
        shutil.copy(DEMO / "song" / "demo_song.flac", root / name)
    for name, text in GOLDEN["files"].items():
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("command", GOLDEN["mistakes"])
def test_mistake_is_one_line_and_changes_nothing(folder: Path, command: str) -> None:
    first, _, rest = command.partition(" ")
    script, *arguments = shlex.split(f"{GOLDEN['short'].get(first, first)} {rest}".replace("FOLDER", str(folder)))
    before = contents(folder)
    done = run_script(script, *arguments, cwd=folder)
    assert_user_error(done, GOLDEN["mistakes"][command])
    assert done.stdout == ""
    assert contents(folder) == before
