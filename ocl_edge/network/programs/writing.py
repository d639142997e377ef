"""Write a captured graph as a program."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ocl_edge.errors import CaptureError
from ocl_edge.network.programs.format import (
    DTYPES,
    FORMATS,
    TENSOR_NAME,
    VERSION,
    StoredNode,
    StoredProgram,
    StoredTensor,
)
from ocl_edge.network.programs.operators import OPERATORS, name_of


def write_program(module: fx.GraphModule, path: Path) -> dict[str, Tensor]:
    """Write a captured graph.

    Returns:
        The tensors that its weight file must hold, by their names.

    Raises:
        CaptureError: the graph calls an operator that is not in `OPERATORS`, or holds something
            that no program can.
    """
    names = _tensor_names(module)
    calls = [node for node in module.graph.nodes if node.op not in ("placeholder", "get_attr", "output")]
    outputs = module.graph.output_node().all_input_nodes
    tensors = {names[target]: tensor for target, tensor in _listed(module) if target in names}
    program = StoredProgram(
        inputs=tuple(node.name for node in module.graph.nodes if node.op == "placeholder"),
        tensors={name: _described(tensor) for name, tensor in tensors.items()},
        nodes=tuple(_stored(node, names) for node in calls),
        outputs=tuple(node.name for node in outputs),
    )
    path.write_text(_as_text(program), encoding="utf-8")
    return tensors


def _tensor_names(module: fx.GraphModule) -> dict[str, str]:
    """Target of every tensor that the graph reads -> name; tensors that are one have one name."""
    named: dict[int, str] = {}
    names = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            tensor = _resolve(module, node.target)
            names[node.target] = named.setdefault(id(tensor), node.target)
            if not TENSOR_NAME.fullmatch(node.target):
                raise CaptureError(f"{node.target!r} is no name that a bundle can hold; rename that layer")
    return names


def _resolve(module: nn.Module, target: str) -> Tensor:
    value = attrgetter(target)(module)
    if not isinstance(value, Tensor) or str(value.dtype).removeprefix("torch.") not in DTYPES:
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise CaptureError(f"{target} is a {found}, which no program of a bundle can hold")
    return value


def _listed(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters in the module's own order, which is that of restoration; then all other tensors."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def _described(tensor: Tensor) -> StoredTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return StoredTensor(dtype=dtype, shape=tuple(tensor.shape), parameter=isinstance(tensor, nn.Parameter))


def _stored(node: fx.Node, names: dict[str, str]) -> StoredNode:
    operator = name_of(node.target) if node.op == "call_function" else f"{node.op} {node.target}"
    if operator not in OPERATORS:
        raise CaptureError(
            f"{node.name} calls {operator}, which is not among the operators that a bundle may call "
            "(ocl_edge.network.programs.operators); write that layer with others"
        )
    return StoredNode(
        name=node.name,
        operator=operator,
        arguments=tuple(_encoded(argument, node, names) for argument in node.args),
        keywords={name: _encoded(value, node, names) for name, value in node.kwargs.items()},
    )


def _encoded(value: Any, node: fx.Node, names: dict[str, str]) -> Any:
    """Numbers, texts, None and lists as themselves, everything else as ``{"kind": "name"}``."""
    if isinstance(value, fx.Node):
        return {"tensor": names[str(value.target)]} if value.op == "get_attr" else {"node": value.name}
    if isinstance(value, list | tuple):
        return [_encoded(item, node, names) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    kind = {torch.dtype: "dtype", torch.device: "device"}.get(type(value), "format")
    text = str(value).removeprefix("torch.") if kind == "dtype" else str(value)
    if text in {"dtype": list(DTYPES), "device": ["cpu"], "format": list(FORMATS)}[kind]:
        return {kind: text}
    raise CaptureError(f"{node.name} is given {value!r}, which no program of a bundle can hold")


def _as_text(program: StoredProgram) -> str:
    """JSON with one line a node, so that two programs can be compared."""
    fields = program.model_dump(mode="json", exclude_defaults=True) | {"version": VERSION}
    lines = [f'{{"version": {VERSION},\n "inputs": {json.dumps(fields["inputs"])},\n "tensors": {{']
    lines.append(",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in fields["tensors"].items()))
    lines.append(' },\n "nodes": [')
    lines.append(",\n".join(f"  {json.dumps(node)}" for node in fields["nodes"]))
    return "\n".join(lines) + f'\n ],\n "outputs": {json.dumps(fields["outputs"])}}}\n'
