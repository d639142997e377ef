"""Programs that somebody damaged or made up: each is refused for its reason, and nothing of it runs."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError
from ocl_edge.network.programs import read_program

Fields = dict[str, Any]
FEATURES, LOGITS = (6, 24, 32), (5, 24, 32)


@pytest.fixture
def place(small_bundle: Bundle, tmp_path: Path) -> Path:
    """A directory with the program and the weights of a head, whose only node is ``conv2d``."""
    for name in ("head.json", "weights.safetensors"):
        (tmp_path / name).write_bytes(small_bundle.file(name).read_bytes())

    def name_the_node(fields: Fields) -> None:
        (node,) = fields["nodes"]
        node["name"] = "conv2d"
        fields["outputs"] = ["conv2d"]

    change(tmp_path, name_the_node)
    return tmp_path


def change(place: Path, by: Callable[[Fields], object]) -> None:
    fields = json.loads((place / "head.json").read_text("utf-8"))
    by(fields)
    (place / "head.json").write_text(json.dumps(fields))


def read(place: Path) -> object:
    return read_program(place / "head.json", place / "weights.safetensors", [FEATURES], [LOGITS])


def call(fields: Fields, operator: str, *arguments: object, **keywords: object) -> None:
    """Another node, after the head's convolution."""
    fields["nodes"].append(
        {"name": "added", "operator": operator, "arguments": arguments, "keywords": keywords}
    )
    fields["outputs"] = ["added"]


LAST = {"node": "conv2d"}


def test_the_unchanged_program_is_read(place: Path) -> None:
    change(place, lambda fields: call(fields, "aten.relu.default", LAST))
    assert read(place)


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (lambda f: f.update(version=2), "program version 2, this ocl-edge reads 1: upgrade ocl-edge"),
        (lambda f: f.update(version="1.0"), "program version '1.0'"),
        (lambda f: f.pop("nodes"), "nodes: Field required"),
        (lambda f: f.update(code="import os"), "code: Extra inputs"),
        (lambda f: call(f, "aten.from_file.default", "/etc/passwd"), "does not know: upgrade ocl-edge"),
        (lambda f: call(f, "os.system", "true"), "'os.system', which this ocl-edge does not know"),
        (lambda f: call(f, "aten.relu.__class__"), "does not know"),
        (lambda f: call(f, "aten.relu.default", {"node": "added"}), "reads only nodes that stand before it"),
        (lambda f: call(f, "aten.relu.default", {"node": "later"}), "which there is not"),
        (lambda f: call(f, "aten.relu.default", {"tensor": "stem.weight"}), "which there is not"),
        (lambda f: call(f, "aten.relu.default", {"code": "1"}), "which there is not"),
        (lambda f: call(f, "aten.to.dtype", LAST, {"dtype": "float8"}), "which there is not"),
        (lambda f: call(f, "aten.to.device", LAST, {"device": "cuda"}, 1), "which there is not"),
        (lambda f: call(f, "aten.relu.default", [[[[[[LAST]]]]]]), "which there is not"),
        (lambda f: call(f, "aten.relu.default"), "does not fit what it is given"),
        (lambda f: call(f, "aten.relu.default", LAST, **{"x=print(1)": 2}), "no name for an argument"),
        (lambda f: call(f, "aten.relu.default", LAST, **{"lambda": 2}), "no name for an argument"),
        (lambda f: call(f, "aten.reshape.default", LAST, [2, 7]), "does not fit what it is given"),
        (lambda f: call(f, "aten.mean.dim", LAST, [1], True), r"shape \[1, 24, 32\], expected \[5, 24, 32\]"),
        (lambda f: call(f, "aten.expand.default", LAST, [2**40, 2, 5, 24, 32]), "more than 16 GiB"),
        (lambda f: call(f, "aten.zeros.default", [2**40]), "more than 16 GiB"),
        (lambda f: call(f, "aten.zeros.default", [2**40], device={"device": "cpu"}), "more than 16 GiB"),
        (lambda f: call(f, "operator.mul", "a", 2**40), "for sizes, it is given something else"),
        (lambda f: call(f, "operator.mul", [1], 2**40), "for sizes, it is given something else"),
        (lambda f: call(f, "operator.mul", 2**50, 2**50), "is no size"),
        (lambda f: f["nodes"].append(f["nodes"][0]), "'conv2d' is no name for a node, or two have it"),
        (lambda f: f["nodes"][0].update(name="a;b"), "'a;b' is no name for a node"),
        (lambda f: f.update(inputs=["x=1"]), "no name for an input"),
        (lambda f: f.update(inputs=["class"]), "no name for an input"),
        (lambda f: f.update(inputs=["features_0", "more"]), "takes 2 inputs, 1 were expected"),
        (lambda f: f.update(outputs=[]), "gives 0 outputs, 1 were expected"),
        (lambda f: f.update(outputs=["nothing"]), "the output 'nothing' is no node"),
        (lambda f: f["tensors"].update({'a"b': f["tensors"]["classifier.bias"]}), "no name for a tensor"),
        (
            lambda f: f["tensors"]["classifier.bias"].update(shape=[6]),
            r"32 \[5\], .* expects float32 \[6\]",
        ),
        (lambda f: f["tensors"]["classifier.bias"].update(dtype="float16"), "expects float16"),
    ],
)
def test_a_changed_program_is_refused_for_its_reason(
    place: Path, by: Callable[[Fields], object], reason: str
) -> None:
    change(place, by)
    tracemalloc.start()
    with pytest.raises(BundleError, match=reason):
        read(place)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["forward", "training", "__class__", "_parameters.x", "forward.weight"])
