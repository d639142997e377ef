from __future__ import annotations

from pathlib import Path

import pytest

from ocl_edge.errors import SplitError
from ocl_edge_export.capture import capture
from ocl_edge_export.cuts import nearest_cuts, possible_cuts
from ocl_edge_export.pipeline import ExportRequest, export_bundle, list_cuts
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH

HEIGHT, WIDTH = small_network.HEIGHT, small_network.WIDTH


def test_possible_cuts_are_listed_with_what_they_cost() -> None:
    cuts = {cut.module: cut for cut in possible_cuts(capture(small_network.trained(), HEIGHT, WIDTH))}
    assert list(cuts)[-1] == "classifier"
    assert [name for name, cut in cuts.items() if cut.taken] == ["classifier"]
    last, narrow = cuts["classifier"], cuts["narrow"]
    assert last.parameters == 6 * 5 + 5
    assert last.features_mb == pytest.approx(4 * 6 * 24 * 32 / 1e6)
    assert narrow.parameters == 35 + 16 * 6 + 6
    assert narrow.features_mb == pytest.approx(4 * 16 * 24 * 32 / 1e6)
    pixels = 24 * 32
    convolutions = {"stem": 8 * 27, "left": 8 * 2 * 9, "right": 8 * 8 * 9, "narrow": 16 * 6, "classifier": 30}
    total = sum(convolutions.values()) * pixels + 16 * 16  # the gate sees one position
    assert last.compute == pytest.approx(30 * pixels / total)
    assert narrow.compute == pytest.approx((30 + 96) * pixels / total)
    assert "stem" not in cuts  # its head would read the image


def test_the_nearest_cuts_are_named() -> None:
    network = capture(small_network.trained(), HEIGHT, WIDTH)
    assert nearest_cuts(network, "stem") == "stem_norm"
    assert nearest_cuts(network, "no such module") == ""


def test_a_cut_that_cannot_be_made_names_those_that_can(tmp_path: Path, small_checkpoint: Path) -> None:
    request = ExportRequest(
        small_checkpoint, tmp_path / "out", arch=SMALL_ARCH, input_size=(HEIGHT, WIDTH), split="stem"
    )
    with pytest.raises(
        SplitError, match=r"read the image itself \(stem\).*\nNearest .*: stem_norm\n.*--split list"
    ):
        export_bundle(request)
    assert next(iter(list_cuts(request))).module == "stem_norm"
    assert not (tmp_path / "out").exists()
