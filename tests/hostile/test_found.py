"""Every input that was ever found stays: KIND-WHAT.bin in found/."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OclEdgeError
from tests.hostile.kinds import KINDS

FOUND = sorted((Path(__file__).parent / "found").glob("*.bin"))


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.stem)
def test_what_was_found_once_is_well_met(small_bundle: Bundle, tmp_path: Path, file: Path) -> None:
    kind = KINDS[file.name.partition("-")[0]](tmp_path, small_bundle.path)
    with contextlib.suppress(OclEdgeError):
        kind.read(file.read_bytes())
