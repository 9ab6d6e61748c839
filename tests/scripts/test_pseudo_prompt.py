"""Prediction without lyrics: base is the reference, tiny.en the chorus, on the demo and on real excerpts."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import whisper
from corpus import Corpus, edit_channels, make_corpus
from helpers import DEMO, ROOT, assert_user_error, run_script

from scow.data.audio import read_stereo, resample_sinc
from scow.data.scores import read_rows
from scow.data.tables import read_table
from scow.features.whisper import Transcriber
from scow.io import read_json
from scow.text.normalize import normalize_text

pytestmark = pytest.mark.slow
PROMPTS = {"row": "row row row your boat gently down the stream", "twinkle": "twinkle twinkle little star how i wonder"}
DEMO_SIGNALS = ("row_mild", "row_none", "twinkle_moderate")
COLUMNS = "data.feature_cols=[tiny.en,dns_sig,dns_bak,dns_ovrl]"


def chorus(corpus: Corpus, *args: object) -> tuple[object, ...]:
    return ("whisper_inference.py", "--config", corpus.config, "--models", "tiny.en", "base", *args)


def noprompt(corpus: Corpus, side: str) -> Path:
    return corpus.root / "metadata" / f"mini_noprompt_{side}.csv"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, base: Transcriber) -> Corpus:
    """Three demo excerpts and, where they are there, real ones; invented correctness."""
    files = {DEMO / "demo" / "signals" / f"{name}.flac": PROMPTS[name.partition("_")[0]] for name in DEMO_SIGNALS}
    real = ROOT.parent / "shared" / "clip1" / "cadenza_data_valid"
    for record in read_json(real / "metadata" / "valid_metadata.json", "metadata") if real.is_dir() else ():
        path = real / "valid" / "signals" / f"{record['signal']}.flac"
        files |= {path: record["prompt"]} if path.exists() and len(files) < 8 else {}
    prompts, audio = {path.stem: prompt for path, prompt in files.items()}, {path.stem: path for path in files}
    corpus = make_corpus(tmp_path_factory.mktemp("pseudo") / "corpus", prompts, audio, response="")
    run_script(*chorus(corpus, "--pseudo-prompt", "base"), code=0)
    return corpus


def test_tables_hold_what_the_reference_transcribes(corpus: Corpus, base: Transcriber) -> None:
    left, right = (read_table(noprompt(corpus, side)) for side in "lr")
    plain = read_table(corpus.tables[0])
    for column in ("signal", "prompt", "word", "n_words", "correctness", "hearing_loss"):
        pd.testing.assert_series_equal(left[column], right[column])
    assert set(left["response"]) == {""}
    assert "base" not in left
    assert left["tiny.en"].notna().all()
    firsts = left.drop_duplicates("signal").set_index("signal")
    same = plain.drop_duplicates("signal").set_index("signal")[["hearing_loss", "correctness"]]
    pd.testing.assert_frame_equal(firsts[["hearing_loss", "correctness"]], same)
    options = whisper.DecodingOptions(language="en", temperature=0.0, without_timestamps=True, fp16=False)
    for signal in ("row_none", "twinkle_moderate"):  # the second implementation is openai-whisper's
        mono = resample_sinc(read_stereo(corpus.signal(signal)).samples.mean(axis=0))
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(mono), base.model.dims.n_mels)
        decoded = whisper.decode(base.model, mel, options)
        assert firsts["prompt"][signal].split() == [*normalize_text(decoded.text)]


def test_another_reference_is_refused_and_the_same_resumes(corpus: Corpus, tmp_path: Path) -> None:
    copy = corpus.copy(tmp_path / "c")
    assert_user_error(run_script(*chorus(copy, "--pseudo-prompt", "tiny.en")), "mini_noprompt_l.csv", "model base")
    whole = noprompt(copy, "l").read_bytes()
    again = run_script(*chorus(copy, "--pseudo-prompt", "base"))
    assert (again.returncode, noprompt(copy, "l").read_bytes()) == (0, whole)
    table = pd.read_csv(copy.tables[0], dtype=str, keep_default_na=False)
    for path in copy.tables:  # two new signals, of which one has nothing to transcribe
        new = [table[table["signal"] == "row_mild"].assign(signal=name) for name in ("again", "cancelling")]
        pd.concat([table, *new]).to_csv(path, index=False)
    for name in ("again", "cancelling"):
        shutil.copy(copy.signal("row_mild"), copy.signal(name))
    edit_channels(copy.signal("cancelling"), lambda samples: samples[:, :1] * [1, -1])
    more = run_script(*chorus(copy, "--pseudo-prompt", "base"), code=1)
    assert "cancelling mono (prompt): the mono channel is silent" in more.stderr
    for side in "lr":
        found = read_table(noprompt(copy, side)).set_index("signal")
        assert "cancelling" not in found.index
        assert [*found.loc["again", "tiny.en"]] == [*found.loc["row_mild", "tiny.en"]]


def test_train_and_infer_without_lyrics(corpus: Corpus, tmp_path: Path) -> None:
    run_script("compute_metrics.py", "--config", corpus.config, "--dns", "--splits", "mini_noprompt", code=0)
    tables = f"[{noprompt(corpus, 'l')},{noprompt(corpus, 'r')}]"
    metadata = corpus.root / "metadata" / "mini.json"
    data = (COLUMNS, f"data.tables=[{tables}]", f"data.metadata={metadata}", f"train.save_dir={tmp_path}/model")
    config = ("-cp", ROOT / "checkpoints" / "clip2_noprompt", *data)
    assert_user_error(run_script("train.py", *config, "data.metadata=null"), "data.metadata", "prompts")
    run_script("train.py", *config, code=0)
    facts = read_json(tmp_path / "model" / "model.json", "facts")["facts"]
    assert facts["features"]["prompt"]["model"] == "base"
    assert facts["whisper_millions"] == pytest.approx(37.184 + 71.826)
    crossed = run_script("train.py", *config, "cv=true", "cross_validation.folds=2", "cross_validation.repeats=1")
    assert "2 folds by prompt" in crossed.stdout, crossed.stderr
    folds = read_json(tmp_path / "model" / "cross_validation.json", "figures")
    assert folds["word_auc"] is None
    infer = ("infer.py", "-cp", tmp_path / "model", "infer.details=true")
    run_script(*infer, f"infer.tables={tables}", f"infer.output_dir={tmp_path}/model", code=0)
    details = np.array(
        [row[1:] for row in read_rows(tmp_path / "model" / "mini_noprompt_details.csv", "details")[1:]], float
    )
    assert (details[:, 1] <= details[:, 0]).all()
    assert (details[:, 0] <= details[:, 2]).all()
    assert np.ptp(details[:, 0]) > 1
    assert not (tmp_path / "model" / "mini_noprompt_words.csv").exists()
    evaluated = run_script("evaluate.py", tmp_path / "model" / "mini_noprompt_inference.csv", "--metadata", metadata)
    assert "trained on just these signals" in evaluated.stdout + evaluated.stderr
    # A checkpoint for pseudo-prompts takes no lyrics, and one for lyrics no pseudo-prompts.
    run_script("whisper_inference.py", "--config", corpus.config, "--models", "tiny.en", code=0)
    lyrics = f"infer.tables=[{corpus.tables[0]},{corpus.tables[1]}]"
    assert_user_error(run_script(*infer, lyrics), "'lyrics'", "'pseudo-prompt' of base")
    lite = run_script("infer.py", "-cp", ROOT / "checkpoints" / "lite", f"infer.tables={tables}")
    assert_user_error(lite, "'pseudo-prompt' of base", "'lyrics'")
    song = DEMO / "song" / "demo_song.flac"
    predicted = run_script("predict.py", song, "--lyrics", song.with_suffix(".lrc"), "--checkpoint", tmp_path / "model")
    assert_user_error(predicted, "a word model")
