"""What the fork server imports for the scripts of tests; importing takes nine tenths of a script's start.

The server has a single thread, so that it can fork; onnxruntime is left out because it starts one when imported.
"""

import contextlib
import gc
import importlib
import pkgutil
import sys
from pathlib import Path

import scow

LIBRARIES = """
    torch torch._dynamo torchaudio whisper pandas soundfile scipy.signal scipy.stats scipy.optimize sklearn.linear_model
    sklearn.preprocessing sklearn.metrics sklearn.model_selection omegaconf hydra hydra.main jiwer pystoi pesq
    distributed distributed.cli.dask_scheduler distributed.cli.dask_worker matplotlib.figure
    matplotlib.backends.backend_svg jinja2 joblib srt inflect wordfreq filelock tqdm clarity.evaluator.msbg.msbg
""".split()

sys.modules["onnxruntime"] = None  # type: ignore[assignment]
modules = [module.name for module in pkgutil.walk_packages(scow.__path__, "scow.", onerror=lambda _: None)]
for name in [*LIBRARIES, *modules]:
    with contextlib.suppress(ImportError, SyntaxError):  # left to the script that needs it
        importlib.import_module(name)
del sys.modules["onnxruntime"]
with contextlib.suppress(ImportError):
    sys.modules["scow.models.word_features"].zipf("the")  # reads the list of words
    sys.modules["whisper.tokenizer"].get_tokenizer(False)
assert not list(Path("/proc/self/task").glob("*"))[1:], "an import has started a thread"
sys.modules["torch"].set_num_threads(1)
gc.collect()
gc.freeze()  # the garbage collector of a child leaves these objects, and their shared memory, alone
