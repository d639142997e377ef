"""Read a checkpoint without running what is in it, and load it into its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn

from ocl_edge.bundle.mistaken import instead_of_checkpoint
from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.masks import MOST_CLASSES
from ocl_edge.network import zoo
from ocl_edge.network.preprocess import Byte, Deviation, Mean, Side, check_area
from ocl_edge.plain_text import first_problem
from ocl_edge_export.checkpoint_files import load_content, program_of, refuse_other_formats
from ocl_edge_export.checkpoint_programs import network_in
from ocl_edge_export.checkpoint_values import check_values
from ocl_edge_export.classes import repeated_name
from ocl_edge_export.made_anew import made_anew, said
from ocl_edge_export.state_dicts import fitted, laid_out, without_wrappers
from ocl_edge_export.weights_fit import fit_weights

NAMED_AT_MOST = 10
MODULE_KEYS = ("ema", "model_ema", "state_dict", "model", "net", "network")
"""Where trainers pickle whole modules; an average is preferred."""


class Metadata(BaseModel):
    """What a checkpoint may say of itself under the key ``ocl_edge``; every field is optional."""

    model_config = ConfigDict(extra="forbid")

    arch: str | None = Field(None, max_length=1000)
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
    """What a file holds.

    Attributes:
        tensors: the weights as they are usually nested, by name; of a network that is not known yet.
        metadata: what the file says of itself.
        module: a whole pickled module.
        laid_out: every tensor by its way in the file, see `state_dicts.laid_out`; empty: ``tensors``.
        weights_key: where the user says that the weights are.
        notes: how ``tensors`` were unwrapped, one line each.
    """

    tensors: dict[str, Tensor]
    metadata: Metadata = field(default_factory=Metadata)
    module: nn.Module | None = None
    laid_out: dict[str, Tensor] = field(default_factory=dict)
    weights_key: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with the weights of a checkpoint, in evaluation mode.

    Attributes:
        network: it.
        spec: the architecture that it was taken for.
        notes: what was unwrapped or left out, one line each.
        unloaded: tensors that the checkpoint does not hold, of training heads: nothing that the
            output depends on may be among them.
    """

    network: nn.Module
    spec: zoo.Spec
    notes: tuple[str, ...] = ()
    unloaded: frozenset[str] = frozenset()


def read_checkpoint(
    path: Path,
    trust_pickle: bool = False,
    weights_key: str | None = None,
    size: tuple[int, int] | None = None,
    weights_alone: bool = False,
) -> Checkpoint:
    """Read ``.pth``, ``.pt``, ``.ckpt``, ``.safetensors``, or a program: ``.onnx``, ``.pt2``, TorchScript.

    Args:
        path: the file.
        trust_pickle: also load pickled modules and programs, which runs code from the file.
        weights_key: where in the file the weights are; None: they are looked for.
        size: height and width of a program's images; None: those that it says.
        weights_alone: of a pickled module take the weights and not the code.

    Raises:
        CheckpointError: missing, truncated, not a checkpoint, or a pickle that is not trusted.
        UsageError: a program whose size is not known, or another one.
    """
    if mistaken := instead_of_checkpoint(path):
        raise CheckpointError(mistaken)
    refuse_other_formats(path)
    kind = program_of(path)
    if kind:
        network, size, said = network_in(path, kind, trust_pickle, size)
        return Checkpoint(dict(network.state_dict()), Metadata(input_size=size), network, notes=tuple(said))
    content = load_content(path, trust_pickle, weights_alone)
    if isinstance(content, nn.Module):
        return Checkpoint(dict(content.state_dict()), module=content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a state dict")
    metadata = _metadata(content.get("ocl_edge"), path)
    modules = [content[key] for key in MODULE_KEYS if isinstance(content.get(key), nn.Module)]
    if modules:
        return Checkpoint(dict(modules[0].state_dict()), metadata, modules[0])
    found = laid_out(content)
    if not found:
        keys = ", ".join(map(str, list(content)[:NAMED_AT_MOST])) or "nothing"
        raise CheckpointError(f"{path} holds no tensors (found: {keys}); expected a PyTorch state dict")
    usual = without_wrappers(found)
    return Checkpoint(usual.tensors, metadata, None, found, weights_key, tuple(usual.notes))


def load_network(checkpoint: Checkpoint, arch: str | None) -> LoadedNetwork:
    """The checkpoint's network in evaluation mode.

    The architecture comes from ``arch``, else from the checkpoint's metadata, else it is
    recognised from the tensor names and shapes. Only ``arch`` may name code.

    Raises:
        CheckpointError: not recognised, or tensors missing, unexpected or of another shape.
        UsageError: ``arch`` is wrong.
    """
    if checkpoint.module is not None and arch is None:
        check_values(checkpoint.module, checkpoint.module.state_dict())
        spec = zoo.Spec(type(checkpoint.module).__name__, {})
        return LoadedNetwork(checkpoint.module.float().eval(), spec, checkpoint.notes)
    if arch:
        spec = zoo.parse_spec(arch)
        network = spec.build()
    else:
        spec, network = _of_the_zoo(checkpoint)
    found = fitted(checkpoint.laid_out or checkpoint.tensors, network.state_dict(), checkpoint.weights_key)
    fit = fit_weights(network, found.tensors, spec)
    network.load_state_dict(fit.tensors, strict=True)
    notes = [*found.notes, *fit.notes]
    if arch and (names := made_anew(network, spec)):
        notes.append(said(names))
    return LoadedNetwork(network.float().eval(), spec, tuple(notes), frozenset(fit.unloaded))


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


def _metadata(raw: Any, path: Path) -> Metadata:
    try:
        return Metadata() if raw is None else Metadata.model_validate(raw)
    except ValidationError as error:
        raise CheckpointError(f"{path}: metadata under 'ocl_edge': {first_problem(error)}") from error
