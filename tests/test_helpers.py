"""A forked script is what a fresh one is: arguments, output, exit codes, signals, children."""

from __future__ import annotations

import json
import os
import signal

import pytest
from helpers import ROOT, run_script, start_script, wait_until

SCRIPT = """
import json, os, signal, sys, time
if __name__ == "__main__":
    print(json.dumps([sys.argv[1:], os.getcwd(), os.environ["COLOUR"], sys.path[0], sys.stdout.encoding.lower()]))
    print("warning", file=sys.stderr)
    if "sleep" in sys.argv:
        print("ready", flush=True)
        time.sleep(60)
    if "fail" in sys.argv:
        raise ValueError("a defect")
    sys.exit(3 if "three" in sys.argv else None)
"""
DASK = """
from distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print(sum(client.gather(client.map(abs, [-1, -2, -3]))))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_run_script_reports_what_a_script_does(script, tmp_path, fresh):
    for argument, code in [("fail", 1), ("three", 3), ("é", 0)]:
        done = run_script(script, argument, cwd=tmp_path, env={"COLOUR": "red"}, fresh=fresh)
        assert json.loads(done.stdout) == [[argument], str(tmp_path), "red", str(tmp_path), "utf-8"]
        assert done.returncode == code
        assert done.stderr.startswith("warning\n")
        assert ("ValueError: a defect" in done.stderr) == (argument == "fail")
    assert "COLOUR" not in os.environ


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("fresh", [False, True])
def test_start_script_takes_signals(script, number, fresh):
    with start_script(script, "sleep", env={"COLOUR": "red"}, fresh=fresh) as process:
        wait_until(lambda: "ready" in process.stdout, "the script's start")
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(30) == -number


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_workers_start_from_a_script(tmp_path, fresh):
    path = tmp_path / "cluster.py"
    path.write_text(DASK)
    assert run_script(path, fresh=fresh).stdout == "6\n"


@pytest.mark.slow
def test_scripts_run_from_a_fork():
    for name in sorted(path.name for path in ROOT.glob("*.py")):
        done = run_script(name, "--help")
        assert done.returncode == 0, done.stderr
        assert name.removesuffix(".py") in done.stdout
