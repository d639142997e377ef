"""ONNX files as checkpoints: names, norms, batches; and each with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch.nn import functional as F

from ocl_edge.errors import CheckpointError, OclEdgeError, UsageError
from ocl_edge_export.capture import capture
from ocl_edge_export.checkpoint import load_network, read_checkpoint
from ocl_edge_export.onnx_network.reading import read_network
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_export.split import split_network
from tests.doubles.onnx_files import Node, in_own_file, segmenter, write_graph


def test_weights_are_parameters_and_norms_are_norms(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    network, size, notes = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors), None)
    assert size == (16, 24)
    assert "1 norms" in notes[0]
    assert len(notes) == 1
    trained = {name for name, _ in network.named_parameters()}
    assert trained == {"stem.0.weight", "stem.1.weight", "stem.1.bias", "head.weight", "head.bias"}
    image = torch.randn(2, 3, 16, 24)
    w = {name: torch.from_numpy(value) for name, value in tensors.items()}
    x = F.conv2d(image, w["stem.0.weight"], None, 2, 1)
    x = F.batch_norm(
        x, *(w[f"stem.1.{n}"] for n in ("running_mean", "running_var", "weight", "bias")), eps=1e-3
    )
    logits = F.conv2d(F.relu(x), w["head.weight"], w["head.bias"])
    expected = F.interpolate(logits, (16, 24), mode="bilinear", align_corners=False)
    assert torch.allclose(network(image), expected, atol=1e-5)


def test_it_is_cut_as_any_other_network(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    network, _, _ = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors), None)
    split = split_network(capture(network, 16, 24))
    assert (split.module, split.features, split.tail) == ("head", [[8, 8, 12]], None)


def test_an_onnx_file_exports(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    path = in_own_file(write_graph(tmp_path / "net.onnx", nodes, tensors), "net.weights")
    bundle = export_bundle(ExportRequest(path, tmp_path / "out"))
    assert [norm.name for norm in bundle.manifest.norms] == ["stem.1"]
    assert any("operator set 18, 1 norms" in note for note in bundle.manifest.checkpoint_notes)


def test_folded_norms_are_said(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    nodes[1] = ("Identity", ["a"], ["b"], {})
    _, _, notes = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors), None)
    assert "folded into its convolutions" in notes[1]


def test_norms_that_share_tensors_are_two(tmp_path: Path) -> None:
    """Exporters write equal tensors once; two norms of a fresh network have equal ones."""
    nodes, tensors = segmenter()
    nodes[2:2] = [("BatchNormalization", ["b", *nodes[1][1][1:]], ["b2"], {})]
    nodes[3] = ("Relu", ["b2"], ["c"], {})
    network, _, _ = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors), None)
    assert len([name for name, _ in network.named_buffers() if name.endswith("running_mean")]) == 2


def test_a_classifier_that_is_used_twice_stays_one(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    nodes[3:4] = [
        ("Conv", ["c", "head.weight", "head.bias"], ["one"], {}),
        ("Neg", ["c"], ["minus"], {}),
        ("Conv", ["minus", "head.weight", "head.bias"], ["two"], {}),
        ("Add", ["one", "two"], ["logits"], {}),
    ]
    network, _, _ = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors), None)
    assert {n for n, _ in network.named_parameters() if "head" in n} == {"head.weight", "head.bias"}


def test_names_come_from_the_nodes_where_the_weights_have_none(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    tensors["onnx::Conv_12"] = tensors.pop("head.weight")
    nodes[3] = ("Conv", ["c", "onnx::Conv_12"], ["logits"], {"name": "/decoder/decoder.1/conv/Conv"})
    network, _, _ = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors), None)
    assert "decoder.1.conv.weight" in dict(network.named_parameters())


def with_a_shape(shape: list[int]) -> tuple[list[Node], dict[str, Any]]:
    nodes, tensors = segmenter()
    nodes[2:3] = [
        ("Relu", ["b"], ["r"], {}),
        ("Reshape", ["r", "s1"], ["f"], {}),
        ("Reshape", ["f", "s2"], ["c"], {}),
    ]
    return nodes, {**tensors, "s1": np.array(shape), "s2": np.array([1, 8, 8, 12])}


def test_a_file_written_for_one_image_takes_two(tmp_path: Path) -> None:
    nodes, tensors = with_a_shape([1, 8, 96])
    network, _, _ = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors, (1, 3, 16, 24)), None)
    images = torch.randn(2, 3, 16, 24)
    alone = torch.cat([network(images[:1]), network(images[1:])])
    assert torch.allclose(network(images), alone, atol=1e-5)


def test_a_file_that_mixes_two_images_is_refused(tmp_path: Path) -> None:
    nodes, tensors = with_a_shape([8, 96])
    nodes[4:4] = [("Transpose", ["f"], ["t"], {}), ("Transpose", ["t"], ["u"], {})]
    nodes.insert(6, ("Softmax", ["u"], ["v"], {"axis": 0}))
    nodes[7] = ("Reshape", ["v", "s2"], ["c"], {})
    path = write_graph(tmp_path / "net.onnx", nodes, tensors, (1, 3, 16, 24))
    with pytest.raises(CheckpointError, match=r"was written for a batch of 1.*dynamic_shapes"):
        read_network(path, None)


def test_the_size_is_the_files_or_the_users(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    free = write_graph(tmp_path / "free.onnx", nodes, tensors, ("n", 3, "h", "w"))
    with pytest.raises(UsageError, match=r"images of any size: name one with --input-size"):
        read_network(free, None)
    assert read_network(free, (32, 40))[1] == (32, 40)
    fixed = write_graph(tmp_path / "fixed.onnx", nodes, tensors)
    with pytest.raises(UsageError, match="takes images of 16x24, not 32x40"):
        read_network(fixed, (32, 40))


def test_the_weights_alone_can_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --arch, the file is a state dict."""
    nodes, tensors = segmenter()
    path = write_graph(tmp_path / "net.onnx", nodes, tensors)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3))\n"
        "    return nn.ModuleDict({'stem': stem, 'head': nn.Conv2d(8, 5, 1)})\n"
    )
    loaded = load_network(read_checkpoint(path), f"{tmp_path / 'net.py'}:build")
    assert torch.equal(loaded.network.state_dict()["head.weight"], torch.from_numpy(tensors["head.weight"]))


