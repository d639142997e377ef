"""What holds for every test: doubles have one place, tests stand alone, and look at what is public."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(file.relative_to(TESTS).as_posix() for file in TESTS.rglob("*.py"))

PRIVATE = {
    "app/report/test_recorder.py": {"_kept"},  # what a long run holds in memory
    "export/test_head_graphs.py": {"_head_graphs", "_write_programs"},  # a whole export takes long
    "runtime/backends/test_backends.py": {"_loaded"},  # what the library was told: it has no public trace
    "runtime/backends/test_onnxruntime_gpu.py": {"_check_session", "_open_session"},  # run on a GPU
    "runtime/records/killed_adaptation.py": {"_exit"},  # of os
    "runtime/records/test_run_records.py": {"_file", "_write"},  # a disk that fills up
    "ocl_edge/network/test_bilinear_argmax.py": {"_everywhere_on_gpu"},  # runs where there is a GPU
    "ocl_edge/tensorrt/test_driver.py": {"_obj"},  # of ctypes
}
"""File -> private attributes of others that it reads, because nothing public can tell."""


def tree_of(name: str) -> ast.Module:
    return ast.parse((TESTS / name).read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module of the tests that a file imports; ``from a import b`` may be ``a`` or ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("tests"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
            for name in node.names:
                full = f"{node.module}.{name.name}"
                there = (TESTS.parent / full.replace(".", "/")).with_suffix(".py").exists()
                yield full if there else str(node.module)


def private_reads(tree: ast.Module) -> set[str]:
    """Names of attributes with one underscore that are read of something else than oneself."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


@pytest.mark.parametrize("name", FILES)
def test_no_file_imports_a_test(name: str) -> None:
    tests = [module for module in imported(tree_of(name)) if module.split(".")[-1].startswith("test_")]
    assert tests == []


@pytest.mark.parametrize("name", [name for name in FILES if "/test_" in name])
def test_what_several_packages_share_lies_among_the_doubles(name: str) -> None:
    """A helper that is no double is a neighbour of those who use it, or a floor above them."""
    own = f"tests.{Path(name).parent.as_posix().replace('/', '.')}"
    shared = [module for module in imported(tree_of(name)) if not module.startswith("tests.doubles")]
    assert [module for module in shared if not f"{own}.".startswith(f"{module.rpartition('.')[0]}.")] == []


@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith("doubles/")])
def test_private_attributes_are_read_only_where_nothing_public_can_tell(name: str) -> None:
    assert private_reads(tree_of(name)) - PRIVATE.get(name, set()) == set()


def test_the_rules_can_be_broken() -> None:
    tree = ast.parse(
        "from tests.house import test_sizes\nimport tests.house.test_sizes\n"
        "from tests.house.test_sizes import measured\nself._own\nother._hidden\nother.__class__"
    )
    assert set(imported(tree)) == {"tests.house.test_sizes"}
    assert private_reads(tree) == {"_hidden"}
