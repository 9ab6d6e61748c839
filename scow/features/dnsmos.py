"""DNSMOS P.835: how a network judges signal, background and overall quality of one ear, without a reference.

The definition (``published``): the ear is resampled to 16 kHz with ``scipy.signal.resample`` (in the frequency
domain) and cut into chunks of 9.01 s (144,160 samples), the last one padded with zeros; the raw outputs of the model
(sig, bak, ovrl, without Microsoft's polynomial) are averaged over the chunks.

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
CHUNK_SAMPLES = 144_160  # 9.01 s at 16 kHz, what the model was trained on


def installed_model() -> Path:
    """Path of the model inside the installed package speechmos, which is not imported (it wants librosa).

    Raises
    ------
    UserError
        The package is not installed, or lacks the file.
    """
    package = importlib.util.find_spec("speechmos")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "dnsmos_models" / "sig_bak_ovr.onnx"
        if path.is_file():
            return path
    raise UserError(
        "expected the DNSMOS model of speechmos, found none; pip install speechmos, or set metrics.dnsmos_model"
    )


class Dnsmos:
    """The network, loaded.

    Parameters
    ----------
    path : Path, optional
        ``sig_bak_ovr.onnx``; by default that of the installed speechmos.

    Raises
    ------
    UserError
        The file is missing or no such model.
    """

    def __init__(self, path: Path | None = None) -> None:
        import onnxruntime

        model = path or installed_model()
        if not model.is_file():
            raise UserError(f"metrics.dnsmos_model: expected an ONNX file at {model}, found none; check the path")
        options = onnxruntime.SessionOptions()
        # One thread: the same sums in the same order on every machine, and workers that do not fight for cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise UserError(f"{model}: cannot be loaded as an ONNX model; fetch sig_bak_ovr.onnx again") from error
        shape = self._session.get_inputs()[0].shape
        if shape[-1] not in (CHUNK_SAMPLES, None) and not isinstance(shape[-1], str):
            raise UserError(
                f"{model}: expected a model of {CHUNK_SAMPLES} samples, found {shape}; use sig_bak_ovr.onnx"
            )

    def __call__(self, ear: np.ndarray, rate_hz: int = FILE_RATE_HZ) -> dict[str, float]:
        """Raw model outputs of one ear.

        Parameters
        ----------
        ear : ndarray, shape (n,)
        rate_hz : int
            Rate of `ear`.

        Returns
        -------
        dict of str to float
            By column: ``dns_sig``, ``dns_bak``, ``dns_ovrl``, about 1 to 5.
        """
        samples = resample(ear, int(len(ear) * MODEL_RATE_HZ / rate_hz))
        n_chunks = -(-len(samples) // CHUNK_SAMPLES)
        chunks = np.zeros((n_chunks, CHUNK_SAMPLES), dtype=np.float32)
        chunks.reshape(-1)[: len(samples)] = samples
        name = self._session.get_inputs()[0].name
        outputs = [self._session.run(None, {name: chunk[np.newaxis]})[0][0] for chunk in chunks]
        means = np.mean(np.asarray(outputs, dtype=np.float64), axis=0)
        return {column: float(value) for column, value in zip(DNSMOS_COLUMNS, means, strict=True)}
