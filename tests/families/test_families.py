"""Published families with random weights: exported, run on every backend, adapted. `make test-families`.

One at a time, each in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.published_kinds import FRAMES, PUBLISHED_KINDS
from tests.families.families import OWN_CODE, SMP, TIMM, TORCHVISION, TRANSFORMERS, write_config

pytestmark = pytest.mark.families
pytest.importorskip("torchvision", reason="make test-families installs it")

MOST_DIFFERENT = 1e-3
RESULTS = os.environ.get("OCL_EDGE_FAMILIES", "")
"""File that gets one JSON object a family, for `tests.families.table`."""


def measured(spec: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.families.measure", spec],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    if RESULTS:
        with Path(RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    return found


def check(spec: str) -> None:
    found = measured(spec)
    assert {"onnxruntime", "torch"} <= set(found["differs"])
    assert max(found["differs"].values()) <= MOST_DIFFERENT, found["differs"]
    assert set(found["learned"].values()) == {FRAMES}


@pytest.mark.parametrize("spec", TORCHVISION + SMP + TIMM + OWN_CODE + PUBLISHED_KINDS)
def test_a_family_goes_in_and_gives_pytorchs_masks(spec: str) -> None:
    check(spec)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_directory_of_transformers_goes_in(kind: str, tmp_path: Path) -> None:
    check(write_config(kind, tmp_path / kind))
