"""Whisper's encoder on a CPU: torch's, or the same network in OpenVINO, which takes some fifth less time.

Both compute in float32; outputs differ by the rounding of sums, word scores by less than 1e-4. OpenVINO's sums are the
same with any number of threads. The network is converted from the loaded torch encoder once, which takes seconds, and
kept beside the weights as ``<weights>.openvino``: a zip archive, which notices damage, with the hash of the weights as
its comment. Where it cannot be read or written, the network is converted again.

Either keeps the output of the block in the middle of the network, of its last call, as the attribute `middle`: a layer
from which embeddings are made (`scow.data.embeddings`).
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scow.errors import UserError, expect
from scow.io import atomic_write, sha256_of

ENGINES = ("auto", "torch", "openvino")


def resolve_engine(name: str, device: str) -> str:
    """``torch`` or ``openvino``; ``auto`` is ``openvino`` where it is installed and the device is a CPU."""
    expect(name in ENGINES, "whisper.engine", "auto, torch or openvino", repr(name))
    installed = importlib.util.find_spec("openvino") is not None
    if name == "openvino":
        expect(installed, "whisper.engine", "openvino to be installed (pip install openvino)", "none")
        expect(device == "cpu", "whisper.engine", "openvino on a CPU", f"the device {device}")
    return "openvino" if name != "torch" and installed and device == "cpu" else "torch"


def keep_middle(encoder: Any) -> None:
    """Let an encoder of openai-whisper keep the output of its middle block, n/2 of n; that of OpenVINO does."""
    if isinstance(encoder, OpenVinoEncoder):
        return
    block = encoder.blocks[len(encoder.blocks) // 2 - 1]
    block.register_forward_hook(lambda _block, _given, output: setattr(encoder, "middle", output))


class _TwoLayers(torch.nn.Module):
    """An encoder that returns the last and the middle layer, to be converted."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        keep_middle(encoder)
        self.encoder = encoder

    def forward(self, mel: torch.Tensor) -> tuple[Any, Any]:
        return self.encoder(mel), self.encoder.middle


class OpenVinoEncoder(torch.nn.Module):
    """The encoder of a Whisper model in OpenVINO, called like torch's."""

    def __init__(self, encoder: torch.nn.Module, n_mels: int, weights: Path) -> None:
        import openvino

        super().__init__()
        # Threads are not bound to cores: two processes would share one.
        options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        xml, data = _network(encoder, n_mels, weights)
        core = openvino.Core()
        network = core.read_model(xml, openvino.Tensor(np.frombuffer(data, np.uint8)))
        self._compiled: Any = core.compile_model(network, "CPU", options | {"INFERENCE_PRECISION_HINT": "f32"})

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrograms, shape (n, n_mels, 3000), to (n, n_audio_ctx, n_audio_state)."""
        results = [self._compiled(one[None].numpy()) for one in mel]
        last, self.middle = (torch.cat([torch.from_numpy(of[i].copy()) for of in results]) for i in (0, 1))
        return last


def _network(encoder: torch.nn.Module, n_mels: int, weights: Path) -> tuple[bytes, bytes]:
    """The converted network as OpenVINO saves it, description and numbers."""
    import openvino

    path = weights.with_suffix(".openvino")
    key = f"{sha256_of(weights)} openvino {openvino.__version__}, two layers".encode()
    names = "encoder.xml", "encoder.bin"
    with suppress(OSError, zipfile.BadZipFile, KeyError), zipfile.ZipFile(path) as archive:
        if archive.comment == key:
            return archive.read(names[0]), archive.read(names[1])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on how it is traced
        shape = (1, n_mels, 3000)
        two_layers = _TwoLayers(encoder.float().eval())
        network = openvino.convert_model(two_layers, example_input=torch.zeros(shape), input=[shape])
        openvino.save_model(network, Path(folder, names[0]), compress_to_fp16=False)
        with suppress(OSError, UserError), atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.comment = key
            for name in names:
                archive.write(Path(folder, name), name)
        return Path(folder, names[0]).read_bytes(), Path(folder, names[1]).read_bytes()
