"""Read a checkpoint without running what is in it, and load it into its network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.network import zoo
from ocl_edge.network.preprocess import Byte, Deviation, Mean, Side, check_area
from ocl_edge.network.tail import MOST_CLASSES
from ocl_edge.plain_text import first_problem
from ocl_edge_export.checkpoint_values import check_values
from ocl_edge_export.classes import repeated_name

NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
NAMED_AT_MOST = 10


class Metadata(BaseModel):
    """What a checkpoint may say of itself under the key ``ocl_edge``; every field is optional."""

    model_config = ConfigDict(extra="forbid")

    arch: str | None = None
    input_size: tuple[Side, Side] | None = None
    classes: list[str] | None = Field(None, min_length=1, max_length=MOST_CLASSES)
    palette: list[tuple[Byte, Byte, Byte]] | None = Field(None, max_length=MOST_CLASSES)
    mean: tuple[Mean, Mean, Mean] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None

    @field_validator("input_size")
    @classmethod
    def _input_that_fits(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None:
            check_area(*value)
        return value

    @field_validator("classes")
    @classmethod
    def _names_that_differ(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and (name := repeated_name(value)) is not None:
            raise ValueError(f"two classes are called {name!r}")
        return value


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, or a whole pickled module; and what the file says of itself."""

    tensors: dict[str, Tensor]
    metadata: Metadata = field(default_factory=Metadata)
    module: nn.Module | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def read_checkpoint(path: Path, trust_pickle: bool = False) -> Checkpoint:
    """Read ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``.

    State dicts are found at the top or under one of `NESTED_UNDER`; prefixes that
    DataParallel and torch.compile add are removed.

    Args:
        path: the file.
        trust_pickle: also load pickled modules, which runs code from the file.

    Raises:
        CheckpointError: missing, truncated, not a checkpoint, or a pickle that is not trusted.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    content = _load(path, trust_pickle)
    if isinstance(content, nn.Module):
        return Checkpoint(dict(content.state_dict()), module=content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a state dict")
    metadata = _metadata(content.get("ocl_edge"), path)
    nested = next(
        (content[key] for key in NESTED_UNDER if isinstance(content.get(key), Mapping | nn.Module)), content
    )
    if isinstance(nested, nn.Module):
        return Checkpoint(dict(nested.state_dict()), metadata, nested)
    tensors = {_unwrapped(str(name)): value for name, value in nested.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(content)[:NAMED_AT_MOST])) or "nothing"
        raise CheckpointError(f"{path} holds no tensors (found: {keys}); expected a PyTorch state dict")
    return Checkpoint(tensors, metadata)


def load_network(checkpoint: Checkpoint, arch: str | None) -> tuple[nn.Module, zoo.Spec]:
    """The checkpoint's network in evaluation mode, and the architecture it was taken for.

    The architecture comes from ``arch``, else from the checkpoint's metadata, else it is
    recognised from the tensor names and shapes. Only ``arch`` may name code.

    Raises:
        CheckpointError: not recognised, or tensors missing, unexpected or of another shape.
        UsageError: ``arch`` is wrong.
    """
    if checkpoint.module is not None and arch is None:
        check_values(checkpoint.module, checkpoint.module.state_dict())
        return checkpoint.module.float().eval(), zoo.Spec(type(checkpoint.module).__name__, {})
    if arch:
        spec = zoo.parse_spec(arch)
        network = spec.build()
    else:
        spec, network = _of_the_zoo(checkpoint)
    _check_names_and_shapes(network, checkpoint, spec)
    check_values(network, checkpoint.tensors)
    network.load_state_dict(checkpoint.tensors, strict=True)
    return network.float().eval(), spec


def _of_the_zoo(checkpoint: Checkpoint) -> tuple[zoo.Spec, nn.Module]:
    """The network that the checkpoint itself names, or that its tensors show."""
    named = checkpoint.metadata.arch
    if named is None:
        spec = zoo.recognise(checkpoint.shapes)
    else:
        try:
            spec = zoo.parse_spec(named, own_code=False)
        except UsageError as error:
            raise CheckpointError(
                f"the checkpoint's metadata names the architecture {named!r}, and a file may only name a "
                f"network of the zoo ({error}); if it is code of yours that you trust: --arch SPEC"
            ) from error
    try:
        return spec, spec.build()
    except UsageError as error:
        raise CheckpointError(f"the checkpoint's architecture {spec} cannot be built: {error}") from error


def _load(path: Path, trust_pickle: bool) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle or "Weights only load failed" not in str(error):
            raise CheckpointError(
                f"{path} is damaged or not a PyTorch checkpoint: {_first_line(error)}"
            ) from error
        raise CheckpointError(
            f"{path} holds pickled Python objects or is not a PyTorch checkpoint. Loading a pickle runs code "
            "from the file. If you trust its origin: --trust-pickle"
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{path} is truncated, damaged or not a checkpoint: {_first_line(error)}"
        ) from error


def _metadata(raw: Any, path: Path) -> Metadata:
    try:
        return Metadata() if raw is None else Metadata.model_validate(raw)
    except ValidationError as error:
        raise CheckpointError(f"{path}: metadata under 'ocl_edge': {first_problem(error)}") from error


def _unwrapped(name: str) -> str:
    for prefix in WRAPPER_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _check_names_and_shapes(network: nn.Module, checkpoint: Checkpoint, spec: zoo.Spec) -> None:
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    found = checkpoint.shapes
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"{len(missing)} tensors are missing: {_first(missing)}")
    if unexpected := [name for name in found if name not in expected]:
        problems.append(f"{len(unexpected)} tensors are unexpected: {_first(unexpected)}")
    differing = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if differing:
        problems.append(f"{len(differing)} tensors have another shape: {_first(differing)}")
    if not problems:
        return
    recognised = spec.architecture.recognise(found) if spec.architecture else None
    hint = f"\nIts tensors fit --arch {zoo.Spec(spec.factory, recognised)}" if recognised else ""
    raise CheckpointError(f"the checkpoint does not fit {spec}:\n  " + "\n  ".join(problems) + hint)


def _first(names: list[str]) -> str:
    more = f", and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
