"""Some hostile inputs of every kind; `make fuzz MINUTES=30` gives them as long as wished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ocl_edge.bundle.reading import Bundle
from tests.hostile.kinds import KINDS

ROOT = Path(__file__).parents[2]
SECONDS, MOST = 30, 150
"""As many inputs; fewer where the machine is busy."""


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_inputs_are_refused_or_taken_and_nothing_else(
    small_bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    """In a process of its own: what a library does to it, or starts, is seen there."""
    command = [sys.executable, "-m", "tests.hostile.fuzz", kind, "--bundle", str(small_bundle.path)]
    command += ["--seconds", str(SECONDS), "--most", str(MOST), "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=300)
    assert done.stdout, f"it ended with {done.returncode}; the input is in {tmp_path}: {done.stderr[-2000:]}"
    report = json.loads(done.stdout)
    assert report["found"] == []
    assert report["inputs"] > 10
    assert report["refused"] > 0
    assert report["taken"] > 0  # else nothing of it would have come to what reads it
    assert not any(not c.isprintable() and c not in "\n\t" for c in done.stderr)
