"""Which of the things that a network returns is its segmentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ocl_edge.errors import CaptureError, UsageError

USUAL_KEYS = ("out", "logits")
"""Of torchvision and of transformers."""

ALL = "all"
FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")

QUERIES = {"class_queries_logits", "masks_queries_logits"}
"""What mask transformers of transformers return: Mask2Former, MaskFormer, EoMT."""

OF_QUERIES = (
    "the network is a mask transformer: it returns a class and a mask for each query, and no scores of the "
    "classes at a pixel, which adaptation and mask need. Return them from a forward() of your own, such as "
    "torch.einsum('nqc,nqhw->nchw', classes.softmax(-1)[..., :-1], masks.sigmoid()).clamp(min=1e-6).log()"
)

CLASS_MAP = (
    "the network returns a class map (argmax inside forward()): return the logits that it is taken of; "
    "a mask has no gradient, and nothing could adapt"
)


@dataclass(frozen=True)
class OutputChoice:
    """One output and the others.

    Attributes:
        name: keys and positions on the way to it, with dots between; empty for a bare tensor.
        others: the same for every other tensor, with its shape for one image.
    """

    name: str
    others: dict[str, tuple[int, ...]]


class SegmentationOutput(nn.Module):
    """The network, giving some of its outputs: image [N, 3, H, W] -> a tuple of [N, C, H, W].

    Args:
        network: returns a tensor or a nest of mappings and sequences.
        *outputs: their names, see `OutputChoice`; none takes the usual one.
    """

    def __init__(self, network: nn.Module, *outputs: str) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        returned = self.network(image)
        tensors = named_tensors(returned)
        if not tensors:
            raise _without_tensors(returned)
        return tuple(tensors[name] for name in self.outputs or (_by_rule(returned, tensors),))


def choose_output(returned: Any, wanted: str | None = None) -> OutputChoice:
    """Find the segmentation in what a network returned.

    Args:
        returned: by the network.
        wanted: name or position; None takes a bare tensor, the keys of `USUAL_KEYS`, the only
            image-like tensor of a mapping, or the first one of a sequence.

    Raises:
        CaptureError: nothing in it is logits [N, C, H, W], or a class map.
        UsageError: there is no output of that name.
    """
    tensors = named_tensors(returned)
    if not tensors:
        raise _without_tensors(returned)
    if tensors.keys() >= QUERIES:
        raise CaptureError(OF_QUERIES)
    name = _by_name(tensors, wanted) if wanted is not None else _by_rule(returned, tensors)
    _require_logits(tensors[name], name)
    shapes = {n: tuple(int(s) for s in t.shape[1:]) for n, t in tensors.items() if n != name}
    return OutputChoice(name, shapes)


def choose_outputs(returned: Any, wanted: str | None = None) -> dict[str, OutputChoice]:
    """The outputs that are asked for, by the names that they get; empty where one is, without a name.

    Args:
        returned: by the network.
        wanted: as for `choose_output`; or ``all``, every output that may be logits; or ``NAME=OUTPUT`` with
            commas between.

    Raises:
        CaptureError: as `choose_output`.
        UsageError: there is no such output, two have one name, or a name is none that a file can have.
    """
    tensors = named_tensors(returned)
    if wanted is None or wanted in tensors or (wanted != ALL and "=" not in wanted):
        return {"": choose_output(returned, wanted)}
    if wanted == ALL:
        pairs = [(name, name) for name, tensor in tensors.items() if tensor.dim() == 4]
        if len(pairs) < 2:
            raise UsageError(f"--output all is for several outputs; the network returns {_listed(tensors)}")
    else:
        pairs = [(name, output) for name, _, output in (each.partition("=") for each in wanted.split(","))]
    for name, output in pairs:
        if not output or not FILE_NAME.fullmatch(name):
            raise UsageError(
                f"--output: {name!r} cannot name files; give the outputs names of letters, digits, _ and -: "
                "--output NAME=OUTPUT,NAME=OUTPUT"
            )
    choices = {name: choose_output(returned, output) for name, output in pairs}
    taken = {choice.name for choice in choices.values()}
    if len(choices) < len(pairs) or len(taken) < len(pairs):
        raise UsageError(f"--output {wanted}: every output and every name can be given once")
    return {
        name: OutputChoice(each.name, {n: s for n, s in each.others.items() if n not in taken})
        for name, each in choices.items()
    }


def named_tensors(returned: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor in a nest of mappings and sequences, by its way there; a bare tensor is ``''``."""
    if isinstance(returned, Tensor):
        return {prefix.removesuffix("."): returned}
    if hasattr(returned, "items"):
        parts = [(str(key), value) for key, value in returned.items()]
    elif isinstance(returned, tuple | list):
        parts = [(str(index), value) for index, value in enumerate(returned)]
    elif hasattr(returned, "__dataclass_fields__"):
        parts = [(name, getattr(returned, name)) for name in returned.__dataclass_fields__]
    else:
        return {}
    return {n: t for key, value in parts for n, t in named_tensors(value, f"{prefix}{key}.").items()}


