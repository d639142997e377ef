"""Architectures that published checkpoints need.

An architecture is named by a spec: ``espnetv2:scale=2.0,classes=20``, or
``path/to/file.py:function:key=value,...`` for the user's own code (`own_code`). Files that were read
(a checkpoint's metadata) may name networks of the zoo only: code comes from the command line.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.masks import MOST_CLASSES
from ocl_edge.network.zoo import deeplabv2, demo, espnetv2
from ocl_edge.network.zoo.own_code import build_own, split_factory

Shapes = Mapping[str, tuple[int, ...]]
LONGEST_SPEC = 1000
OWN_CODE = (
    "torchvision:NAME, smp:CLASS, transformers:DIRECTORY, timm:ENCODER, ultralytics:FILE.yaml, or your own "
    "code as path/to/file.py:function"
)


@dataclass(frozen=True)
class Range:
    """What a number of a network may be."""

    least: float
    most: float
    whole: bool = True

    def holds(self, value: object) -> bool:
        """Whether the value is such a number; True and False are none."""
        kinds = (int,) if self.whole else (int, float)
        return type(value) in kinds and self.least <= value <= self.most  # type: ignore[operator]

    def __str__(self) -> str:
        return f"a {'whole ' if self.whole else ''}number of {self.least:g} to {self.most:g}"


CLASSES = Range(1, MOST_CLASSES)


@dataclass(frozen=True)
class Architecture:
    """How to build a network of the zoo, recognise its checkpoints, and feed it.

    Attributes:
        build: keyword arguments -> network.
        recognise: tensor shapes of a checkpoint -> keyword arguments, or None if foreign.
        input_size: height and width of the published training.
        arguments: what each keyword argument may be.
    """

    build: Callable[..., nn.Module]
    recognise: Callable[[Shapes], dict[str, Any] | None]
    input_size: tuple[int, int]
    arguments: Mapping[str, Range]


ARCHITECTURES: dict[str, Architecture] = {
    "espnetv2": Architecture(
        espnetv2.ESPNetv2,
        espnetv2.recognise,
        (512, 1024),
        # fewer than two classes leave the last decoder block without channels
        {"scale": Range(0.1, 8, whole=False), "classes": Range(2, CLASSES.most)},
    ),
    "deeplabv2": Architecture(
        deeplabv2.DeepLabV2,
        deeplabv2.recognise,
        (512, 1024),
        {"classes": CLASSES, "branches": Range(1, len(deeplabv2.RATES))},
    ),
    "demo": Architecture(
        demo.build, demo.recognise, (192, 320), {"classes": CLASSES, "width": Range(1, 512)}
    ),
}


@dataclass(frozen=True)
class Spec:
    """A parsed architecture spec; ``factory`` is a name of the zoo, or one of `own_code`."""

    factory: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        arguments = ",".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.factory}:{arguments}" if arguments else self.factory

    @property
    def architecture(self) -> Architecture | None:
        return ARCHITECTURES.get(self.factory)

    def build(self) -> nn.Module:
        """The network with random weights.

        Raises:
            UsageError: unknown name, no such file or function, or arguments it does not take.
        """
        if self.architecture is None:
            return build_own(self.factory, self.arguments)
        self._check_arguments(self.architecture.arguments)
        return self.architecture.build(**self.arguments)

    def _check_arguments(self, allowed: Mapping[str, Range]) -> None:
        for key, value in self.arguments.items():
            if key not in allowed:
                raise UsageError(f"{self.factory} takes {', '.join(allowed)}, not {key!r}")
            if not allowed[key].holds(value):
                raise UsageError(f"{key} of {self.factory} must be {allowed[key]}, got {value!r}")


def parse_spec(text: str, own_code: bool = True) -> Spec:
    """Read ``NAME[:key=value,...]`` or ``FILE.py:FUNCTION[:key=value,...]``.

    Values are Python literals where they can be read as such, else text.

    Args:
        text: the spec.
        own_code: whether it may name a file, which runs its code. Never for text out of a file.

    Raises:
        UsageError: neither of the two.
    """
    if len(text) > LONGEST_SPEC:
        raise UsageError(f"an architecture is named in {LONGEST_SPEC} characters at most, got {len(text)}")
    factory, _, arguments = text.partition(":")
    if factory not in ARCHITECTURES:
        if not (own_code and ":" in text):
            known = ", ".join(ARCHITECTURES)
            more = f", {OWN_CODE}" if own_code else ""
            raise UsageError(f"unknown architecture {factory!r}; known: {known}{more}")
        factory, arguments = split_factory(text)
    return Spec(factory, dict(_argument(part, text) for part in _apart(arguments) if part))


def recognise(shapes: Shapes) -> Spec:
    """The architecture that a state dict of these tensor shapes belongs to.

    Raises:
        CheckpointError: none of the zoo; the message lists what was tried.
    """
    for name, architecture in ARCHITECTURES.items():
        arguments = architecture.recognise(shapes)
        if arguments is not None:
            return Spec(name, arguments)
    first = ", ".join(list(shapes)[:3])
    raise CheckpointError(
        f"the architecture is not recognised from the {len(shapes)} tensors ({first}, ...); "
        f"tried: {', '.join(ARCHITECTURES)}. "
        "Name it with --arch, for your own code: --arch path/to/file.py:function"
    )


def _apart(arguments: str) -> list[str]:
    """At the commas that are in no brackets: ``size=(8,16),deep=True`` is two arguments."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _argument(part: str, text: str) -> tuple[str, Any]:
    key, equals, value = part.partition("=")
    if not equals or not key.strip().isidentifier():
        raise UsageError(f"--arch {text}: expected key=value, got {part!r}")
    try:
        return key.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: deep brackets
        return key.strip(), value.strip()
