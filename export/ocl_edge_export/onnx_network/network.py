"""An ONNX graph as a module of PyTorch: its weights are parameters, its norms are norms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from ocl_edge.errors import CheckpointError
from ocl_edge.network.programs import place
from ocl_edge_export.onnx_network.file import OnnxFile, Operation
from ocl_edge_export.onnx_network.trial import HOST_INPUTS, Trial, call

LONGEST_SHAPE = 16
BATCHES = (2, 3)
"""Two sizes of a batch: what differs between them depends on it."""

WEIGHTS: dict[str, dict[int, str]] = {
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    **{name: {1: "weight", 2: "bias"} for name in ("Conv", "ConvTranspose", "Gemm", "LayerNormalization")},
    **{name: {1: "weight", 2: "bias"} for name in ("GroupNormalization", "InstanceNormalization")},
    "MatMul": {0: "weight", 1: "weight"},
    "PRelu": {1: "weight"},
}
"""Inputs that hold what training learns, by operator and position."""

STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class TimesBatch:
    """A size that is so many times the number of images."""

    factor: int


@dataclass(frozen=True)
class Held:
    """A tensor of the module, by name."""

    name: str


@dataclass(frozen=True)
class Given:
    """What an earlier step gave, by name."""

    name: str


Source = Held | Given | list[Any] | float | bool | None


@dataclass(frozen=True)
class Step:
    """One operator that is computed at every image, and where its inputs come from."""

    operation: Operation
    sources: tuple[Source, ...]


class OnnxNetwork(nn.Module):
    """An ONNX graph: image [N, C, H, W] -> its output, or a mapping of all of them by name.

    Args:
        file: the graph.
        size: height and width of the image; those of the file where it says them.

    Raises:
        CheckpointError: it holds an operator that is not read; it cannot take several images at once, or not
            of this size.
    """

    def __init__(self, file: OnnxFile, size: tuple[int, int]) -> None:
        super().__init__()
        self.channels = file.shape[1] or 3
        fixed, sides = file.shape[0], (self.channels, *size)
        if fixed is None:
            trials = [Trial(file, (batch, *sides)) for batch in BATCHES]
        else:
            trials = [Trial(file, (fixed, *sides))] * 2
        self._image, self._outputs = file.image, file.outputs
        self._free = _free_values(trials[0], trials[1])
        self._names = _module_names(file)
        self._held: set[str] = set()
        steps = []
        for index, operation in enumerate(file.operations):
            if any(name not in self._free for name in operation.outputs if name):
                steps.append(Step(operation, self._sources(operation, index, fixed)))
        self.steps = _needed(steps, file)
        self.norms = sum(step.operation.operator == "BatchNormalization" for step in self.steps)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        values = {self._image: image}
        for step in self.steps:
            inputs = [self._value(source, values, image) for source in step.sources]
            results = call(step.operation, inputs)
            values.update(zip(step.operation.outputs, results, strict=False))
        given = {name: values[name] for name in self._outputs}
        return given if len(given) > 1 else next(iter(given.values()))

    def _value(self, source: Source, values: Mapping[str, Tensor], image: Tensor) -> Any:
        if isinstance(source, Held):
            return attrgetter(source.name)(self)
        if isinstance(source, Given):
            return values[source.name]
        if not isinstance(source, list):
            return source
        return [s.factor * image.shape[0] if isinstance(s, TimesBatch) else s for s in source]

    def _sources(self, operation: Operation, index: int, fixed: int | None) -> tuple[Source, ...]:
        return tuple(self._source(operation, index, at, fixed) for at in range(len(operation.inputs)))

    def _source(self, operation: Operation, index: int, at: int, fixed: int | None) -> Source:
        name = operation.inputs[at]
        if not name:
            return None
        if name not in self._free:
            return Given(name)
        value = self._free[name]
        if at in HOST_INPUTS.get(operation.operator, ()):
            given = value if isinstance(value, list) else value.tolist()
            return _any_batch(given, operation, fixed) if isinstance(given, list) else given
        if isinstance(value, list):
            raise CheckpointError(
                f"{operation.name or operation.operator} computes with the number of images; cameras give one"
            )
        return Held(self._hold(operation, index, at, value))

    def _hold(self, operation: Operation, index: int, at: int, value: Tensor) -> str:
        """Keep a tensor of the graph under a name that says what it is."""
        role = WEIGHTS.get(operation.operator, {}).get(at)
        given = operation.inputs[at]
        if role is None and operation.operator == "Add" and given.endswith(".bias"):
            path = _clean(given)
        elif role is None:
            path = f"constants.{re.sub(r'[^A-Za-z0-9_]', '_', given)}"
        else:
            path = f"{self._names[index]}.{role}"
        if path in self._held:
            return path
        self._held.add(path)
        trained = (role is not None and role not in STATISTICS) or path.endswith(".bias")
        if trained and value.dtype is torch.float32:
            place(self, path, nn.Parameter(value.clone()))
        else:
            place(self, path, value.clone())
        return path


def _free_values(first: Trial, second: Trial) -> dict[str, Tensor | list[Any]]:
    """Values that no pixel decides: tensors, or sizes that depend on the number of images.

    Larger ones that depend on it are left out: they are computed at every image.
    """
    found: dict[str, Tensor | list[Any]] = {}
    for name, value in first.values.items():
        other = second.values[name]
        if name in first.computing:
            continue
        if value is other or (value.shape == other.shape and torch.equal(*map(_comparable, (value, other)))):
            found[name] = value
        elif value.shape == other.shape and value.dim() < 2 and value.numel() <= LONGEST_SHAPE:
            sizes = [
                _size(a, b)
                for a, b in zip(value.reshape(-1).tolist(), other.reshape(-1).tolist(), strict=True)
            ]
            if None not in sizes:
                found[name] = sizes
    return found


def _comparable(value: Tensor) -> Tensor:
    """Two that are not a number are the same here."""
    return value.nan_to_num() if value.is_floating_point() else value


def _size(a: Any, b: Any) -> int | TimesBatch | None:
    if a == b:
        return int(a)
    factor = a / BATCHES[0]
    return TimesBatch(int(factor)) if factor == b / BATCHES[1] and factor == int(factor) else None


def _any_batch(sizes: list[Any], operation: Operation, fixed: int | None) -> list[Any]:
    """Shapes as they are for any number of images.

    A file that was written for a fixed number has it in its shapes, as a part of the first side.
    """
    if operation.operator != "Reshape" or -1 in sizes:
        return sizes
    free = [at for at, side in enumerate(sizes) if isinstance(side, TimesBatch)]
    if fixed is not None and sizes and sizes[0] and sizes[0] % fixed == 0:
        free = [0]
    return [-1 if at in free else side for at, side in enumerate(sizes)] if len(free) == 1 else sizes


def _needed(steps: list[Step], file: OnnxFile) -> tuple[Step, ...]:
    """Those that the outputs depend on."""
    wanted = set(file.outputs)
    kept: list[Step] = []
    for step in reversed(steps):
        if wanted & set(step.operation.outputs):
            kept.insert(0, step)
            wanted |= {source.name for source in step.sources if isinstance(source, Given)}
    return tuple(kept)


def _module_names(file: OnnxFile) -> dict[int, str]:
    """A name for every operator with weights, as it was in the network where the file still says it."""
    names: dict[int, str] = {}
    taken: dict[str, tuple[str, ...]] = {}
    for index, operation in enumerate(file.operations):
        if operation.operator not in WEIGHTS:
            continue
        weights = tuple(operation.inputs[1:])
        name = (
            _said_by_weights(operation) or _said_by_node(operation) or f"{operation.operator}_{index}".lower()
        )
        shares = operation.operator != "BatchNormalization" and taken.get(name) == weights
        if name in taken and not shares:
            name = f"{name}_{index}"
        taken[name] = weights
        names[index] = name
    return names


def _said_by_weights(operation: Operation) -> str:
    roles = WEIGHTS[operation.operator].items()
    said = [
        operation.inputs[at]
        for at, role in roles
        if len(operation.inputs) > at and operation.inputs[at].endswith(f".{role}")
    ]
    return _clean(said[0]).rpartition(".")[0] if said else ""


def _said_by_node(operation: Operation) -> str:
    """``/layer1/layer1.0/conv1/Conv`` was the module ``layer1.0.conv1``."""
    path, last = "", ""
    for part in operation.name.strip("/").split("/")[:-1]:
        path = f"{path}.{part.removeprefix(f'{last}.')}"
        last = part
    return _clean(path)


def _clean(name: str) -> str:
    parts: Sequence[str] = [re.sub(r"[^A-Za-z0-9_]", "_", part) for part in name.split(".") if part]
    return ".".join(parts)