def _by_name(tensors: dict[str, Tensor], wanted: str) -> str:
    if wanted in tensors:
        return wanted
    if wanted.isdecimal() and int(wanted) < len(tensors):
        return list(tensors)[int(wanted)]
    raise UsageError(f"the network has no output {wanted!r}; it returns {_listed(tensors)}")


def _without_tensors(returned: Any) -> CaptureError:
    kind = type(returned).__name__
    if returned is None or (hasattr(returned, "__len__") and not len(returned)):
        return CaptureError(f"the network returns nothing ({kind}), expected logits")
    return CaptureError(
        f"the network returns a {kind}, in which export finds no tensor: end forward() with the logits, or "
        "with a dictionary, tuple or dataclass that holds them"
    )


def _by_rule(returned: Any, tensors: dict[str, Tensor]) -> str:
    for key in USUAL_KEYS:
        if key in tensors:
            return key
    like_logits = [name for name, tensor in tensors.items() if tensor.dim() == 4]
    if hasattr(returned, "keys") and len(like_logits) > 1:
        raise CaptureError(
            f"the network returns several tensors, and none is named {' or '.join(USUAL_KEYS)}. "
            f"Say which it is with --output NAME: {_listed(tensors)}"
        )
    return (like_logits or list(tensors))[0]


def refuse_channels_last(output: Tensor, image: Tensor) -> None:
    """Raise where it is the second and third side that have the image's proportions, not the last two.

    Args:
        output: of the network, four sides.
        image: that it is for, [N, C, H, W].

    Raises:
        CaptureError: with advice.
    """
    height, width = image.shape[2:]
    first, second, third = output.shape[1:]
    if second * width != third * height and first * width == second * height and height % first == 0:
        raise CaptureError(
            f"expected logits [N, classes, H, W] from the network, got {_shape(output)}, which looks like "
            "[N, H, W, classes]: end forward() with .permute(0, 3, 1, 2)"
        )


def _require_logits(tensor: Tensor, name: str) -> None:
    if not tensor.is_floating_point():
        if tensor.is_complex():
            raise CaptureError(f"the network returns {tensor.dtype}, expected float32 logits")
        raise CaptureError(f"{CLASS_MAP}. Found: {str(tensor.dtype).removeprefix('torch.')} {_shape(tensor)}")
    if tensor.dim() != 4:
        of = f" as output {name!r}" if name else ""
        raise CaptureError(
            "expected logits [N, classes, H, W] from the network, got "
            f"{_shape(tensor)}{of}{_squeezed(tensor)}"
        )
    if tensor.dtype is not torch.float32:
        raise CaptureError(f"the network returns {tensor.dtype}, expected float32 logits")


def _squeezed(tensor: Tensor) -> str:
    """Advice where the side of one class may have been dropped, with that of one image or without."""
    sides = tensor.dim()
    squeezed = sides == 3 or (sides == 2 and tensor.shape[0] > 1)
    return ": a network of one class returns [N, 1, H, W], without squeeze()" if squeezed else ""


def _listed(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name or 'one tensor'} {_shape(tensor)}" for name, tensor in tensors.items())


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