Change = Callable[[list[Node], dict[str, Any]], None]


def _unknown(nodes: list[Node], _: dict[str, Any]) -> None:
    nodes[2] = ("NonZero", ["b"], ["c"], {})


def _foreign(nodes: list[Node], _: dict[str, Any]) -> None:
    nodes[2] = ("FusedConv", ["b"], ["c"], {"domain": "com.microsoft"})


def _branch(nodes: list[Node], _: dict[str, Any]) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    nodes[2] = ("If", ["b"], ["c"], {"then_branch": body, "else_branch": body})


def _nothing_gives(nodes: list[Node], _: dict[str, Any]) -> None:
    nodes[2] = ("Relu", ["nowhere"], ["c"], {})


def _twice(nodes: list[Node], _: dict[str, Any]) -> None:
    nodes[2] = ("Relu", ["b"], ["b"], {})


def _half(_: list[Node], tensors: dict[str, Any]) -> None:
    tensors["head.weight"] = tensors["head.weight"].astype(np.float16)


def _shape(_: list[Node], tensors: dict[str, Any]) -> None:
    tensors["head.weight"] = tensors["head.weight"][:, :7]


def _pixels_say_the_shape(nodes: list[Node], tensors: dict[str, Any]) -> None:
    nodes[2:3] = [("Cast", ["b"], ["i"], {"to": 7}), ("Reshape", ["b", "i"], ["c"], {})]


def _huge(nodes: list[Node], tensors: dict[str, Any]) -> None:
    tensors["many"] = np.array([1 << 20, 1 << 20], np.int64)
    nodes[2:3] = [("ConstantOfShape", ["many"], ["m"], {}), ("Relu", ["b"], ["c"], {})]


WRONG: dict[str, tuple[Change, str]] = {
    "operator": (_unknown, "an operator NonZero, which is not read"),
    "domain": (_foreign, "of the domain 'com.microsoft', expected ONNX's own"),
    "branch": (_branch, r"has an attribute '(then|else)_branch' of the kind GRAPH"),
    "order": (_nothing_gives, "reads 'nowhere', which nothing gives"),
    "twice": (_twice, "two operators give 'b'"),
    "float16": (_half, "holds float16 numbers; write the file in float32"),
    "shape": (_shape, r"\(Conv\) cannot be computed for an image \[\d, 3, 16, 24\]"),
    "dynamic": (_pixels_say_the_shape, "a shape that depends on pixel values"),
    "bomb": (_huge, "larger than any image's"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_in_a_graph_is_said(what: str, tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    change, message = WRONG[what]
    change(nodes, tensors)
    path = write_graph(tmp_path / "net.onnx", nodes, tensors)
    with pytest.raises(CheckpointError, match=message) as caught:
        export_bundle(ExportRequest(path, tmp_path / "out"))
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (("n", 16, 24, 3), TensorProto.FLOAT, r"takes images \[N, H, W, C\], expected \[N, C, H, W\]"),
        ((3, 16, 24), TensorProto.FLOAT, r"float \[3, 16, 24\], expected one float32 image"),
        (("n", 3, 16, 24), TensorProto.UINT8, "uint8 .* expected one float32 image"),
    ],
)
def test_inputs_that_are_no_images_are_named(
    image: tuple[int | str, ...], kind: int, message: str, tmp_path: Path
) -> None:
    path = write_graph(tmp_path / "net.onnx", [("Relu", ["image"], ["out"], {})], {}, image, kind=kind)
    with pytest.raises(CheckpointError, match=message):
        read_network(path, None)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    tensors["head.weight"][0] = np.nan
    with pytest.raises(OclEdgeError, match=r"head\.weight holds NaN"):
        export_bundle(ExportRequest(write_graph(tmp_path / "net.onnx", nodes, tensors), tmp_path / "out"))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "linked", "absent"])
def test_tensors_lie_beside_the_file_or_nowhere(location: str, tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    (tmp_path / "place").mkdir()
    path = in_own_file(write_graph(tmp_path / "place" / "net.onnx", nodes, tensors), "weights")
    (tmp_path / "place" / "linked").symlink_to(tmp_path / "place" / "weights")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="which is no file beside it"):
        read_network(path, None)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    nodes, tensors = segmenter()
    path = write_graph(tmp_path / "net.onnx", nodes, tensors)
    content = path.read_bytes()
    for cut in (0, 10, len(content) // 2):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="is no ONNX file"):
            read_checkpoint(path)
