"""Rewrite what engines lack into exact equivalents that they run fast.

ONNX has no adaptive pooling. PyTorch's own decomposition of averages gathers every window
apart: 800 Gather nodes in ESPNetv2. Sizes are known at export, so each pooling becomes
one of three exact forms. OpenVINO has no circular padding.
"""

from __future__ import annotations

import copy
import operator

import torch
from torch import Tensor, fx
from torch.nn import functional as F

ADAPTIVE_POOL = torch.ops.aten.adaptive_avg_pool2d.default
ADAPTIVE_MAX_POOL = torch.ops.aten.adaptive_max_pool2d.default
PAD = torch.ops.aten.pad.default


def lower_for_engines(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a captured graph without adaptive pooling and circular padding.

    Of averages, where the input is a multiple of the output: AveragePool. All windows of
    one size: AveragePool of stride 1, then the rows and columns where windows start. Else:
    multiplication with the two pooling matrices. Largest values are taken window by window,
    first of rows, then of columns; what wraps around is cut out and joined on.
    """
    lowered = fx.GraphModule(module, copy.deepcopy(module.graph))
    for node in lowered.graph.nodes:
        if node.target is ADAPTIVE_POOL or (node.target is ADAPTIVE_MAX_POOL and _takes_values(node)):
            source: fx.Node = node.args[0]
            size = tuple(int(side) for side in source.meta["val"].shape[-2:])
            output = tuple(int(side) for side in node.args[1])
            alike = _pool_like if node.target is ADAPTIVE_POOL else _largest_like
            node.target, node.args = alike(size, output), (source, size, output)
        elif node.target is PAD and node.args[2:3] == ("circular",) and min(node.args[1]) >= 0:
            node.target, node.args = pad_around, tuple(node.args[:2])
    lowered.graph.eliminate_dead_code()
    lowered.recompile()
    return lowered


def _takes_values(pooled: fx.Node) -> bool:
    """Let what reads the first of (values, places) read the values; False where places are read, too."""
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in pooled.users):
        return False
    for user in list(pooled.users):
        user.replace_all_uses_with(pooled)
    return True


def windows(length: int, outputs: int) -> list[tuple[int, int]]:
    """Start and end of each adaptive pooling window over ``length`` positions."""
    return [(i * length // outputs, -(-(i + 1) * length // outputs)) for i in range(outputs)]


def _pool_like(size: tuple[int, ...], output: tuple[int, ...]) -> object:
    extents = [{end - start for start, end in windows(i, o)} for i, o in zip(size, output, strict=True)]
    if all(i % o == 0 for i, o in zip(size, output, strict=True)):
        return pool_evenly
    if all(len(e) == 1 for e in extents):
        return pool_and_pick
    return pool_by_matrices


def _largest_like(size: tuple[int, ...], output: tuple[int, ...]) -> object:
    even = all(i % o == 0 for i, o in zip(size, output, strict=True))
    return largest_evenly if even else largest_of_windows


def largest_evenly(x: Tensor, size: tuple[int, int], output: tuple[int, int]) -> Tensor:
    if output == (1, 1):
        return x.amax((2, 3), keepdim=True)
    return F.max_pool2d(x, (size[0] // output[0], size[1] // output[1]))


def largest_of_windows(x: Tensor, size: tuple[int, int], output: tuple[int, int]) -> Tensor:
    for axis, spans in zip((2, 3), map(windows, size, output), strict=True):
        parts = [x.narrow(axis, start, end - start).amax(axis, keepdim=True) for start, end in spans]
        x = torch.cat(parts, axis)
    return x


def pad_around(x: Tensor, pads: list[int]) -> Tensor:
    """Circular padding; ``pads`` begin with those of the last axis."""
    for index in range(len(pads) // 2):
        axis, (before, after) = x.dim() - 1 - index, pads[2 * index : 2 * index + 2]
        last, first = x.narrow(axis, x.shape[axis] - before, before), x.narrow(axis, 0, after)
        x = torch.cat([part for part in (last, x, first) if part.shape[axis]], axis)
    return x


def pool_evenly(x: Tensor, size: tuple[int, int], output: tuple[int, int]) -> Tensor:
    if output == (1, 1):
        return x.mean((2, 3), keepdim=True)
    return F.avg_pool2d(x, (size[0] // output[0], size[1] // output[1]))


def pool_and_pick(x: Tensor, size: tuple[int, int], output: tuple[int, int]) -> Tensor:
    spans = [windows(i, o) for i, o in zip(size, output, strict=True)]
    x = F.avg_pool2d(x, [span[0][1] - span[0][0] for span in spans], stride=1)
    for axis, span in zip((2, 3), spans, strict=True):
        starts = [start for start, _ in span]
        if starts != list(range(x.shape[axis])):
            x = x.index_select(axis, torch.tensor(starts))
    return x


def pool_by_matrices(x: Tensor, size: tuple[int, int], output: tuple[int, int]) -> Tensor:
    rows, columns = (pooling_matrix(i, o) for i, o in zip(size, output, strict=True))
    return torch.matmul(torch.matmul(rows, x), columns.T)


def pooling_matrix(length: int, outputs: int) -> Tensor:
    """float32 [outputs, length]: row i averages window i."""
    matrix = torch.zeros(outputs, length)
    for row, (start, end) in enumerate(windows(length, outputs)):
        matrix[row, start:end] = 1 / (end - start)
    return matrix
