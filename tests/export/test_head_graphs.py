"""The gate of the head's graphs: damaged on purpose."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.errors import CaptureError, ParityError
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.preprocess import InputSpec
from ocl_edge_export import pipeline
from ocl_edge_export.capture import capture
from ocl_edge_export.head_graphs import check_head_graphs, write_head_graphs
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_export.split import split_network
from tests.doubles import small_network
from tests.doubles.bundles import export_small

FRAME = InputSpec(height=small_network.HEIGHT, width=small_network.WIDTH)
PAIRS = [torch.randn(2, 6, 24, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]


@pytest.fixture
def directory(small_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle.path, tmp_path / "bundle"))


def scale_a_constant(path: Path, value: float, factor: float) -> None:
    model = onnx.load(path)
    changed = 0
    for tensor in model.graph.initializer:
        if (array := onnx.numpy_helper.to_array(tensor)).shape == () and float(array) == value:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array * array.dtype.type(factor), tensor.name))
            changed += 1
    assert changed
    onnx.save(model, path)


def test_what_export_wrote_passes(small_bundle: Bundle) -> None:
    graphs = small_bundle.require_head_graphs()
    report = check_head_graphs(
        small_bundle.path, graphs, load_head(small_bundle), PAIRS, small_bundle.manifest.adaptation
    )
    assert report["steps"] == 20
    assert report["logits_relative"] < 1e-5
    assert report["weights_over_movement"] < 1e-4


@pytest.mark.parametrize(("value", "what"), [(1.0, "spread"), (0.1, "divisor of the gradient")])
def test_a_step_that_is_a_little_wrong_is_refused(directory: Path, value: float, what: str) -> None:
    """1 is the coefficient of the collapse term, 1 / (2 x 5 classes) counts the pixels."""
    bundle = Bundle.open(directory)
    graphs, head = bundle.require_head_graphs(), load_head(bundle)
    path = directory / "head_step.onnx"
    scale_a_constant(path, float(torch.tensor(value)), 1.01)
    with pytest.raises(ParityError, match=r"no bundle was written.*\n.*weights after 20 steps"):
        check_head_graphs(directory, graphs, head, PAIRS, bundle.manifest.adaptation)


def test_a_head_whose_steps_are_lost_in_rounding_has_no_graphs(tmp_path: Path) -> None:
    """Of a fresh network: the loss is nearly flat, and the rate that suits its features is huge."""
    network = small_network.trained()
    with torch.no_grad():
        network.narrow_norm.running_var.fill_(1e12)
        network.classifier.bias.zero_()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    bundle = export_small(tmp_path / "out", tmp_path / "net.pth")
    assert "lost in rounding" in str(bundle.manifest.no_head_graphs)
    assert bundle.manifest.adaptation.lr == 0.05
    assert not (tmp_path / "out" / "head_step.onnx").exists()


def test_the_check_steps_at_the_rate_that_suits_the_features(tmp_path: Path) -> None:
    """At 0.05 the steps of large features are so wild that rounding alone drives the two apart."""
    network = small_network.trained()
    with torch.no_grad():
        network.narrow_norm.running_var /= 100.0**2
        network.classifier.weight /= 100.0
    torch.save(network.state_dict(), tmp_path / "net.pth")
    bundle = export_small(tmp_path / "out", tmp_path / "net.pth")
    assert bundle.manifest.adaptation.lr < 1e-3
    assert bundle.manifest.parity["head"]["weights_over_movement"] < 1e-3


class TwoLayerHead(small_network.SmallNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 5, 1))  # type: ignore[assignment]


def test_a_head_that_is_no_convolution_gets_none_and_the_manifest_says_why(tmp_path: Path) -> None:
    split = split_network(capture(TwoLayerHead().eval(), FRAME.height, FRAME.width), "classifier")
    fields = pipeline._head_graphs(split, split.head, tmp_path, (), {}, AdaptationDefaults())
    assert fields.keys() == {"no_head_graphs", "parity"}
    assert "needs a head of one convolution, this one is: aten.relu" in str(fields["no_head_graphs"])
    assert not (tmp_path / "head.onnx").exists()


def test_more_classes_than_a_mask_holds_are_refused_at_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOST_CLASSES", 256)  # a network of 65,536 classes takes long
    torch.save(small_network.SmallNetwork(257).eval(), tmp_path / "net.pt")
    request = ExportRequest(tmp_path / "net.pt", tmp_path / "out", input_size=(48, 64), trust_pickle=True)
    with pytest.raises(CaptureError, match="257 classes; a mask has at most 16 bits, so 256"):
        export_bundle(request)
    assert not (tmp_path / "out").exists()


def test_a_head_with_a_larger_kernel_has_a_fixed_size(tmp_path: Path) -> None:
    head = nn.Conv2d(6, 5, 3, padding=1)
    program = torch.export.export(head, (torch.zeros(2, 6, 24, 32),)).module()
    graphs = write_head_graphs(program, [6, 24, 32], tmp_path, AdaptationDefaults())
    assert graphs.graphs["head"].inputs[0].shape == (-1, 6, 24, 32)
    assert graphs.graphs["head"].outputs[0].shape == (-1, 5, 24, 32)
    assert graphs.graphs["head_step"].inputs[0].shape == (2, 6, 24, 32)


def test_the_order_of_the_weights_is_that_of_the_heads_restoration(small_bundle: Bundle) -> None:
    names = [name for name, _ in load_head(small_bundle).named_parameters()]
    assert list(small_bundle.require_head_graphs().parameters.values()) == names
