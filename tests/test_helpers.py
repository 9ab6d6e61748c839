"""A forked script is what a fresh one is: arguments, output, exit codes, signals."""

from __future__ import annotations

import json
import os
import signal

import pytest
from helpers import run_script, start_script, wait_until

SCRIPT = """
import json, os, sys, time
found = [sys.argv[1:], os.getcwd(), os.environ["COLOUR"], sys.path[0], sys.stdout.encoding.lower()]
print(json.dumps(found), flush=True)
print("warning", file=sys.stderr)
if "sleep" in sys.argv:
    time.sleep(60)
if "fail" in sys.argv:
    raise ValueError("a defect")
sys.exit(3 if "three" in sys.argv else None)
"""


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_script_from_a_fork_and_a_fresh_one(tmp_path, fresh):
    script, options = tmp_path / "script.py", {"cwd": tmp_path, "env": {"COLOUR": "red"}, "fresh": fresh}
    script.write_text(SCRIPT)
    for argument, code in [("fail", 1), ("three", 3), ("é", 0)]:
        done = run_script(script, argument, **options)
        assert json.loads(done.stdout) == [[argument], str(tmp_path), "red", str(tmp_path), "utf-8"]
        assert done.returncode == code
        assert done.stderr.startswith("warning\n")
        assert ("ValueError: a defect" in done.stderr) == (argument == "fail")
    for number in (signal.SIGINT, signal.SIGKILL):
        with start_script(script, "sleep", **options) as process:
            wait_until(lambda process=process: process.stdout, "the script's start")
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(30) == -number
    assert "COLOUR" not in os.environ
