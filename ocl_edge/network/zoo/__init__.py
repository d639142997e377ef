"""Architectures that published checkpoints need.

An architecture is named by a spec: ``espnetv2:scale=2.0,classes=20``, or
``path/to/file.py:function:key=value,...`` for the user's own code. Files that were read
(a checkpoint's metadata) may name networks of the zoo only: code comes from the command line.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.network.zoo import demo, espnetv2

Shapes = Mapping[str, tuple[int, ...]]
LONGEST_SPEC = 1000


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


CLASSES = Range(1, 256)
"""A mask has 8 bits."""


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
    "demo": Architecture(
        demo.build, demo.recognise, (192, 320), {"classes": CLASSES, "width": Range(1, 512)}
    ),
}


@dataclass(frozen=True)
class Spec:
    """A parsed architecture spec; ``factory`` is a name of the zoo or ``file.py:function``."""

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
        if self.architecture:
            self._check_arguments(self.architecture.arguments)
        factory = self.architecture.build if self.architecture else _load_function(self.factory)
        try:
            network = factory(**self.arguments)
        except TypeError as error:
            raise UsageError(f"--arch {self}: {error}") from error
        if not isinstance(network, nn.Module):
            raise UsageError(f"--arch {self} returned a {type(network).__name__}, expected a torch.nn.Module")
        return network

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
    if own_code and ".py:" in text:
        file, _, rest = text.partition(".py:")
        function, _, arguments = rest.partition(":")
        factory = f"{file}.py:{function}"
    else:
        factory, _, arguments = text.partition(":")
        if factory not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            more = ", or your own code as path/to/file.py:function" if own_code else ""
            raise UsageError(f"unknown architecture {factory!r}; known: {known}{more}")
    return Spec(factory, dict(_argument(part, text) for part in arguments.split(",") if part))


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


def _argument(part: str, text: str) -> tuple[str, Any]:
    key, equals, value = part.partition("=")
    if not equals or not key.strip().isidentifier():
        raise UsageError(f"--arch {text}: expected key=value, got {part!r}")
    try:
        return key.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: deep brackets
        return key.strip(), value.strip()


def _load_function(factory: str) -> Callable[..., Any]:
    file, _, name = factory.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"--arch {factory}: there is no file {path}")
    module_spec = importlib.util.spec_from_file_location(f"ocl_edge_user_{path.stem}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            f"--arch {factory}: {path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"--arch {factory}: {path} has no function {name!r}")
    return function  # type: ignore[no-any-return]
