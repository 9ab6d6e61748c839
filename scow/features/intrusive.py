"""STOI, eSTOI and PESQ of one channel against the unprocessed mix.

The definition (``published``): the reference is the mean of both channels of the unprocessed file, the degraded
signal is the channel of the signal as presented; both are resampled to 16 kHz with ``scipy.signal.resample_poly`` and
cut to the shorter. They are *not* aligned in time, although the hearing-loss simulator delays its output by tens of
milliseconds; on simulated signals these columns therefore mostly encode the hearing loss.

- STOI: Taal, Hendriks, Heusdens, Jensen, IEEE Trans. Audio Speech Lang. Process. 19 (2011).
- eSTOI: Jensen, Taal, IEEE/ACM Trans. Audio Speech Lang. Process. 24 (2016); both in `scow.features.stoi`.
- PESQ: ITU-T P.862.2, wide band; here the package pesq.

Each is computed separately: where one is not defined (PESQ finds no utterance, STOI too few frames that are not
silent), the others are kept, and the reason is given in its place.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Collection

import numpy as np

from scow.data.audio import MIN_DURATION_S, MODEL_RATE_HZ
from scow.errors import SignalError
from scow.features.stoi import stoi_and_estoi

DEFINITION = "published"
# PESQ's utterances and the pauses between them last 0.2 s at least, so that a shorter signal cannot hold too many.
SAFE_PESQ_S = 19.0
_PESQ_PROGRAM = """
import io, sys
import numpy
from pesq import PesqError, pesq
reference, degraded = numpy.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
try:
    print("value", repr(float(pesq(int(sys.argv[1]), reference, degraded, "wb"))))
except PesqError as error:
    print("error", error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else error)
"""


def intrusive_metrics(
    reference: np.ndarray, degraded: np.ndarray, columns: Collection[str] = ("stoi", "estoi", "pesq")
) -> dict[str, float | str]:
    """STOI, eSTOI (at most 1) and PESQ (1 to 4.64) of one channel, or the reason why one is not defined.

    `reference` and `degraded` have shapes (n,) and (m,), at 16 kHz; with less than 0.25 s in common nothing is
    computed (SignalError).
    """
    n = min(len(reference), len(degraded))
    if n < MIN_DURATION_S * MODEL_RATE_HZ:
        raise SignalError(
            f"expected at least {MIN_DURATION_S} s common to signal and reference, found {n / MODEL_RATE_HZ:.3f} s"
        )
    found: dict[str, float | str] = {}
    for names, measure in ((("stoi", "estoi"), stoi_and_estoi), (("pesq",), _pesq)):
        if not set(names) & set(columns):
            continue
        try:
            values = measure(reference[:n], degraded[:n])
            found |= {c: v if np.isfinite(v) else f"not defined ({v})" for c, v in zip(names, values, strict=True)}
        except SignalError as error:
            found |= dict.fromkeys(names, str(error))
    return {column: found[column] for column in columns}


def _pesq(reference: np.ndarray, degraded: np.ndarray) -> tuple[float]:
    from pesq import PesqError, pesq

    if not degraded.any():  # the package divides by its level
        raise SignalError("PESQ needs a signal that is not silent")
    if len(reference) >= SAFE_PESQ_S * MODEL_RATE_HZ:
        return (_isolated_pesq(reference, degraded),)
    try:
        return (float(pesq(MODEL_RATE_HZ, reference, degraded, "wb")),)
    except PesqError as error:
        text = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise SignalError(f"PESQ: {text or type(error).__name__}") from error


def _isolated_pesq(reference: np.ndarray, degraded: np.ndarray) -> float:
    """PESQ in a separate process: the package ends the whole process where it finds more than 50 utterances.

    Not by multiprocessing, because a worker of a cluster may be a process that cannot have children of that kind.
    """
    signals = io.BytesIO()
    np.save(signals, np.stack([reference, degraded]), allow_pickle=False)
    command = [sys.executable, "-c", _PESQ_PROGRAM, str(MODEL_RATE_HZ)]
    done = subprocess.run(command, input=signals.getvalue(), capture_output=True, check=False)
    verdict, _, answer = done.stdout.decode().partition(" ")
    if verdict == "value":
        return float(answer)
    if verdict == "error":
        raise SignalError(f"PESQ: {answer.strip()}")
    raise SignalError("PESQ holds at most 50 utterances, and finds more in this signal")
