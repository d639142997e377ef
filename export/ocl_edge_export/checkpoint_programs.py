"""A checkpoint that is a whole program: an ONNX graph, which is data, or code that must be trusted."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ocl_edge.errors import CheckpointError
from ocl_edge_export.checkpoint_files import ProgramKind
from ocl_edge_export.onnx_network.reading import read_network
from ocl_edge_export.untrusted import KINDS, network_of

Found = tuple[nn.Module, tuple[int, int], list[str]]
"""A network in evaluation mode, height and width of its images, and what there is to say of it."""


def network_in(path: Path, kind: ProgramKind, trust_pickle: bool, size: tuple[int, int] | None) -> Found:
    """The network that a program computes.

    Args:
        path: of the program.
        kind: of it.
        trust_pickle: whether code in it may run, in a process of its own.
        size: height and width of its images; None where it says them itself.

    Raises:
        CheckpointError: it is damaged, holds what is not read, or needs trust.
        UsageError: the size is not known, or another one.
    """
    if kind == "onnx":
        return read_network(path, size)
    if not trust_pickle:
        raise CheckpointError(
            f"{path} is {KINDS[kind]}, which is code: save the weights alone where it was made "
            "(torch.save(network.state_dict(), FILE)), and name the network with --arch; or, if you trust "
            "its origin: --trust-pickle"
        )
    return network_of(path, kind, size)
