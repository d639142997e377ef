"""A short soak; `bench/soak.py` with its defaults is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ocl_edge.bundle.reading import Bundle

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


def test_two_thousand_frames_leave_memory_files_and_threads_as_they_were(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    """In a process of its own: memory of other tests would be reused. A leaked mask has 3,000 bytes."""
    report = tmp_path / "soak.json"
    options = ["--frames", "2000", "--bytes-per-frame", "1500", "--json", str(report)]
    done = subprocess.run(
        [sys.executable, str(SOAK), str(small_bundle.path), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text("utf-8"))
    assert (found["frames"], found["skipped"]) == (1962, 38)
    assert found["updates"] > 300
    assert {"roll back", "freeze", "the frame is blank", "the frame repeats the one before"} <= found[
        "reasons"
    ].keys()
