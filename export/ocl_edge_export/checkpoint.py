"""Read a checkpoint without running what is in it, and load it into its network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from ocl_edge.bundle.mistaken import instead_of_checkpoint
from ocl_edge.errors import CheckpointError
from ocl_edge.network import zoo

NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
NAMED_AT_MOST = 10


class Metadata(BaseModel):
    """What a checkpoint may say of itself under the key ``ocl_edge``; every field is optional."""

    model_config = ConfigDict(extra="forbid")

    arch: str | None = None
    input_size: tuple[int, int] | None = None
    classes: list[str] | None = None
    palette: list[tuple[int, int, int]] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


class UntrustedPickleError(CheckpointError):
    """What cannot be read without --trust-pickle."""


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
    if mistaken := instead_of_checkpoint(path):
        raise CheckpointError(mistaken)
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
    recognised from the tensor names and shapes.

    Raises:
        CheckpointError: not recognised, or tensors missing, unexpected or of another shape.
        UsageError: ``arch`` is wrong.
    """
    if checkpoint.module is not None and arch is None:
        return checkpoint.module.float().eval(), zoo.Spec(type(checkpoint.module).__name__, {})
    named = arch or checkpoint.metadata.arch
    spec = zoo.parse_spec(named) if named else zoo.recognise(checkpoint.shapes)
    network = spec.build()
    _check_names_and_shapes(network, checkpoint, spec)
    network.load_state_dict(checkpoint.tensors, strict=True)
    return network.float().eval(), spec


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
        raise UntrustedPickleError(
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
        problem = error.errors()[0]
        raise CheckpointError(
            f"{path}: metadata under 'ocl_edge': {problem['loc']}: {problem['msg']}"
        ) from error


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