def test_a_tensor_cannot_take_the_place_of_a_part_of_the_module(place: Path, name: str) -> None:
    weights = load_file(place / "weights.safetensors")
    save_file({**weights, name: torch.zeros(5)}, place / "weights.safetensors")
    added = {"dtype": "float32", "shape": [5], "parameter": True}
    change(place, lambda fields: fields["tensors"].update({name: added}))
    with pytest.raises(BundleError, match="no module can hold"):
        read(place)


def test_a_missing_weight_is_named(place: Path) -> None:
    weights = load_file(place / "weights.safetensors")
    del weights["classifier.bias"]
    save_file(weights, place / "weights.safetensors")
    with pytest.raises(BundleError, match=r"holds no classifier\.bias, which head\.json"):
        read(place)


def test_weights_of_another_dtype_are_refused(place: Path) -> None:
    weights = {name: tensor.double() for name, tensor in load_file(place / "weights.safetensors").items()}
    save_file(weights, place / "weights.safetensors")
    with pytest.raises(BundleError, match=r"classifier\.weight is float64 \[5, 6, 1, 1\], .* float32"):
        read(place)


@pytest.mark.parametrize(
    "header",
    [
        b'{"classifier.bias":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
        b'{"classifier.bias":{"dtype":"F32","shape":[5],"data_offsets":[0,20]}}',
    ],
)
def test_a_weight_file_that_claims_more_than_it_holds_is_refused(place: Path, header: bytes) -> None:
    (place / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BundleError, match="cannot be read"):
        read(place)


@pytest.mark.parametrize("size", [2**63 - 1, 2**40])
def test_a_weight_file_with_an_absurd_header_is_refused(place: Path, size: int) -> None:
    (place / "weights.safetensors").write_bytes(size.to_bytes(8, "little") + b"{}")
    with pytest.raises(BundleError, match="cannot be read"):
        read(place)


@pytest.mark.parametrize(
    "text", [b"", b"hello", b"[" * 100_000, b"[1]", b"\xff\xfe", b'{"version":' + b"9" * 5000 + b"}"]
)
def test_something_else_is_no_program(place: Path, text: bytes) -> None:
    (place / "head.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"head\.json"):
        read(place)


def test_a_huge_file_is_not_read(place: Path) -> None:
    with (place / "head.json").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(BundleError, match="larger than 64 MiB"):
        read(place)
