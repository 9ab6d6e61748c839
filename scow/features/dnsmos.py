"""DNSMOS P.835: a network's rating of signal, background and overall quality of one channel, without a reference.

The definition (``published``): the channel is resampled in float64 to 16 kHz with ``scipy.signal.resample`` (in the
frequency domain) and cut into pieces of 9.01 s (144,160 samples), the last one padded with zeros; the raw outputs of
the model (sig, bak, ovrl, without Microsoft's polynomial) are averaged over the pieces.

The model is ``sig_bak_ovr.onnx``, which the package speechmos carries byte for byte as published. It is loaded so that
it takes a piece of any length, which saves most of the padding (`needed_samples`); another file is run as it is.

Reference: Reddy, Gopal, Cutler, "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to
Evaluate Noise Suppressors", ICASSP 2022.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from scow.data.audio import FILE_RATE_HZ, MODEL_RATE_HZ
from scow.data.tables import DNSMOS_COLUMNS
from scow.errors import SignalError, UserError

DEFINITION = "published"
PIECE_SAMPLES = 144_160  # 9.01 s at 16 kHz, what the model was trained on
HOP_SAMPLES = 160  # of its spectrogram, whose frames are two hops long: a piece has 900
PUBLISHED_SHA256 = "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"
# What fixes the length in the published file: one dimension of the input (a number in the file, a name of as many
# bytes here), the end of a slice and the shapes that frames are cut to.
FIXED_LENGTH, ANY_LENGTH = b"\x08\xa0\xe6\x08", b"\x12\x02n_"
ANY_SHAPE = {
    "input_1:01_cropping_end": [np.iinfo(np.int64).max, -HOP_SAMPLES],
    "shape_tensor": [1, -1, HOP_SAMPLES],
    "shape_tensor1": [1, -1, HOP_SAMPLES],
}


def installed_model() -> Path:
    """Path of the model inside the installed package speechmos, which is not imported (it needs librosa)."""
    package = importlib.util.find_spec("speechmos")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "dnsmos_models" / "sig_bak_ovr.onnx"
        if path.is_file():
            return path
    raise UserError(
        "expected the DNSMOS model of speechmos, found none; pip install speechmos, or set metrics.dnsmos_model"
    )


def needed_samples(n_samples: int) -> int:
    """How much of a padded piece the network needs for the outputs of the whole one, bit for bit.

    It is convolutions and poolings, and a maximum over time. Its output far behind the last sample is the same
    everywhere; 64 frames of zeros have that and all that reaches over the end. The last of three poolings by two drops
    a row, because 900 frames are 4 modulo 8; so must it be for fewer.
    """
    frames = -(-n_samples // HOP_SAMPLES) + 64
    frames += (4 - frames) % 8
    return min((frames + 1) * HOP_SAMPLES, PIECE_SAMPLES)


class Dnsmos:
    """The network of a ``sig_bak_ovr.onnx``, loaded; by default that of the installed speechmos."""

    def __init__(self, path: Path | None = None) -> None:
        model = path or installed_model()
        if not model.is_file():
            raise UserError(f"metrics.dnsmos_model: expected an ONNX file at {model}, found none")
        content = model.read_bytes()
        self._any_length = hashlib.sha256(content).hexdigest() == PUBLISHED_SHA256
        try:
            self._session, self._shapes = _loaded(content, any_length=self._any_length)
        except Exception as error:
            raise UserError(f"{model}: cannot be loaded as an ONNX model; expected sig_bak_ovr.onnx") from error
        shape = self._session.get_inputs()[0].shape
        if shape[-1] not in (PIECE_SAMPLES, None) and not isinstance(shape[-1], str):
            raise UserError(f"{model}: expected a model of {PIECE_SAMPLES} samples (sig_bak_ovr.onnx), found {shape}")

    def __call__(self, channel: np.ndarray, rate_hz: int = FILE_RATE_HZ) -> dict[str, float]:
        """Raw outputs for one channel of shape (n,): ``dns_sig``, ``dns_bak``, ``dns_ovrl``, about 1 to 5."""
        from scipy.signal import resample  # here: stage 2 need not wait for it

        samples = resample(channel.astype(np.float64), int(len(channel) * MODEL_RATE_HZ / rate_hz))
        outputs = [self._rate(samples[i : i + PIECE_SAMPLES]) for i in range(0, len(samples), PIECE_SAMPLES)]
        means = np.mean(np.asarray(outputs, dtype=np.float64), axis=0)
        if not np.isfinite(means).all():
            raise SignalError(f"DNSMOS: expected numbers from the model, found {means.tolist()}")
        return {column: float(value) for column, value in zip(DNSMOS_COLUMNS, means, strict=True)}

    def _rate(self, piece: np.ndarray) -> np.ndarray:
        padded = np.zeros((1, needed_samples(len(piece)) if self._any_length else PIECE_SAMPLES), dtype=np.float32)
        padded[0, : len(piece)] = piece
        return np.asarray(self._session.run(None, {self._session.get_inputs()[0].name: padded})[0][0])


def _loaded(content: bytes, *, any_length: bool) -> tuple[Any, list[Any]]:
    """A session of a model, which takes pieces of `any_length` if it is the published one, and what must outlive it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: the same sums in the same order on every machine.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    shapes = []
    if any_length:
        content = content.replace(FIXED_LENGTH, ANY_LENGTH)
        for name, shape in ANY_SHAPE.items():
            shapes.append(onnxruntime.OrtValue.ortvalue_from_numpy(np.array(shape)))
            options.add_initializer(name, shapes[-1])
    session = onnxruntime.InferenceSession(content, sess_options=options, providers=["CPUExecutionProvider"])
    return session, shapes
