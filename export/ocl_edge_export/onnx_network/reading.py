"""A checkpoint that is an ONNX file: the network, checked against ONNX Runtime, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ocl_edge.errors import CheckpointError, ParityError, UsageError
from ocl_edge_export.checkpoint_values import check_values
from ocl_edge_export.differences import relative_difference
from ocl_edge_export.gate_runners import run_onnx
from ocl_edge_export.onnx_network.file import OnnxFile, read_onnx
from ocl_edge_export.onnx_network.network import OnnxNetwork

AGREES = 1e-3
"""Largest difference to ONNX Runtime, relative to the largest value."""

FOLDED = (
    "it holds no BatchNorm: if the network had any, they were folded into its convolutions when the file was "
    "written, and only the head will adapt, which gains less. The PyTorch checkpoint has them; so has a file "
    "written by torch.onnx.export with optimize=False (or, with dynamo=False: "
    "training=TrainingMode.PRESERVE, do_constant_folding=False)"
)


def read_network(path: Path, size: tuple[int, int] | None) -> tuple[OnnxNetwork, tuple[int, int], list[str]]:
    """The network of an ONNX file, the size of its images, and what there is to say of it.

    Args:
        path: the file.
        size: height and width that the user gives; None takes those of the file.

    Raises:
        CheckpointError: see `read_onnx` and `OnnxNetwork`; or it computes otherwise than ONNX Runtime.
        UsageError: the file and the user name different sizes, or neither names one.
    """
    file = read_onnx(path)
    height, width = _size(file, size)
    try:
        network = OnnxNetwork(file, (height, width)).eval()
    except RecursionError as error:
        raise CheckpointError(f"{path}: the graph is nested too deeply") from error
    check_values(network, network.state_dict())
    shape = (file.shape[0] or 1, network.channels, height, width)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    _check_several(network, file, image)
    difference = _difference_to_runtime(network, file, image)
    notes = [
        f"ONNX, operator set {file.opset}, {network.norms} norms; equals ONNX Runtime within {difference:.1e}"
    ]
    return network, (height, width), notes if network.norms else [*notes, FOLDED]


def _size(file: OnnxFile, size: tuple[int, int] | None) -> tuple[int, int]:
    sides = file.shape[2:]
    if size is None:
        if sides[0] is None or sides[1] is None:
            raise UsageError(f"{file.path} takes images of any size: name one with --input-size HEIGHTxWIDTH")
        return sides[0], sides[1]
    if any(side is not None and side != wanted for side, wanted in zip(sides, size, strict=True)):
        said = "x".join("any" if side is None else str(side) for side in sides)
        raise UsageError(f"{file.path} takes images of {said}, not {size[0]}x{size[1]}; its size is fixed")
    return size


@torch.no_grad()
def _check_several(network: OnnxNetwork, file: OnnxFile, image: Tensor) -> None:
    """A view pair is a batch of two: the shapes of a file that was written for one must bear that."""
    if file.shape[0] is None:
        return
    pair = torch.cat((image, image.flip(3)))
    try:
        both = _named(network(pair), file)
    except Exception as error:
        raise _one_at_a_time(file, str(error).strip().splitlines()[0]) from error
    for name, alone in _named(network(image), file).items():
        count = len(alone)
        if both[name].shape != (2 * count, *alone.shape[1:]):
            raise _one_at_a_time(file, f"twice as many give {name} {list(both[name].shape)}")
        if not relative_difference(both[name][:count].double(), alone.double()) <= AGREES:
            raise _one_at_a_time(file, "it mixes the images")


def _one_at_a_time(file: OnnxFile, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path} was written for a batch of {file.shape[0]}, and cannot be made to take more: {reason}. "
        "Write it with a free batch size: torch.onnx.export(..., dynamic_shapes=({0: 'batch'},)), or "
        "dynamic_axes with dynamo=False"
    )


@torch.no_grad()
def _difference_to_runtime(network: OnnxNetwork, file: OnnxFile, image: Tensor) -> float:
    try:
        expected = run_onnx(file.path, {file.image: image}, file.content)
    except ParityError as error:
        raise CheckpointError(str(error)) from error
    differences = []
    for name, ours in _named(network(image), file).items():
        theirs = expected[name]
        if ours.shape != theirs.shape:
            raise CheckpointError(
                f"{file.path}: {name} is {list(theirs.shape)} by ONNX Runtime, here {list(ours.shape)}"
            )
        both = ours.isnan() & theirs.isnan()  # a network that gives NaN is refused as one, later
        pair = (values.double().masked_fill(both, 0) for values in (ours, theirs))
        differences.append(relative_difference(*pair))
    largest = float(np.max(differences))  # NaN where one is
    if not largest <= AGREES:
        raise CheckpointError(
            f"{file.path} gives other values than ONNX Runtime ({largest:.1e} relative, expected at most "
            f"{AGREES:g}): one of its operators is read wrongly; give the PyTorch checkpoint"
        )
    return largest


def _named(returned: Tensor | Mapping[str, Tensor], file: OnnxFile) -> dict[str, Tensor]:
    return {file.outputs[0]: returned} if isinstance(returned, Tensor) else dict(returned)
