"""Networks that no export can follow: they differ from run to run, or from batch size to batch size."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ocl_edge.errors import CaptureError, OclEdgeError
from ocl_edge.network.zoo.own_code import where_in_user_code
from ocl_edge_export.differences import relative_difference

SAME = 1e-3
"""Relative difference that is rounding: convolutions sum in another order for another batch size."""

TRIES_OF_RANDOM = 20
"""Comparisons of a network that draws numbers: what it drops may be the same twice."""

RANDOM = (
    "something random stays on in evaluation mode, for example F.dropout(x) without training=self.training"
)
KEPT = (
    "it keeps something of one image for the next, for example an observer of quantization, which "
    "network.apply(torch.ao.quantization.disable_observer) turns off, or draws from a generator of its own"
)

OUTSIDE = "the network itself, outside of its modules"

Values = list[tuple[str, str, Tensor]]
"""Name and type of a module, and what it gave for the first image; in the order in which they ended."""


def refuse_unsteady(network: nn.Module, image: Tensor, once: Any) -> Any:
    """Run a network once more on an image, and on the image beside its mirror image.

    Args:
        network: image [N, 3, H, W] -> whatever it returns, in evaluation mode.
        image: float32 [1, 3, H, W].
        once: what the network gave for it.

    Returns:
        What it gives for the image and its mirror image.

    Raises:
        CaptureError: the network fails; or the results differ: the first module where they do is named.
    """
    drawn = _random_states()
    again = run_once(network, image)
    draws = drawn != _random_states()
    for _ in range(TRIES_OF_RANDOM if draws else 1):
        _refuse(
            network,
            (image, once),
            (image, again),
            f"the network gives another result when it sees one image twice: {RANDOM if draws else KEPT}",
        )
        again = run_once(network, image) if draws else again
    pair = torch.cat((image, image.flip(3)))
    of_pair = _run_on_two(network, pair)
    _refuse(
        network,
        (image, once),
        (pair, of_pair),
        "the network does something else with a batch of one image than with a batch of two: forward() "
        "asks for the batch size, or mixes the images. Cameras give one image at a time, view pairs two",
    )
    return of_pair


@torch.no_grad()
def run_once(network: nn.Module, image: Tensor) -> Any:
    """What the network returns for an image.

    Raises:
        CaptureError: it fails on it; the user's own line is named.
    """
    try:
        return network(image)
    except OclEdgeError:
        raise
    except (Exception, SystemExit) as error:
        size = f"{image.shape[2]}x{image.shape[3]}"
        raise CaptureError(
            f"the network does not run on a {size} image: {_said(error)}{where_in_user_code(error)}"
        ) from error


@torch.no_grad()
def _run_on_two(network: nn.Module, pair: Tensor) -> Any:
    try:
        return network(pair)
    except (Exception, SystemExit) as error:
        raise CaptureError(
            "the network runs on one image, and not on two in a batch: "
            f"{_said(error)}{where_in_user_code(error)}\n"
            "Cameras give one image at a time, view pairs two: let forward() take both"
        ) from error


def _said(error: BaseException) -> str:
    return f"it ends the program ({error})" if isinstance(error, SystemExit) else str(error)


def _random_states() -> tuple[bytes, str, str]:
    """Of the generators that a network may draw from; drawing changes them."""
    torch_state = torch.get_rng_state().numpy().tobytes()
    return torch_state, str(random.getstate()), str(np.random.get_state())


def _refuse(network: nn.Module, first: tuple[Tensor, Any], second: tuple[Tensor, Any], what: str) -> None:
    """Raise where the results of two runs differ; of each the batch and what came of it."""
    if _differ(_first_image(first[1]), _first_image(second[1])) is None:
        return
    tries = (
        _where_they_part(_values(network, first[0]), _values(network, second[0]))
        for _ in range(TRIES_OF_RANDOM)
    )
    module = next((found for found in tries if found != OUTSIDE), OUTSIDE)
    raise CaptureError(f"{what}.\n  first module that differs: {module}")


def _where_they_part(ours: Values, theirs: Values) -> str:
    for (name, kind, value), (other, _, expected) in zip(ours, theirs, strict=False):
        difference = _differ([value], [expected]) if name == other else "it is called in another order"
        if difference is not None:
            return f"{name or 'the network itself'} ({kind}): {difference}"
    return OUTSIDE


@torch.no_grad()
def _values(network: nn.Module, images: Tensor) -> Values:
    values: Values = []

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            values.extend((name, type(module).__name__, t.clone()) for t in _first_image(output))

        return hook

    hooks = [module.register_forward_hook(remember(name)) for name, module in network.named_modules()]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return values


def _first_image(output: Any) -> list[Tensor]:
    """What belongs to the first image, of every floating-point tensor in a nest of containers."""
    if isinstance(output, Tensor):
        return [output.detach()[:1]] if output.is_floating_point() and output.dim() else []
    if hasattr(output, "values"):
        output = list(output.values())
    return [t for part in output for t in _first_image(part)] if isinstance(output, tuple | list) else []


def _differ(ours: list[Tensor], theirs: list[Tensor]) -> str | None:
    """How the largest difference is described, None where there is none beyond rounding."""
    for value, expected in zip(ours, theirs, strict=False):
        if value.shape != expected.shape:
            return f"shape {list(value.shape)} and {list(expected.shape)}"
        if value.numel() == 0:
            continue
        relative = relative_difference(value, expected)
        if relative > SAME:
            return f"{relative:.1e} relative"
    return None
