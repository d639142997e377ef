"""Every operator computes what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from ocl_edge_export.onnx_network.reading import read_network
from ocl_edge_export.onnx_network.trial import OPERATORS
from tests.doubles.onnx_files import Node, write_graph

RANDOM = np.random.default_rng(0)
UNARY = (
    *("Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Flatten", "Floor", "Gelu", "GlobalAveragePool"),
    *(
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "LogSoftmax",
        "Mish",
        "Neg",
        "Relu",
    ),
    *("Round", "Selu", "Sigmoid", "Sign", "Sin", "Softmax", "Softplus", "Tanh", "Transpose"),
)
POSITIVE = ("Log", "Reciprocal", "Sqrt")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
REDUCTIONS = ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")


def numbers(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def integers(*values: int) -> Any:
    return np.array(values, np.int64)


def one(operator: str, inputs: dict[str, Any] | None = None, opset: int = 20, **attributes: Any) -> Any:
    """A graph of one node on the image; the operator set is its last argument."""
    inputs = inputs or {}
    return [(operator, ["image", *inputs], ["out"], attributes)], inputs, opset


def resize(sizes: tuple[int, ...] | None, scales: tuple[float, ...] | None, **how: Any) -> Any:
    given = {"sizes": integers(*sizes)} if sizes else {"scales": np.array(scales, np.float32)}
    inputs = ["image", "", "", "sizes"] if sizes else ["image", "", "scales"]
    return [("Resize", inputs, ["out"], how)], given, 20


def norms(operator: str, channels: int, opset: int = 20, **attributes: Any) -> Any:
    return one(operator, {"w": 1 + numbers(channels), "b": numbers(channels)}, opset, **attributes)


CASES: dict[str, Any] = {
    **{name: one(name) for name in UNARY},
    **{name: ([("Exp", ["image"], ["e"], {}), (name, ["e"], ["out"], {})], {}, 20) for name in POSITIVE},
    **{name: one(name, {"c": 2 + numbers(3, 1, 1)}) for name in BINARY},
    **{name: one(name, axes=[2, 3], opset=13) for name in REDUCTIONS if name != "ReduceSum"},
    **{f"{name} 18": one(name, {"axes": integers(1)}, keepdims=0) for name in REDUCTIONS},
    "AveragePool": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool counted": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "AveragePool same": one("AveragePool", kernel_shape=[2, 2], auto_pad="SAME_UPPER", count_include_pad=1),
    "Cast": ([("Cast", ["image"], ["i"], {"to": 6}), ("Cast", ["i"], ["out"], {"to": 1})], {}, 20),
    "Clip": one("Clip", {"low": np.float32(-0.5), "high": np.float32(0.5)}),
    "Clip 6": one("Clip", opset=6, min=-0.5, max=0.5),
    "Concat": ([("Concat", ["image", "image"], ["out"], {"axis": 1})], {}, 20),
    "Conv": one("Conv", {"w": numbers(6, 1, 3, 3), "b": numbers(6)}, group=3, dilations=[2, 2]),
    "Conv same": one("Conv", {"w": numbers(4, 3, 3, 3)}, strides=[2, 2], auto_pad="SAME_LOWER"),
    "Conv lopsided": one("Conv", {"w": numbers(4, 3, 3, 3)}, pads=[0, 1, 2, 0]),
    "ConvTranspose": one(
        "ConvTranspose", {"w": numbers(3, 4, 3, 3)}, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]
    ),
    "DepthToSpace": (
        [("Concat", ["image"] * 4, ["x"], {"axis": 1}), ("DepthToSpace", ["x"], ["out"], {"blocksize": 2})],
        {},
        20,
    ),
    "DepthToSpace CRD": (
        [
            ("Concat", ["image"] * 4, ["x"], {"axis": 1}),
            ("DepthToSpace", ["x"], ["out"], {"blocksize": 2, "mode": "CRD"}),
        ],
        {},
        20,
    ),
    "SpaceToDepth": one("SpaceToDepth", blocksize=2),
    "Einsum": (
        [("Einsum", ["image", "k"], ["out"], {"equation": "nchw,kc->nkhw"})],
        {"k": numbers(5, 3)},
        20,
    ),
    "Expand": (
        [("GlobalMaxPool", ["image"], ["m"], {}), ("Expand", ["m", "shape"], ["out"], {})],
        {"shape": integers(1, 3, 16, 24)},
        20,
    ),
    "Gather": one("Gather", {"at": integers(2, 0)}, axis=1),
    "Gather one": one("Gather", {"at": np.int64(-1)}, axis=2),
    "Gemm": (
        [
            ("GlobalAveragePool", ["image"], ["p"], {}),
            ("Flatten", ["p"], ["f"], {}),
            ("Gemm", ["f", "w", "b"], ["out"], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ],
        {"w": numbers(4, 3), "b": numbers(4)},
        20,
    ),
    "GroupNormalization": norms("GroupNormalization", 3, 21, num_groups=3),
    "InstanceNormalization": norms("InstanceNormalization", 3),
    "LayerNormalization": norms("LayerNormalization", 24),
    "MatMul": one("MatMul", {"w": numbers(24, 7)}),
    "MaxPool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    "MaxPool lopsided": one("MaxPool", kernel_shape=[3, 3], pads=[0, 1, 1, 0]),
    "PRelu": one("PRelu", {"slope": numbers(3, 1, 1)}),
    "Pad": one("Pad", {"pads": integers(0, 0, 1, 2, 0, 0, 0, 3), "value": np.float32(4)}),
    "Pad reflect": one("Pad", {"pads": integers(0, 0, 1, 2, 0, 0, 0, 3)}, mode="reflect"),
    "Pad some axes": (
        [("Pad", ["image", "pads", "", "axes"], ["out"], {})],
        {"pads": integers(1, 2), "axes": integers(-1)},
        20,
    ),
    "Pow": one("Pow", {"two": np.float32(2)}),
    "Reshape": one("Reshape", {"shape": integers(0, -1, 24)}),
    "Resize linear": resize((1, 3, 33, 50), None, mode="linear"),
    "Resize corners": resize(
        None, (1, 1, 2, 2), mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "Resize nearest": resize(
        (1, 3, 7, 9), None, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "Resize nearest twice": resize(None, (1, 1, 2, 2)),
    "Resize cubic": resize(None, (1, 1, 2, 2), mode="cubic"),
    "Resize antialias": resize((1, 3, 7, 9), None, mode="linear", antialias=1, exclude_outside=1),
    "Slice": one("Slice", {"s": integers(2, 1), "e": integers(2**62, -1), "a": integers(3, 2)}),
    "Slice backwards": one(
        "Slice", {"s": integers(-1), "e": integers(-(2**62)), "a": integers(3), "t": integers(-1)}
    ),
    "Slice steps back": one(
        "Slice", {"s": integers(9), "e": integers(2), "a": integers(3), "t": integers(-3)}
    ),
    "Slice 9": one("Slice", opset=9, starts=[1], ends=[-2], axes=[2]),
    "Split": ([("Split", ["image", "l"], ["x", "out"], {"axis": 1})], {"l": integers(1, 2)}, 18),
    "Squeeze": (
        [("ReduceMean", ["image", "a"], ["m"], {}), ("Squeeze", ["m", "a"], ["out"], {})],
        {"a": integers(1)},
        18,
    ),
    "Tile": one("Tile", {"times": integers(1, 2, 1, 1)}),
    "Unsqueeze": one("Unsqueeze", {"axes": integers(1, -1)}),
    "Upsample": one("Upsample", {"s": np.array([1, 1, 2, 2], np.float32)}, 9),
    "Where": (
        [("Greater", ["image", "z"], ["g"], {}), ("Where", ["g", "image", "z"], ["out"], {})],
        {"z": np.float32(0)},
        20,
    ),
    "ArgMax": ([("ArgMax", ["image"], ["i"], {"axis": 1}), ("Cast", ["i"], ["out"], {"to": 1})], {}, 20),
    "Transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "Mod": one("Mod", {"m": np.float32(0.3)}, fmod=1),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    nodes, tensors, opset = CASES[name]
    path = write_graph(tmp_path / "net.onnx", nodes, tensors, image=(1, 3, 16, 24), opset=opset)
    network, _, _ = read_network(path, None)
    image = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(7))
    ours = network(image)
    theirs = onnxruntime.InferenceSession(path).run(["out"], {"image": image.numpy()})[0]
    assert ours.shape == theirs.shape
    assert np.allclose(ours.detach().numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_nearly_every_operator_of_the_list_was_tried() -> None:
    tried = {node[0] for nodes, _, _ in CASES.values() for node in nodes}
    logic = {"And", "Or", "Not", "Equal", "Less", "LessOrEqual", "GreaterOrEqual", "ArgMin", "Range"}
    elsewhere = {"BatchNormalization", "ConstantOfShape", "Dropout", "CastLike", "GatherND"}
    assert set(OPERATORS) - tried <= logic | elsewhere


def test_what_no_pixel_decides_is_computed_once(tmp_path: Path) -> None:
    """Shape -> arithmetic -> Reshape, as exporters write ``x.view(n, -1, h // 2, 2, w)``."""
    nodes: list[Node] = [
        ("Shape", ["image"], ["shape"], {}),
        ("Gather", ["shape", "zero"], ["n"], {}),
        ("Gather", ["shape", "two"], ["h"], {}),
        ("Div", ["h", "two"], ["half"], {}),
        ("Unsqueeze", ["n", "axis"], ["n1"], {}),
        ("Unsqueeze", ["half", "axis"], ["h1"], {}),
        ("Concat", ["n1", "three", "h1", "pair", "width"], ["sides"], {"axis": 0}),
        ("Reshape", ["image", "sides"], ["out"], {}),
    ]
    tensors = {"zero": np.int64(0), "two": np.int64(2), "axis": integers(0), "three": integers(3)}
    tensors |= {"pair": integers(2), "width": integers(24)}
    network, _, _ = read_network(write_graph(tmp_path / "net.onnx", nodes, tensors), None)
    assert [step.operation.operator for step in network.steps] == ["Reshape"]
    assert network(torch.zeros(5, 3, 16, 24)).shape == (5, 3, 8, 2, 24)
