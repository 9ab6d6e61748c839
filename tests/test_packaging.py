"""`pip install .` installs the package with its data; nothing imports it by way of the repository's folder."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.slow
def test_pip_install(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(ROOT / "scow", source / "scow", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", target, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected = {path.relative_to(source) for path in (source / "scow").rglob("*") if path.is_file()}
    assert expected <= {path.relative_to(target) for path in target.rglob("*")}
    assert {path.name for path in target.iterdir() if not path.name.endswith(".dist-info")} <= {"scow"}
    code = (
        "import importlib.metadata, scow; from scow import predict_song\n"
        "print(scow.__file__, scow.__version__, importlib.metadata.version('stereo-chorus-of-whispers'))"
    )
    command, env = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(target)}
    printed = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=True)
    file, version, metadata_version = printed.stdout.split()
    assert file.startswith(str(target))
    assert version == metadata_version
