"""Start scripts by forking a process that has imported everything; importing takes nine tenths of a script's start.

A request is one JSON line on standard input: script, args, cwd, env, stdout and stderr (file names). The answers
are JSON lines on standard output: {"pid": …} for each request, and {"ended": pid, "returncode": …} for each process
that ends. The server ends, and kills what still runs, when its input is closed.

The server has a single thread, so that it can fork; onnxruntime is left out because it starts one when imported. What
is read at import time (PYTHONPATH, OMP_NUM_THREADS) cannot be changed by `env`: such tests need a fresh process.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

LIBRARIES = """
    torch torch._dynamo torchaudio whisper pandas soundfile scipy.signal scipy.stats scipy.optimize sklearn.linear_model
    sklearn.preprocessing sklearn.metrics sklearn.model_selection omegaconf hydra hydra.main jiwer pystoi pesq
    distributed matplotlib.figure matplotlib.backends.backend_svg jinja2 joblib srt inflect wordfreq filelock tqdm
    clarity.evaluator.msbg.msbg
""".split()


def import_all() -> None:
    """Import libraries and the project; what cannot be imported is left to the script that needs it."""
    import scow

    sys.modules["onnxruntime"] = None  # type: ignore[assignment]
    modules = [module.name for module in pkgutil.walk_packages(scow.__path__, "scow.", onerror=lambda _: None)]
    for name in [*LIBRARIES, *modules]:
        with contextlib.suppress(ImportError, SyntaxError):
            importlib.import_module(name)
    del sys.modules["onnxruntime"]
    with contextlib.suppress(ImportError):
        sys.modules["scow.models.word_features"].zipf("the")  # reads the list of words
        sys.modules["whisper.tokenizer"].get_tokenizer(False)
    assert not list(Path("/proc/self/task").glob("*"))[1:], "an import has started a thread"
    sys.modules["torch"].set_num_threads(1)
    gc.collect()
    gc.freeze()  # the garbage collector of a child leaves these objects, and their shared memory, alone


def serve() -> dict[str, Any]:
    """Answer requests until the input ends; returns only in a forked child, with its request."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever an import prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    running: set[int] = set()
    pending = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.01 if running else None)  # while any runs, see whether it has ended
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            running.discard(ended[0])
            print(json.dumps({"ended": ended[0], "returncode": os.waitstatus_to_exitcode(ended[1])}), file=answers)
        if not ready:
            continue
        received = os.read(0, 65536)
        if not received:
            for pid in running:
                os.killpg(pid, signal.SIGKILL)
            os._exit(0)
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                os.close(answers.fileno())
                return dict(json.loads(line))
            running.add(pid)
            with contextlib.suppress(OSError):  # as the child does: whoever is faster
                os.setpgid(pid, pid)
            print(json.dumps({"pid": pid}), file=answers)


def become(request: dict[str, Any]) -> None:
    """Make this child what a new process would be."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, name in enumerate((os.devnull, request["stdout"], request["stderr"])):
        file = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (open as long as the process)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = [request["script"], *request["args"]]
    sys.path[0] = str(Path(request["script"]).parent)


def run(request: dict[str, Any]) -> None:
    """Run the script; what it raises becomes the exit code that Python would give."""
    global exit_code
    try:
        runpy.run_path(request["script"], run_name="__main__")
        exit_code = 0
    except SystemExit as end:
        exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
        exit_code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def leave() -> None:
    """End without taking all modules apart, which takes as long as many a script."""
    sys.stdout.flush()
    if exit_code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(exit_code)


exit_code = 1
if __name__ == "__main__":
    atexit.register(leave)  # the first to be registered is the last to run
    request = serve()
    become(request)
    run(request)
