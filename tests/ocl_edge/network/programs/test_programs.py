from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn

from ocl_edge.bundle.reading import Bundle, load_backbone, load_head
from ocl_edge.errors import CaptureError
from ocl_edge.network.batch_norms import list_norms
from ocl_edge.network.forms import build_form
from ocl_edge.network.programs import read_program, write_program
from ocl_edge.network.programs.operators import OPERATORS, find_operator, name_of
from ocl_edge.network.programs.shapes import conv2d_shape
from ocl_edge.network.weight_file import ALIGNMENT_BYTES, write_weights
from ocl_edge_export.capture import capture
from ocl_edge_export.functional import as_plain_graph
from ocl_edge_export.split import split_network
from tests.doubles import small_network


def captured(module: nn.Module, *inputs: Tensor) -> fx.GraphModule:
    program = torch.export.export(module.eval(), inputs).module()
    assert isinstance(program, fx.GraphModule)
    return as_plain_graph(program)


def written_and_read(module: fx.GraphModule, directory: Path, *inputs: Tensor) -> fx.GraphModule:
    tensors = write_program(module, directory / "program.json")
    write_weights(tensors, directory / "weights.safetensors")
    shapes = [tuple(value.shape[1:]) for value in inputs]
    results = [None for _ in module.graph.output_node().all_input_nodes]
    return read_program(directory / "program.json", directory / "weights.safetensors", shapes, results)


def test_backbone_and_head_compute_what_was_captured_bit_for_bit(small_bundle: Bundle) -> None:
    split = split_network(capture(small_network.trained(), small_network.HEIGHT, small_network.WIDTH))
    backbone, head = load_backbone(small_bundle), load_head(small_bundle)
    image = torch.randn(3, 3, small_network.HEIGHT, small_network.WIDTH)
    with torch.no_grad():
        expected = split.backbone(image)
        assert all(map(torch.equal, backbone(image), expected))
        assert torch.equal(head(*expected)[0], split.head(*expected)[0])
        statistics = torch.rand(2, small_bundle.manifest.norm_channels)
        inputs = (image, statistics, torch.full((3, statistics.shape[1]), 0.7))
        measured = [build_form(module, "measured", 4)(*inputs) for module in (backbone, split.backbone)]
    assert list_norms(backbone) == list_norms(split.backbone)
    assert all(map(torch.equal, *measured))


def test_a_read_head_trains_at_any_batch_size(small_bundle: Bundle) -> None:
    head = load_head(small_bundle)
    assert {name: p.requires_grad for name, p in head.named_parameters()} == {
        "classifier.weight": True,
        "classifier.bias": True,
    }
    for batch in (1, 3):
        logits = head(torch.ones(batch, *small_bundle.manifest.features[0]))[0]
        assert logits.shape[0] == batch
        logits.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_training_a_head_leaves_the_file_and_other_readers_alone(small_bundle: Bundle) -> None:
    head = load_head(small_bundle)
    with torch.no_grad():
        head.get_parameter("classifier.weight").zero_()
    assert load_head(small_bundle).get_parameter("classifier.weight").abs().sum() > 0
    small_bundle.verify()


