"""Files that run code when they are loaded: read in a process of their own, of which only data comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.given_files import read_json
from ocl_edge_export.differences import relative_difference
from ocl_edge_export.onnx_network.network import OnnxNetwork
from ocl_edge_export.onnx_network.reading import AGREES, read_network
from ocl_edge_export.outputs import named_tensors

WORKER = "ocl_edge_export.untrusted_worker"
MOST_SECONDS = 1800
LONGEST_RESULT = 1 << 16
KINDS = {"torchscript": "a TorchScript program", "pt2": "a torch.export program (.pt2)"}


def weights_of(path: Path) -> Any:
    """The tensors of a pickle that somebody trusts, and what it says under ``ocl_edge``; none of its code.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    with _made_from(path, {"kind": "weights"}) as (made, _):
        return torch.load(made / "weights.pth", map_location="cpu", weights_only=True)


def network_of(
    path: Path, kind: Literal["torchscript", "pt2"], size: tuple[int, int] | None
) -> tuple[OnnxNetwork, tuple[int, int], list[str]]:
    """The network of a program that somebody trusts, by way of ONNX.

    Args:
        path: of the program.
        kind: of it.
        size: height and width of its images; None where it says them itself.

    Raises:
        UsageError: the size is not given.
        CheckpointError: it cannot be loaded, or not be written as ONNX; or that computes otherwise.
    """
    if size is None and kind == "torchscript":
        raise UsageError(f"{path} is {KINDS[kind]}, which does not say its size: --input-size HEIGHTxWIDTH")
    with _made_from(path, {"kind": kind, "size": size}) as (made, said):
        try:
            network, size, notes = read_network(made / "network.onnx", tuple(said["size"]))
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(made / "network.onnx"), str(path))) from error
        sample = torch.load(made / "sample.pth", map_location="cpu", weights_only=True)
    _compare(path, network, sample["image"], sample["outputs"])
    return network, size, [f"{KINDS[kind]}, read by way of ONNX", *notes]


@contextmanager
def _made_from(path: Path, job: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The directory of what the worker made, and what it said."""
    with tempfile.TemporaryDirectory(prefix="ocl-edge-untrusted-") as place:
        directory = Path(place)
        (directory / "job.json").write_text(
            json.dumps({**job, "file": str(path.resolve()), "out": place}), encoding="utf-8"
        )
        try:
            ended = subprocess.run(
                [sys.executable, "-m", WORKER, str(directory / "job.json")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=MOST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CheckpointError(f"{path} was not loaded within {MOST_SECONDS} s") from error
        if not (directory / "done.json").is_file():
            raise CheckpointError(f"{path}: loading it ended the process (exit status {ended.returncode})")
        said = read_json(directory / "done.json", LONGEST_RESULT)
        if "missing_module" in said:
            raise CheckpointError(
                f"{path} holds objects of the module {said['missing_module']!r}, which is not installed "
                "here: install it, or save the weights alone where it is: "
                "torch.save(network.state_dict(), FILE)"
            )
        if "error" in said:
            raise CheckpointError(f"{path} cannot be read: {said['error']}")
        yield directory, said


@torch.no_grad()
def _compare(path: Path, network: nn.Module, image: Tensor, expected: list[Tensor]) -> None:
    for ours, theirs in zip(named_tensors(network(image)).values(), expected, strict=True):
        if ours.shape != theirs.shape or not relative_difference(ours.double(), theirs.double()) <= AGREES:
            raise CheckpointError(
                f"{path} gives other values than its form in ONNX; give the PyTorch checkpoint instead"
            )
