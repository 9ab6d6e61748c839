"""A page in headless Chromium: what its console says, what it loads, and how it fits a screen."""

import html
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).with_name("probe.js").read_text(encoding="utf-8")
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--enable-logging=stderr",
]  # fmt: skip


def chromium() -> str:
    """The browser, or a skip."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium; on Debian: apt-get install chromium")
    return found


def browse(page: Path, folder: Path, width: int = 1200, *options: str, script: str = "") -> dict[str, Any]:
    """Open a copy of a page in a frame of that width; `script` runs in it before the PROBE looks at it."""
    folder.mkdir(parents=True, exist_ok=True)
    copy, outer = folder / "copy.html", folder / "outer.html"
    text = page.read_text(encoding="utf-8")
    assert text.count("</body>") == 1
    copy.write_text(text.replace("</body>", f"<script>{script}\n{PROBE}</script></body>"), encoding="utf-8")
    outer.write_text(
        "<!DOCTYPE html><meta charset=utf-8><body><script>addEventListener('message', message => {"
        "document.body.dataset.seen = message.data; });</script>"
        f'<iframe src="copy.html" style="width:{width}px;height:900px;border:0"></iframe>',
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            chromium(), *OPTIONS, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000",
            f"--window-size={max(width, 500) + 60},1000", *options, "--dump-dom", outer.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found is not None, (done.stdout[-2000:], done.stderr[-2000:])
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {"console": console, **json.loads(html.unescape(found[1]))}


def listen(page: Path, folder: Path, script: str) -> list[str]:
    """Console messages of a copy of a page in which `script`, an async function's body, runs until its end.

    It is opened by itself and in real time, in which alone audio plays; `started()` waits until the time of it moves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = """const started = async () => { const audio = document.querySelector("audio");
        while (!(audio.currentTime > 0.2)) await new Promise((done) => setTimeout(done, 20)); };"""
    text = page.read_text(encoding="utf-8")
    script = f"<script>(async () => {{ {started} {script} }})().finally(() => console.log('the end'));</script>"
    copy = folder / "copy.html"
    copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    options = [*OPTIONS, f"--user-data-dir={folder / 'profile'}", "--autoplay-policy=no-user-gesture-required"]
    messages: list[str] = []
    with subprocess.Popen([chromium(), *options, copy.as_uri()], stderr=subprocess.PIPE, text=True) as browser:
        limit = threading.Timer(60, browser.kill)
        limit.start()
        for line in browser.stderr or ():
            messages += re.findall(r'CONSOLE:\d+\] "(.*)", source: ', line)
            if "the end" in messages:
                break
        limit.cancel()
        browser.terminate()
    return messages


def assert_clean(seen: dict[str, Any]) -> None:
    """No console message, nothing loaded, no sideways scrolling, no text over text or outside its figure."""
    found = {key: seen[key] for key in ("console", "resources", "scrolling", "overlaps", "outside")}
    assert not any(found.values()), found