class Ties(nn.Module):
    """One parameter under two names, a constant, infinity, None, lists, dtypes and sizes as arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 4, 1, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("offsets", torch.arange(4).reshape(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).clamp(max=float("inf"))) + self.offsets.to(torch.float64)
        y = torch.cat((y, y.flip(3)), 1)[:, ::2].masked_fill(x > 1, -float("inf"))
        rows = torch.arange(1, x.shape[2] + 1, dtype=torch.float32).reshape(1, 1, -1, 1)
        pooled, where = torch.max(y.to(torch.float32) * rows, dim=1, keepdim=True)
        return pooled.expand(-1, x.shape[1], -1, -1) + where


def test_every_kind_of_argument_survives_and_a_tie_stays_a_tie(tmp_path: Path) -> None:
    x = torch.randn(2, 4, 5, 6)
    module = captured(Ties(), x)
    program = written_and_read(module, tmp_path, x)
    assert torch.equal(program(x)[0], module(x)[0])
    (name,) = (name for name, _ in program.named_parameters())
    program(x)[0].clamp(-99, 99).sum().backward()
    assert program.get_parameter(name).grad is not None


def test_an_operator_outside_the_list_is_refused_by_name(tmp_path: Path) -> None:
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft2(x).abs()

    with pytest.raises(CaptureError, match=r"aten\.fft_fft2\.default, which is not among the operators"):
        write_program(captured(Fourier(), torch.zeros(2, 3, 4, 4)), tmp_path / "program.json")


def test_every_listed_operator_is_one_of_this_pytorch_and_is_spelled_as_pytorch_does() -> None:
    for name in OPERATORS:
        assert name_of(find_operator(name)) == name


def test_the_weight_file_is_safetensors_whose_tensors_lie_where_it_says(tmp_path: Path) -> None:
    tensors = {
        "odd": torch.arange(3, dtype=torch.int64),
        "even": torch.randn(4, 16),
        "half": torch.randn(32).to(torch.bfloat16),
        "flag": torch.tensor(True),
        "turned": torch.randn(5, 7).T,
    }
    offsets = write_weights(tensors, tmp_path / "w.safetensors")
    read = load_file(tmp_path / "w.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    content = (tmp_path / "w.safetensors").read_bytes()
    places = sorted(offsets.values())
    assert places[0] % ALIGNMENT_BYTES == places[1] % ALIGNMENT_BYTES == 0
    assert content[offsets_of(tensors["odd"], offsets) :][:24] == bytes(
        [0] * 8 + [1] + [0] * 7 + [2] + [0] * 7
    )


def offsets_of(tensor: Tensor, offsets: dict[str, int]) -> int:
    import hashlib

    return offsets[hashlib.sha256(tensor.numpy().tobytes()).hexdigest()]


def test_a_bundle_holds_each_weight_once_and_no_archive(small_bundle: Bundle) -> None:
    manifest = small_bundle.manifest
    assert not any(name.endswith((".pt2", ".pkl", ".pt", ".zip")) for name in manifest.files)
    weight = small_network.trained().right.weight.detach().numpy().tobytes()
    held = [name for name in manifest.files if weight in small_bundle.file(name).read_bytes()]
    assert held == ["weights.safetensors"]
    assert small_bundle.file("weights.safetensors").read_bytes().count(weight) == 1


def test_no_program_names_the_machine_that_wrote_it(small_bundle: Bundle) -> None:
    for name in ("backbone.json", "head.json"):
        text = small_bundle.file(name).read_text("utf-8")
        json.loads(text)
        assert str(Path(__file__).parents[4]) not in text
        assert ".py" not in text


def test_reading_a_program_needs_no_exporter(small_bundle: Bundle) -> None:
    code = f"""
import sys
for absent in ("onnx", "onnxscript", "onnxruntime", "onnx_ir"):
    sys.modules[absent] = None
from ocl_edge.bundle.reading import Bundle, load_backbone, load_head
bundle = Bundle.open({str(small_bundle.path)!r})
load_backbone(bundle), load_head(bundle)
assert not [name for name in sys.modules if name.startswith("ocl_edge_")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_the_shape_of_a_convolution_is_what_pytorch_computes(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    x, weight, bias = torch.zeros(2, 6, 11, 13), torch.zeros(8, 3, *kernel), torch.zeros(8)
    expected = torch.ops.aten.conv2d.default(x, weight, bias, stride, padding, dilation, 2)
    assert conv2d_shape(x, weight, bias, stride, padding, dilation, 2).shape == expected.shape


@pytest.mark.parametrize(
    ("weight", "bias", "options"),
    [
        ((8, 4, 1, 1), (8,), {}),
        ((8, 6, 1), (8,), {}),
        ((8, 6, 1, 1), (7,), {}),
        ((8, 6, 1, 1), None, {"stride": (0, 1)}),
        ((8, 6, 1, 1), None, {"padding": (-1, 0)}),
        ((8, 6, 12, 1), None, {}),
        ((8, 3, 1, 1), None, {"groups": 3}),
        ((8, 3, 1, 1), None, {"groups": 0}),
    ],
)
def test_a_convolution_that_pytorch_refuses_has_no_shape(
    weight: tuple[int, ...], bias: tuple[int, ...] | None, options: dict[str, Any]
) -> None:
    x, values = torch.zeros(2, 6, 11, 13), torch.zeros(weight)
    biases = None if bias is None else torch.zeros(bias)
    with pytest.raises(RuntimeError):
        torch.nn.functional.conv2d(x, values, biases, **options)
    with pytest.raises(ValueError, match=r"\d"):
        conv2d_shape(x, values, biases, **options)


def test_a_run_does_not_import_pytorchs_compiler(small_bundle: Bundle, frames: Path) -> None:
    """Half a second of processor time, and several seconds where the disk is cold."""
    code = f"""
import sys
from ocl_edge_app.cli import run
assert run(["run", {str(small_bundle.path)!r}, "--source", {str(frames)!r}, "--limit", "3", "-q"]) == 0
assert not {{"sympy", "torch._dynamo", "torch._inductor", "onnx"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
