"""Capture a network as a torch.export program with a free batch size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from operator import attrgetter

import torch
from torch import Tensor, fx, nn

from ocl_edge.errors import CaptureError, OclEdgeError
from ocl_edge.network.programs import place
from ocl_edge.network.zoo.own_code import where_in_user_code
from ocl_edge_export.behaviour import run_once
from ocl_edge_export.foreign_weights import fold_foreign_weights
from ocl_edge_export.functional import as_functional
from ocl_edge_export.outputs import SegmentationOutput, choose_output

LARGEST_BATCH = 64
WRAPPER = "network."


def refuse_old_pytorch(version: str) -> None:
    """What fails halfway is refused now: before 2.7, PyTorch writes no ONNX that keeps the norms.

    Raises:
        CaptureError: with the way out.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (2, 7):
        raise CaptureError(
            f"PyTorch {version} cannot write the forms of a bundle: export with PyTorch 2.7 or later "
            "(tested: 2.13), on another machine if need be; the bundle runs here"
        )


def capture(network: nn.Module, height: int, width: int, channels: int = 3) -> fx.GraphModule:
    """The network in evaluation mode as a flat graph of ATen operators: image [N,3,H,W] -> tuple of logits.

    Parameters and buffers keep their qualified names. The batch size is free, height and
    width are those given. Nothing is written in place, and only what the output depends on
    is there.

    Args:
        network: a `SegmentationOutput` whose outputs were chosen, or a network whose usual output is taken.
        height: of the image, in pixels.
        width: of the image, in pixels.
        channels: of the image.

    Raises:
        CaptureError: the network refuses that size, or does what torch.export cannot follow.
    """
    wrapped = network if isinstance(network, SegmentationOutput) else SegmentationOutput(network)
    wrapped.eval()
    example = torch.zeros(2, channels, height, width)
    if not wrapped.outputs:
        choose_output(run_once(wrapped.network, example))
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    try:
        with torch.no_grad(), quiet_exporter():
            program = torch.export.export(wrapped, (example,), dynamic_shapes=({0: batch},))
            module = as_functional(program)
    except OclEdgeError:
        raise
    except (Exception, SystemExit) as error:
        raise CaptureError(
            f"torch.export cannot capture the network: {_first_line(error)}{where_in_user_code(error)}\n"
            f"{_cause(wrapped.network)}"
        ) from error
    unwrapped = _unwrapped(module)
    fold_foreign_weights(unwrapped)
    return unwrapped


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without what PyTorch's exporters log, print and warn of while they try."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "torch.fx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _cause(network: nn.Module) -> str:
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return (
                f"Cause: {name or 'the network itself'} is TorchScript. Build the module that it was "
                "scripted or traced from; its state_dict() has the same weights."
            )
    return "Usual causes: control flow that depends on pixel values, or a fixed batch size inside forward()."


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unwrapped(module: fx.GraphModule) -> fx.GraphModule:
    """The same graph with tensors under the names that they have in the user's network."""
    root = nn.Module()
    for node in module.graph.nodes:
        if node.op == "get_attr":
            tensor = _resolve(module, node.target)
            node.target = node.target.removeprefix(WRAPPER)
            place(root, node.target, tensor)
        for name, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
            path = f"{path}.".removeprefix(WRAPPER).removesuffix(".")
            node.meta["nn_module_stack"][name] = (path, kind)
    return fx.GraphModule(root, module.graph)


def _resolve(module: nn.Module, target: str) -> Tensor:
    value = attrgetter(target)(module)
    if not isinstance(value, Tensor):
        raise CaptureError(f"{target} is a {type(value).__name__}; a part of the network was not captured")
    return value
