"""The floors of the README: every file of scow/ stands there once, and imports only from below, or from its left."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import ROOT

MODULES = sorted(path.stem for path in (ROOT / "scow").glob("*.py") if path.stem != "__init__")


def places() -> list[str]:
    """Modules in the order of the README's table, row by row."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The code")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|") and "`" in line]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def imports_of(module: str) -> set[str]:
    """Modules of scow that a module imports, at its top or in a function, types alone left out."""
    tree = ast.parse((ROOT / "scow" / f"{module}.py").read_text(encoding="utf-8"))
    types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in types or not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        package, _, name = node.module.partition(".")
        if package == "scow":
            found |= {name} if name else {alias.name for alias in node.names}
    return found & set(MODULES)


def test_every_module_stands_in_the_table_once() -> None:
    assert sorted(places()) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_below_or_from_the_left(module: str) -> None:
    order = places()
    above = [name for name in imports_of(module) if order.index(name) >= order.index(module)]
    assert not above, f"{module} imports {above}, which stand above it or to its right"


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.py")))
def test_scripts_import_no_script(script: str) -> None:
    scripts = {path.stem for path in ROOT.glob("*.py")}
    for node in ast.walk(ast.parse((ROOT / script).read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not scripts & {name.partition(".")[0] for name in names}
