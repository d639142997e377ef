"""Names of classes, by whoever gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge_export.classes import name_classes
from tests.doubles import small_network
from tests.doubles.bundles import export_small


@pytest.mark.parametrize("name", ["", "x" * 201, "a\udcff"])
def test_a_name_that_no_file_or_screen_can_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"class 1 is called .*, expected 1 to 200 characters"):
        name_classes(["road", name], None)


def test_long_names_of_tensors_and_odd_names_of_files_fit_into_the_manifest(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model\udcff.pth"
    extra = {f"aux{'x' * 5000}.weight": torch.zeros(1)}
    torch.save({**small_network.trained().state_dict(), **extra}, tmp_path / "model.pth")
    (tmp_path / "model.pth").rename(checkpoint)
    bundle: Bundle = export_small(tmp_path / "bundle", checkpoint)
    assert bundle.manifest.checkpoint == r"model\xff.pth"
    assert len(bundle.manifest.checkpoint_notes[0]) < 1100
