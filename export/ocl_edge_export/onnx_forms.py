"""Write the forms of a backbone as ONNX files that share one weight file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.external_data_helper import set_external_data
from torch import Tensor, fx

from ocl_edge.errors import CaptureError
from ocl_edge.network.form_names import WEIGHT_FILE, FormName
from ocl_edge.network.form_tensors import feature_names
from ocl_edge.network.weight_file import bytes_of, sha256, write_weights
from ocl_edge.plain_text import plain
from ocl_edge_export.capture import LARGEST_BATCH, quiet_exporter
from ocl_edge_export.prelu import replace_prelus

OPSET = 20
"""Newest that ONNX Runtime 1.20 and TensorRT 10.3 both read."""

FAILED_NODE = re.compile(r"translating node %(?P<node>\w+) .*?target=torch\.ops\.(?P<operator>[\w.]+)\]")
LONGEST_REASON = 300

ONLY_IN_ONNX = "onnx:"
"""Begins no name of a network's tensor."""

SHARED_FROM_BYTES = 64
INTEGERS_FROM_BYTES = 1024
"""Smaller tensors stay in the ONNX files: scalars, shapes and paddings, which parsers want to see."""


def export_plain(backbone: fx.GraphModule, image: Tensor, features: list[list[int]]) -> onnx.ModelProto:
    """The plain form as an ONNX model with a free batch size, norms unfolded, opset `OPSET`.

    Args:
        backbone: from `split_network`.
        image: float32 [2, C, H, W]; fixes height and width.
        features: shapes of the feature tensors that the backbone hands on, without the batch.

    Raises:
        CaptureError: the ONNX exporter cannot express the graph.
    """
    outputs = feature_names(len(features))
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    try:
        with torch.no_grad(), quiet_exporter():
            program = torch.export.export(backbone, (image,), dynamic_shapes=({0: batch},))
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                optimize=False,
                verbose=False,
                input_names=["image"],
                output_names=outputs,
            )
    except Exception as error:
        raise CaptureError(f"the backbone cannot be written as ONNX: {_why(error, backbone)}") from error
    assert exported is not None
    return _simplified(exported.model, outputs)


def _why(error: BaseException, backbone: fx.GraphModule) -> str:
    """What the exporter failed at, in a line: operator, module, and the first cause."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    first = (str(causes[-1]).strip() or type(causes[-1]).__name__).splitlines()[0]
    named = next(filter(None, (FAILED_NODE.search(str(each)) for each in causes)), None)
    if named is None:
        return plain(first, LONGEST_REASON)
    stacks = (n.meta.get("nn_module_stack") or {} for n in backbone.graph.nodes if n.name == named["node"])
    modules = [path for stack in stacks for path, _ in stack.values() if path]
    where = f" in {modules[-1]}" if modules else ""
    operator = named["operator"]
    return plain(f"{operator}{where} has no form there ({first})", LONGEST_REASON)


def _simplified(model: object, outputs: list[str]) -> onnx.ModelProto:
    """Functions inlined and constants folded; BatchNormalization stays, so that the forms share weights."""
    import onnx_ir
    from onnxscript import optimizer

    assert isinstance(model, onnx_ir.Model)
    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    for output, name in zip(model.graph.outputs, outputs, strict=True):
        output.name = name  # where the last node was folded away, its input has taken its place
    for node in model.graph:
        node.metadata_props.clear()  # stack traces with paths of the exporting machine
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    proto = onnx_ir.serde.serialize_model(model)
    proto.producer_name = "ocl-edge"
    proto.producer_version = ""
    replace_prelus(proto)
    return proto


def write_forms(
    models: Mapping[FormName, onnx.ModelProto], tensors: dict[str, Tensor], directory: Path
) -> None:
    """Write the weight file and the ``backbone.FORM.onnx`` files, whose tensors lie in it.

    Args:
        models: each form's; those tensors of the plain form that another one leaves out are added to it.
        tensors: of the bundle's programs. What only the ONNX files have (pooling matrices,
            folded constants) is stored beside them.
        directory: of the bundle.
    """
    stored = dict(tensors)
    known = {sha256(bytes_of(tensor)) for tensor in tensors.values()}
    for model in models.values():
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            digest = sha256(values.tobytes())
            if _lies_outside(values) and digest not in known:
                known.add(digest)
                stored[f"{ONLY_IN_ONNX}{len(stored) - len(tensors)}"] = torch.from_numpy(values.copy())
    offsets = write_weights(stored, directory / WEIGHT_FILE)
    for model in models.values():
        for tensor in model.graph.initializer:
            _move_outside(tensor, offsets)
    for form, model in models.items():
        _complete(model, models["plain"])
        (directory / form_file(form)).write_bytes(model.SerializeToString(deterministic=True))


def _complete(model: onnx.ModelProto, plain: onnx.ModelProto) -> None:
    """Add what the nodes read of the plain form's tensors."""
    own = {tensor.name for tensor in model.graph.initializer}
    wanted = {name for node in model.graph.node for name in node.input} - own
    model.graph.initializer.extend(t for t in plain.graph.initializer if t.name in wanted)


def form_file(form: FormName) -> str:
    return f"backbone.{form}.onnx"


def _lies_outside(values: NDArray[Any]) -> bool:
    return values.nbytes >= (INTEGERS_FROM_BYTES if values.dtype.kind in "iub" else SHARED_FROM_BYTES)


def _move_outside(tensor: TensorProto, offsets: dict[str, int]) -> None:
    if tensor.external_data:
        return  # of a model that stands for several forms
    values = onnx.numpy_helper.to_array(tensor)
    if not _lies_outside(values):
        return
    data = values.tobytes()
    tensor.raw_data = data  # set_external_data insists on it
    set_external_data(tensor, WEIGHT_FILE, offset=offsets[sha256(data)], length=len(data))
    tensor.ClearField("raw_data")
    for field in ("float_data", "int64_data", "int32_data", "double_data"):
        tensor.ClearField(field)
