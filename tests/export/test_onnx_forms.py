from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.form_names import FORMS
from ocl_edge_export.lowering import lower_for_engines


def graph(bundle: Bundle, form: str) -> onnx.ModelProto:
    return onnx.load(bundle.file(f"backbone.{form}.onnx"), load_external_data=False)


@pytest.mark.parametrize("form", FORMS)
def test_models_are_valid_with_free_batch_and_fixed_names(small_bundle: Bundle, form: str) -> None:
    onnx.checker.check_model(str(small_bundle.file(f"backbone.{form}.onnx")), full_check=True)
    model = graph(small_bundle, form)
    spec = small_bundle.manifest.forms[form]
    assert [i.name for i in model.graph.input] == [t.name for t in spec.inputs]
    assert [o.name for o in model.graph.output] == [t.name for t in spec.outputs]
    batch, *rest = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [d.dim_value for d in rest] == [3, 48, 64]
    assert model.opset_import[0].version == small_bundle.manifest.opset


def test_every_form_normalises_in_one_operator(small_bundle: Bundle) -> None:
    """A product and a sum are two passes over the values in ONNX Runtime; OpenVINO once computed the vectors
    anew for every position that they scale."""
    graphs = {form: graph(small_bundle, form) for form in FORMS}
    counts = {form: Counter(n.op_type for n in g.graph.node) for form, g in graphs.items()}
    assert {form: c["BatchNormalization"] for form, c in counts.items()} == dict.fromkeys(FORMS, 4)
    assert all(c["Conv"] == counts["plain"]["Conv"] for c in counts.values())
    assert counts["modulated"]["Split"] == 1
    norms = [n for n in graphs["plain"].graph.node if n.op_type == "BatchNormalization"]
    for form in ("modulated", "measured"):
        nodes = {n.output[0]: n for n in graphs[form].graph.node}
        assert [nodes[n.output[0]].input[0] for n in norms] == [n.input[0] for n in norms]
    assert counts["modulated"].keys() - counts["plain"].keys() == {"Split", "Constant", "Reshape"}


def test_equal_weights_are_stored_once(tmp_path: Path, small_bundle: Bundle) -> None:
    places: dict[str, set[tuple[str, ...]]] = {}
    for form in FORMS:
        for tensor in graph(small_bundle, form).graph.initializer:
            if tensor.external_data:
                entry = {e.key: e.value for e in tensor.external_data}
                places.setdefault(tensor.name, set()).add(
                    (entry["location"], entry["offset"], entry["length"])
                )
    assert places
    assert all(len(found) == 1 for found in places.values())
    assert "right.weight" in places


@pytest.mark.parametrize("form", FORMS)
def test_no_path_of_the_exporting_machine_is_left(small_bundle: Bundle, form: str) -> None:
    content = small_bundle.file(f"backbone.{form}.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.parametrize(
    ("size", "output"),
    [
        ((12, 16), (6, 4)),
        ((12, 16), (1, 1)),
        ((12, 18), (8, 12)),
        ((24, 32), (7, 9)),
        ((5, 7), (10, 14)),
        ((9, 9), (9, 9)),
    ],
)
def test_lowered_pooling_equals_adaptive_pooling(size: tuple[int, int], output: tuple[int, int]) -> None:
    class Pool(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.adaptive_avg_pool2d(x, output)

    x = torch.randn(2, 3, *size)
    module = torch.export.export(Pool(), (x,)).module()
    assert isinstance(module, fx.GraphModule)
    lowered = lower_for_engines(module)
    assert not any(n.target is torch.ops.aten.adaptive_avg_pool2d.default for n in lowered.graph.nodes)
    assert torch.allclose(lowered(x), Pool()(x), atol=1e-6)


@pytest.mark.parametrize(("size", "output"), [((12, 16), (6, 4)), ((12, 16), (1, 1)), ((24, 32), (7, 9))])
def test_lowered_pooling_takes_the_largest(size: tuple[int, int], output: tuple[int, int]) -> None:
    class Pool(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.adaptive_max_pool2d(x, output)

    x = torch.randn(2, 3, *size)
    lowered = lower_for_engines(torch.export.export(Pool(), (x,)).run_decompositions({}).module())
    assert not any(n.target is torch.ops.aten.adaptive_max_pool2d.default for n in lowered.graph.nodes)
    assert torch.equal(lowered(x), Pool()(x))


@pytest.mark.parametrize("pads", [(1, 2, 3, 0), (2, 1), (0, 0, 0, 5)])
def test_lowered_padding_wraps_around(pads: tuple[int, ...]) -> None:
    class Wrap(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.pad(x, pads, mode="circular")

    x = torch.randn(*((2, 3, 6, 7) if len(pads) == 4 else (2, 3, 7)))
    lowered = lower_for_engines(torch.export.export(Wrap(), (x,)).module())
    assert not any(n.target is torch.ops.aten.pad.default for n in lowered.graph.nodes)
    assert torch.equal(lowered(x), Wrap()(x))
