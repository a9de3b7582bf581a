"""What the source says of itself, for texts that must say the same."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import ROOT

MESSAGES = {"CheckMessage", "Debug", "Info", "Warning", "Error", "Critical"}


def strings(path: Path) -> set[str]:
    """Return the texts that stand in a module as values."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def check_ids(*, registered_with: str = "") -> set[str]:
    """Return the ids of the system checks; or of those whose registration holds this text."""
    found: set[str] = set()
    for path in sorted((ROOT / "keys" / "checks").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in _registered(tree, registered_with) if registered_with else (tree,):
            found |= {*_ids(node)}
    return found


def _registered(tree: ast.Module, text: str) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and text in " ".join(map(ast.unparse, node.decorator_list)):
            yield node


def _ids(tree: ast.AST) -> Iterator[str]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in MESSAGES:
            ids = [keyword.value for keyword in call.keywords if keyword.arg == "id"]
            written = [node.value for node in ids if isinstance(node, ast.Constant)]
            # An id that is put together elsewhere would be missed here.
            assert len(written) == 1, ast.unparse(call)
            yield str(written[0])
