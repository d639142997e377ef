"""The gate must shut: files are damaged on purpose."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import ParityError, UsageError
from ocl_edge.network.form_names import FORMS
from ocl_edge.network.preprocess import InputSpec
from ocl_edge_export import pipeline
from ocl_edge_export.capture import capture
from ocl_edge_export.onnx_forms import export_plain, form_file, write_forms
from ocl_edge_export.parity import Tolerances, check_parity
from ocl_edge_export.parity_cases import Reference, features_of
from ocl_edge_export.sample_images import noise_images, read_images
from ocl_edge_export.split import split_network
from tests.doubles import small_network

FRAME = InputSpec(height=small_network.HEIGHT, width=small_network.WIDTH)


@pytest.fixture
def forms(small_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle.path, tmp_path / "forms"))


def gate(directory: Path, tolerances: Tolerances | None = None) -> dict[str, object]:
    network = small_network.trained()
    split = split_network(capture(network, FRAME.height, FRAME.width))
    image = noise_images(FRAME, count=1)
    with torch.no_grad():
        references = [
            Reference(views, network(views)) for views in (image, torch.cat((image, image.flip(3))))
        ]
    return check_parity(references, features_of(references, split.backbone), split, directory, 1, tolerances)


def damage(path: Path, initializer: str, factor: float) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == initializer:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * factor, tensor.name)
            )
    onnx.save(model, path)


def test_the_report_has_every_form_within_float32_noise(small_bundle: Bundle, forms: Path) -> None:
    report = gate(forms)["forms"]
    assert isinstance(report, dict)
    assert list(report) == ["plain", "modulated", "measured, weight 1", "measured, default prior"]
    for difference in report.values():
        assert difference["features_relative"] < 1e-5
        assert difference["logits_relative"] < 1e-5
        assert difference["class_disagreement"] < 1e-4
    assert small_bundle.manifest.parity["forms"].keys() == report.keys()


@pytest.mark.parametrize(
    ("form", "layer"), [("plain", "right"), ("modulated", "narrow"), ("measured", "stem")]
)
def test_a_wrong_weight_is_found_with_its_layer(forms: Path, form: str, layer: str) -> None:
    damage(forms / f"backbone.{form}.onnx", f"{layer}.weight", 1.05)
    with pytest.raises(ParityError) as caught:
        gate(forms)
    message = str(caught.value)
    assert f"'{form}" in message
    assert f"first layer where they part: {layer} (operator conv2d" in message
    assert "relative (at most 1e-03)" in message


def test_nan_does_not_pass(forms: Path) -> None:
    damage(forms / "backbone.plain.onnx", "narrow.weight", float("nan"))
    with pytest.raises(ParityError, match="nan"):
        gate(forms)


def test_tighter_tolerances_shut_the_gate(forms: Path) -> None:
    with pytest.raises(ParityError, match="at most 1e-12"):
        gate(forms, Tolerances(relative=1e-12))


def test_a_shut_gate_leaves_no_bundle(tmp_path: Path, small_checkpoint: Path) -> None:
    from tests.doubles.bundles import SMALL_ARCH

    request = pipeline.ExportRequest(
        small_checkpoint, tmp_path / "out", arch=SMALL_ARCH, input_size=(FRAME.height, FRAME.width)
    )
    with pytest.raises(ParityError):
        pipeline.export_bundle(request, tolerances=Tolerances(relative=1e-12))
    assert list(tmp_path.iterdir()) == []


def test_calibration_images_are_evenly_spaced_and_checked(frames: Path, tmp_path: Path) -> None:
    assert read_images(frames, FRAME).shape == (4, 3, 48, 64)
    assert read_images(frames, FRAME, at_most=9).shape[0] == 6
    with pytest.raises(UsageError, match="no images"):
        read_images(tmp_path, FRAME)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"broken\.png cannot be read"):
        read_images(tmp_path, FRAME)


class Pooling(nn.Module):
    """Pooled, and unpooled to the places of the maxima or enlarged; class 0 leads by as much as is said."""

    def __init__(self, unpools: bool, lead: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.unpools = unpools
        with torch.no_grad():
            nn.init.zeros_(self.head.bias)[0] = lead

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = F.max_pool2d(self.stem(x), 2, return_indices=True)
        wide = F.max_unpool2d(pooled, places, 2) if self.unpools else F.interpolate(pooled, scale_factor=2.0)
        logits: Tensor = self.head(wide)
        return logits


def gate_with_other_weights(directory: Path, network: nn.Module) -> None:
    """Halved weights play the rounding that moves a feature to the next pixel."""
    image = noise_images(FRAME, count=1)
    split = split_network(capture(network, FRAME.height, FRAME.width))
    pair = torch.cat((image, image.flip(3)))
    plain = export_plain(split.backbone, pair, split.features)
    write_forms(dict.fromkeys(FORMS, plain), {}, directory)
    for form in FORMS:
        damage(directory / form_file(form), "stem.weight", 0.5)
    with torch.no_grad():
        references = [Reference(views, network(views)) for views in (image, pair)]
    check_parity(references, features_of(references, split.backbone), split, directory, 1)


def test_where_a_network_unpools_the_mask_is_judged(tmp_path: Path) -> None:
    gate_with_other_weights(tmp_path, Pooling(unpools=True, lead=9.0))
    with pytest.raises(ParityError, match=r"features: .* relative \(at most 1e\+00\)"):
        gate_with_other_weights(tmp_path, Pooling(unpools=True, lead=0.0))
    with pytest.raises(ParityError, match=r"features: .* relative \(at most 1e-03\)"):
        gate_with_other_weights(tmp_path, Pooling(unpools=False, lead=9.0))
