"""DNSMOS P.835: a network's rating of signal, background and overall quality of one channel, without a reference.

The definition (``published``): the channel is resampled to 16 kHz with ``scipy.signal.resample`` (in the frequency
domain) and cut into pieces of 9.01 s (144,160 samples), the last one padded with zeros; the raw outputs of the model
(sig, bak, ovrl, without Microsoft's polynomial) are averaged over the pieces.

The model is ``sig_bak_ovr.onnx``, which the package speechmos carries byte for byte as published.

Reference: Reddy, Gopal, Cutler, "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to
Evaluate Noise Suppressors", ICASSP 2022.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from scipy.signal import resample

from scow.data.audio import FILE_RATE_HZ, MODEL_RATE_HZ
from scow.data.tables import DNSMOS_COLUMNS
from scow.errors import UserError

DEFINITION = "published"
PIECE_SAMPLES = 144_160  # 9.01 s at 16 kHz, what the model was trained on


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


class Dnsmos:
    """The network of a ``sig_bak_ovr.onnx``, loaded; by default that of the installed speechmos."""

    def __init__(self, path: Path | None = None) -> None:
        import onnxruntime

        model = path or installed_model()
        if not model.is_file():
            raise UserError(f"metrics.dnsmos_model: expected an ONNX file at {model}, found none")
        options = onnxruntime.SessionOptions()
        # One thread: the same sums in the same order on every machine.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise UserError(f"{model}: cannot be loaded as an ONNX model; expected sig_bak_ovr.onnx") from error
        shape = self._session.get_inputs()[0].shape
        if shape[-1] not in (PIECE_SAMPLES, None) and not isinstance(shape[-1], str):
            raise UserError(f"{model}: expected a model of {PIECE_SAMPLES} samples (sig_bak_ovr.onnx), found {shape}")

    def __call__(self, channel: np.ndarray, rate_hz: int = FILE_RATE_HZ) -> dict[str, float]:
        """Raw outputs for one channel of shape (n,): ``dns_sig``, ``dns_bak``, ``dns_ovrl``, about 1 to 5."""
        samples = resample(channel, int(len(channel) * MODEL_RATE_HZ / rate_hz))
        n_pieces = -(-len(samples) // PIECE_SAMPLES)
        pieces = np.zeros((n_pieces, PIECE_SAMPLES), dtype=np.float32)
        pieces.reshape(-1)[: len(samples)] = samples
        name = self._session.get_inputs()[0].name
        outputs = [self._session.run(None, {name: piece[np.newaxis]})[0][0] for piece in pieces]
        means = np.mean(np.asarray(outputs, dtype=np.float64), axis=0)
        return {column: float(value) for column, value in zip(DNSMOS_COLUMNS, means, strict=True)}
