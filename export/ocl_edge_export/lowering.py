"""Rewrite what engines lack into exact equivalents that they run fast.

ONNX has no adaptive average pooling. PyTorch's own decomposition gathers every window
apart: 800 Gather nodes in ESPNetv2. Sizes are known at export, so each pooling becomes
one of three exact forms.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx
from torch.nn import functional as F

ADAPTIVE_POOL = torch.ops.aten.adaptive_avg_pool2d.default


def lower_adaptive_pooling(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a captured graph without adaptive average pooling.

    Input a multiple of the output: AveragePool. All windows of one size: AveragePool of
    stride 1, then the rows and columns where windows start. Else: multiplication with
    the two pooling matrices.
    """
    lowered = fx.GraphModule(module, copy.deepcopy(module.graph))
    for node in lowered.graph.nodes:
        if node.target is ADAPTIVE_POOL:
            source: fx.Node = node.args[0]
            size = tuple(int(side) for side in source.meta["val"].shape[-2:])
            output = tuple(int(side) for side in node.args[1])
            node.target, node.args = _pool_like(size, output), (source, size, output)
    lowered.recompile()
    return lowered


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
