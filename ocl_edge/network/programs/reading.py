"""Read a program as a module, and believe nothing that it says before it was checked."""

from __future__ import annotations

import json
import keyword
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, fx, nn

from ocl_edge.errors import BundleError
from ocl_edge.given_files import read_json
from ocl_edge.network.programs.format import (
    DTYPES,
    FORMATS,
    MOST_BYTES,
    NODE_NAME,
    TENSOR_NAME,
    VERSION,
    StoredNode,
    StoredProgram,
    StoredTensor,
)
from ocl_edge.network.programs.operators import OPERATORS, find_operator
from ocl_edge.network.programs.shapes import Shape, fit_shapes
from ocl_edge.network.weight_file import IN_SAFETENSORS

DEEPEST_LIST = 4
DTYPE_NAMES = {name: str(dtype).removeprefix("torch.") for dtype, name in IN_SAFETENSORS.items()}


def read_program(
    path: Path, weights: Path, inputs: Sequence[Shape], outputs: Sequence[Shape | None]
) -> fx.GraphModule:
    """Read a program as a module that computes, and whose parameters train.

    Nothing is computed before names, operators, order, dtypes and shapes were checked; sizes
    are worked out on PyTorch's meta device, where no memory is taken.

    Args:
        path: the program.
        weights: the safetensors file of its tensors.
        inputs: shape of each input for one image.
        outputs: shape of each output for one image; None where any will do.

    Returns:
        (inputs [N, ...]) -> tuple of outputs, in evaluation mode. It owns its tensors.

    Raises:
        BundleError: the file is damaged or of a newer version, calls what this version or this
            PyTorch does not know, has a cycle, or does not fit its weights or the shapes.
    """
    program = _parsed(path)
    root = _with_tensors(program, path, weights)
    graph = fx.Graph()
    nodes = {name: graph.placeholder(name) for name in _checked_inputs(program, path)}
    attributes = {name: graph.get_attr(name) for name in program.tensors}
    for stored in program.nodes:
        if not NODE_NAME.fullmatch(stored.name) or stored.name in nodes:
            raise BundleError(f"{path.name}: {stored.name!r} is no name for a node, or two have it")
        nodes[stored.name] = _call(graph, stored, _Names(nodes, attributes, f"{path.name}: {stored.name}"))
    if unknown := [name for name in program.outputs if name not in nodes]:
        raise BundleError(f"{path.name}: the output {unknown[0]!r} is no node")
    results = tuple(nodes[name] for name in program.outputs)
    graph.output(results)
    fit_shapes(graph, root, inputs, results, outputs, path.name)
    return fx.GraphModule(root, graph).eval()


def _parsed(path: Path) -> StoredProgram:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BundleError(f"{path.name} is larger than {MOST_BYTES >> 20} MiB, which no program is")
        fields = read_json(path, MOST_BYTES)
        if fields["version"] != VERSION:
            raise BundleError(
                f"{path.name} has program version {fields['version']!r}, this ocl-edge reads {VERSION}: "
                "upgrade ocl-edge"
            )
        return StoredProgram.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path.name} is damaged: {where}: {first['msg']}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path.name} is no program: {error}") from error


def _checked_inputs(program: StoredProgram, path: Path) -> tuple[str, ...]:
    for name in program.inputs:
        if not NODE_NAME.fullmatch(name) or keyword.iskeyword(name) or program.inputs.count(name) > 1:
            raise BundleError(f"{path.name}: {name!r} is no name for an input, or two have it")
    return program.inputs


def _with_tensors(program: StoredProgram, path: Path, weights: Path) -> nn.Module:
    """A module that holds the program's tensors under their names, read from the weight file."""
    root = nn.Module()
    try:
        with safe_open(weights, "pt") as file:
            held = set(file.keys())
            for name, stored in program.tensors.items():
                if not TENSOR_NAME.fullmatch(name):
                    raise BundleError(f"{path.name}: {name!r} is no name for a tensor")
                if name not in held:
                    raise BundleError(f"{weights.name} holds no {name}, which {path.name} reads")
                piece = file.get_slice(name)
                found = StoredTensor(
                    dtype=DTYPE_NAMES.get(piece.get_dtype(), piece.get_dtype()),
                    shape=tuple(piece.get_shape()),
                    parameter=stored.parameter,
                )
                if found != stored:
                    raise BundleError(
                        f"{weights.name}: {name} is {found.dtype} {list(found.shape)}, "
                        f"{path.name} expects {stored.dtype} {list(stored.shape)}"
                    )
                tensor = file.get_tensor(name).clone()  # of the file only the pages read are mapped
                place(root, name, nn.Parameter(tensor) if stored.parameter else tensor)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{weights.name} cannot be read: {error}") from error
    except (AttributeError, KeyError, TypeError, RuntimeError) as error:
        raise BundleError(f"{path.name}: no module can hold {name!r}: {error}") from error
    return root


def place(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Make a tensor a parameter or buffer of a module under a dotted name."""
    *parents, leaf = name.split(".")
    owner = root
    for part in parents:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, tensor)
    else:
        owner.register_buffer(leaf, tensor)


@dataclass(frozen=True)
class _Names:
    """What a node may read: the nodes before it, and the program's tensors."""

    nodes: dict[str, fx.Node]
    tensors: dict[str, fx.Node]
    where: str

    def decoded(self, value: Any, depth: int = 0) -> Any:
        """The value that `writing` encoded."""
        if isinstance(value, list) and depth < DEEPEST_LIST:
            return [self.decoded(item, depth + 1) for item in value]
        if not isinstance(value, dict | list):
            return value
        kind, name = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else ("", "")
        known: dict[str, dict[str, Any]] = {
            "node": self.nodes,
            "tensor": self.tensors,
            "dtype": DTYPES,
            "device": {"cpu": torch.device("cpu")},
            "format": FORMATS,
            "float": {text: float(text) for text in ("inf", "-inf", "nan")},
        }
        if kind in known and isinstance(name, str) and name in known[kind]:
            return known[kind][name]
        late = "; a node reads only nodes that stand before it" if kind == "node" else ""
        raise BundleError(f"{self.where} reads {json.dumps(value)[:200]}, which there is not{late}")


def _call(graph: fx.Graph, stored: StoredNode, names: _Names) -> fx.Node:
    if stored.operator not in OPERATORS:
        raise BundleError(
            f"{names.where} calls {stored.operator!r}, which this ocl-edge does not know: upgrade ocl-edge"
        )
    operator = find_operator(stored.operator)
    if operator is None:
        raise BundleError(
            f"{names.where} calls {stored.operator}, which PyTorch {torch.__version__} does not have: "
            "use a newer PyTorch"
        )
    arguments = tuple(names.decoded(value) for value in stored.arguments)
    for name in stored.keywords:  # they become part of the module's source text
        if not NODE_NAME.fullmatch(name) or keyword.iskeyword(name):
            raise BundleError(f"{names.where}: {name!r} is no name for an argument")
    keywords = {name: names.decoded(value) for name, value in stored.keywords.items()}
    return graph.create_node("call_function", operator, arguments, keywords, stored.name)
