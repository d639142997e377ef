"""The gate holds for every backend that may run, and what fails is recorded by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge_export import parity
from ocl_edge_export.gate_runners import OpenVinoRunner, run_onnx
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from tests.doubles.bundles import export_small


class Antialiased(nn.Module):
    """A resize that OpenVINO computes otherwise than PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image).relu()
        smaller = F.interpolate(x, (11, 17), mode="bilinear", antialias=True)
        x = x + 3 * F.interpolate(smaller, x.shape[2:], mode="bilinear")
        return F.interpolate(self.head(x), image.shape[2:], mode="bilinear")


def build_antialiased() -> nn.Module:
    return Antialiased()


def test_openvino_is_recorded_where_it_computes_otherwise(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(Antialiased().state_dict(), tmp_path / "net.pth")
    request = ExportRequest(
        tmp_path / "net.pth", tmp_path / "out", arch=f"{__file__}:build_antialiased", input_size=(64, 96)
    )
    manifest = export_bundle(request).manifest
    assert list(manifest.unfit_backends) == ["openvino"]
    assert "plain form otherwise than the network" in manifest.unfit_backends["openvino"]
    assert manifest.parity["backends"]["openvino"]["features_relative"] > 1e-3
    assert manifest.parity["forms"]["plain"]["features_relative"] < 1e-5


def test_openvino_passes_where_it_computes_the_same(small_bundle: Bundle) -> None:
    manifest = small_bundle.manifest
    assert manifest.unfit_backends == {}
    assert manifest.parity["backends"]["openvino"]["features_relative"] < 1e-4


def test_every_form_is_run_on_one_view_and_measured_and_plain_on_a_pair(
    small_bundle: Bundle, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []

    def spying(path: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((path.name, len(inputs["image"])))
        return run_onnx(path, inputs)

    monkeypatch.setattr(parity, "installed_runners", lambda: {"spy": spying})
    export_small(tmp_path / "out", small_checkpoint)
    assert {batch for name, batch in seen if "plain" in name} == {1, 2}
    assert {batch for name, batch in seen if "measured" in name} == {1, 2}
    assert ("backbone.modulated.onnx", 1) in seen


@pytest.mark.parametrize("batch", [1, 2])
def test_a_backend_that_is_wrong_for_one_batch_size_is_unfit(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    def wrong(path: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = run_onnx(path, inputs)
        return {n: v * 1.01 for n, v in outputs.items()} if len(inputs["image"]) == batch else outputs

    monkeypatch.setattr(parity, "installed_runners", lambda: {"wrong": wrong})
    unfit = export_small(tmp_path / "out", small_checkpoint).manifest.unfit_backends
    assert ("one view" if batch == 1 else "view pair") in unfit["wrong"]


def test_a_backend_that_cannot_run_a_form_is_unfit(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        raise RuntimeError("Exception from plugin:\n\nPad with mode 'wrap' is not supported\n")

    monkeypatch.setattr(parity, "installed_runners", lambda: {"failing": failing})
    unfit = export_small(tmp_path / "out", small_checkpoint).manifest.unfit_backends
    assert unfit == {"failing": "it cannot run the plain form: Pad with mode 'wrap' is not supported"}


def test_the_openvino_runner_gives_what_onnx_runtime_gives(small_bundle: Bundle) -> None:
    runner, path = OpenVinoRunner(), small_bundle.file("backbone.plain.onnx")
    for batch in (1, 2):
        inputs = {"image": torch.randn(batch, 3, 48, 64)}
        ours, theirs = runner(path, inputs), run_onnx(path, inputs)
        assert ours.keys() == theirs.keys()
        assert torch.allclose(ours["features_0"], theirs["features_0"], atol=1e-4)
