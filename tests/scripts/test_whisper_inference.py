"""Stage 2 as a user runs it: bad files among good ones (kills: test_kills.py, two jobs: test_compute_metrics.py)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import whisper
import yaml
from corpus import edit_channels, make_corpus
from helpers import MODELS, assert_user_error, run_script, write_stereo

from scow.data.audio import read_stereo, resample_sinc
from scow.data.embeddings import embeddings_path, read_embeddings, write_embeddings
from scow.data.provenance import read_provenance
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


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_embeddings_are_means_of_the_encoder(tmp_path: Path, tiny_en: Transcriber, engine: str) -> None:
    """Against hooks on openai-whisper's own encoder; what is there is not computed again."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    corpus = make_corpus(tmp_path / "c", dict.fromkeys(GOOD, "you know you"))
    config = yaml.safe_load(corpus.config.read_text(encoding="utf-8"))
    config["whisper"] |= {"engine": engine, "embeddings": True}
    corpus.config.write_text(yaml.safe_dump(config), encoding="utf-8")
    run = ("whisper_inference.py", "--config", corpus.config)
    assert run_script(*run, "--channel", "left").returncode == 0
    assert "tiny.en: 3 signals computed, 0 were there" in run_script(*run).stdout
    network = whisper.load_model(MODELS / "tiny.en.pt", device="cpu")
    kept: dict[str, torch.Tensor] = {}
    layers = {"middle": network.encoder.blocks[1], "last": network.encoder.ln_post}  # of four blocks
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _layer, _given, output, name=name: kept.update({name: output[0]}))
    for i, path in enumerate(corpus.tables):
        sha256, found = read_embeddings(embeddings_path(path, "tiny.en"))
        assert sha256 == read_provenance(path)["tiny.en"]["sha256"]
        assert [*found] == [*GOOD]
        for signal, embedding in found.items():
            wave = resample_sinc(read_stereo(corpus.signal(signal)).samples[i])
            with torch.inference_mode():
                network.encoder(whisper.log_mel_spectrogram(whisper.pad_or_trim(wave))[None])
            n_frames = int(np.ceil(len(wave) / 16_000 * 50))
            expected = [kept[name][:n_frames].mean(dim=0).numpy() for name in layers]
            np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-4)
    before = {path: path.read_bytes() for path in corpus.root.rglob("*.npz")}
    next(iter(before)).unlink()
    again = run_script(*run)
    assert (again.returncode, {path: path.read_bytes() for path in before}) == (0, before)
    assert sorted(line.split(": ")[2][0] for line in again.stdout.splitlines()) == ["0", "3"]
    for path in before:
        write_embeddings(path, "f" * 64, {"0001": np.zeros((2, 384), np.float32)})
    assert_user_error(run_script(*run), "embeddings.npz", "--overwrite")
    assert run_script(*run, "--overwrite").returncode == 0
    assert {path: path.read_bytes() for path in before} == before
    for signal in GOOD:
        corpus.signal(signal).unlink()
    failed = run_script(*run, "--overwrite")
    assert (failed.returncode, "Traceback" in failed.stderr) == (1, False), failed.stderr
    assert {path: path.read_bytes() for path in before} == before
