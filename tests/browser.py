"""A page in headless Chromium: what its console says, what it loads, and how it fits a screen."""

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


def open_page(page: Path, *options: str) -> list[str]:
    """Console messages of a page until it says "the end"; in real time, in which alone audio plays."""
    messages: list[str] = []
    command = [chromium(), *OPTIONS, f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        limit = threading.Timer(60, browser.kill)
        limit.start()
        for line in browser.stderr or ():
            messages += re.findall(r'CONSOLE:\d+\] "(.*?)(?:", source: .*)?$', line)
            if messages[-1:] == ["the end"]:
                break
        limit.cancel()
        browser.terminate()
    return messages


def copy_of(page: Path, folder: Path, script: str) -> Path:
    """A copy in which a script runs at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    text = page.read_text(encoding="utf-8")
    assert text.count("</body>") == 1
    text = text.replace("</body>", f"<script>{script}</script></body>")
    (folder / "copy.html").write_text(text, encoding="utf-8")
    return folder / "copy.html"


def browse(page: Path, folder: Path, width: int = 1200, *options: str, script: str = "") -> dict[str, Any]:
    """Open a copy of a page in a frame of that width; `script` runs in it before the PROBE looks at it."""
    copy_of(page, folder, f"{script}\n{PROBE}")
    outer = folder / "outer.html"
    outer.write_text(
        "<!DOCTYPE html><meta charset=utf-8><body><script>addEventListener('message', message => {"
        "console.log(message.data); console.log('the end'); });</script>"
        f'<iframe src="copy.html" style="width:{width}px;height:900px;border:0"></iframe>',
        encoding="utf-8",
    )
    *console, seen, end = open_page(outer, f"--window-size={max(width, 500) + 60},1000", *options)
    assert end == "the end", end
    return {"console": console, **json.loads(seen)}


def listen(page: Path, folder: Path, script: str) -> list[str]:
    """Console messages of a copy of a page in which `script`, an async function's body, runs until its end.

    `started()` waits until the time of the audio moves.
    """
    started = """const started = async () => { const audio = document.querySelector("audio");
        while (!(audio.currentTime > 0.2)) await new Promise((done) => setTimeout(done, 20)); };"""
    script = f"(async () => {{ {started} {script} }})().finally(() => console.log('the end'));"
    return open_page(copy_of(page, folder, script), "--autoplay-policy=no-user-gesture-required")


def assert_clean(seen: dict[str, Any]) -> None:
    """No console message, nothing loaded, no sideways scrolling, no text over text or outside its figure."""
    found = {key: seen[key] for key in ("console", "resources", "scrolling", "overlaps", "outside")}
    assert not any(found.values()), found
