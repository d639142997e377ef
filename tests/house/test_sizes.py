"""Classes and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ocl_edge", "app/ocl_edge_app", "export/ocl_edge_export", "runtime/ocl_edge_runtime")
MOST_LINES_OF_A_CLASS = 200
MOST_LINES_OF_A_FUNCTION = 60

VERB = "a verb: one parameter for each option, then one plain sequence"
PLAIN_SEQUENCES = {
    "app/ocl_edge_app/cli/evaluate.py:evaluate": VERB,
    "app/ocl_edge_app/cli/profile.py:profile": VERB,
    "app/ocl_edge_app/cli/run.py:run": VERB,
    "app/ocl_edge_app/evaluation/protocol.py:evaluate_stream": "one plain sequence over the frames",
}
"""Longer functions that are one plain sequence of steps, with the reason."""


def measured() -> Iterator[tuple[str, int, int]]:
    """Name, lines, and the most that are allowed, of every class and function."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield from _inside(ast.parse(file.read_text(encoding="utf-8")), str(file.relative_to(ROOT)))


def _inside(node: ast.AST, name: str) -> Iterator[tuple[str, int, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{name}:{child.name}" if ".py:" not in name else f"{name}.{child.name}"
            most = MOST_LINES_OF_A_CLASS if isinstance(child, ast.ClassDef) else MOST_LINES_OF_A_FUNCTION
            assert child.end_lineno is not None
            yield inner, child.end_lineno - child.lineno + 1, most
            yield from _inside(child, inner)
        else:
            yield from _inside(child, name)


def test_no_class_and_no_function_is_too_long() -> None:
    long = {name: f"{lines} lines, at most {most}" for name, lines, most in measured() if lines > most}
    assert {name: text for name, text in long.items() if name not in PLAIN_SEQUENCES} == {}
