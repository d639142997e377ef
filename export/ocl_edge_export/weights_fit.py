"""Whether the tensors of a checkpoint are those of a network: names, shapes, values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.network import zoo
from ocl_edge.network.zoo.own_code import where_in_user_code
from ocl_edge_export.checkpoint_values import check_values
from ocl_edge_export.state_dicts import AUXILIARY, COUNTER

NAMED_AT_MOST = 10


@dataclass(frozen=True)
class Fit:
    """What a network's ``load_state_dict`` gets.

    Attributes:
        tensors: all of the network's, by its own names.
        notes: what was left out or is missing, one line each.
        unloaded: names of those that are not the checkpoint's.
    """

    tensors: dict[str, Tensor]
    notes: list[str]
    unloaded: list[str]


def fit_weights(network: nn.Module, found: Mapping[str, Tensor], spec: zoo.Spec) -> Fit:
    """Find a value for every tensor of a network, as ``load_state_dict`` would.

    Args:
        network: that the tensors are for; what it makes lazily gets its shapes from them.
        found: tensors of a checkpoint, by the network's names as far as they have them.
        spec: of the network, for messages.

    Raises:
        UsageError: the network's code leaves tensors without content.
        CheckpointError: tensors are missing, unexpected, of another shape, or not what networks compute with.
    """
    _refuse_meta(network, spec)
    named = _by_its_own_names(network, found, spec)
    own = network.state_dict()
    fit = _fit(own, _shared(own, named), spec)
    tensors = {**own, **fit.tensors}
    check_values(network, tensors)
    return Fit(tensors, fit.notes, fit.unloaded)


def _refuse_meta(network: nn.Module, spec: zoo.Spec) -> None:
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if tensor.is_meta:
            raise UsageError(
                f"--arch {spec} makes {name} on the device meta, where tensors have no content: make the "
                "network on the CPU"
            )


def _by_its_own_names(network: nn.Module, found: Mapping[str, Tensor], spec: zoo.Spec) -> dict[str, Tensor]:
    """After what modules do to older names before they load; a lazy one takes its shapes from here."""
    tensors = dict(found)
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        try:
            for hook in module._load_state_dict_pre_hooks.values():
                hook(tensors, prefix, {}, True, [], [], [])
        except Exception as error:
            raise CheckpointError(
                f"{name or 'the network'} of {spec} cannot take its tensors from the checkpoint: "
                f"{type(error).__name__}: {error}{where_in_user_code(error)}"
            ) from error
    return tensors


def _shared(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the names that a network gives the same tensor: some files keep one of them."""
    places: dict[object, Tensor] = {}
    for name, tensor in own.items():
        if name in found and not is_lazy(tensor):
            places[_place(tensor)] = found[name]
    twins = {
        name: places[_place(tensor)]
        for name, tensor in own.items()
        if name not in found and not is_lazy(tensor) and _place(tensor) in places
    }
    return {**found, **twins}


def _place(tensor: Tensor) -> object:
    return tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.stride()


def _fit(own: Mapping[str, Tensor], found: Mapping[str, Tensor], spec: zoo.Spec) -> Fit:
    """The tensors to load. What PyTorch loads without a word, and training heads, may be missing or too many.

    Raises:
        CheckpointError: others are missing, unexpected, or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    tops = {name.partition(".")[0] for name in own}
    missing = [name for name in own if name not in found and not name.endswith(COUNTER)]
    unexpected = [name for name in found if name not in own and not name.endswith(COUNTER)]
    surplus = [n for n in unexpected if n.partition(".")[0] in tops and not _is_auxiliary(n)]
    unloaded = [name for name in missing if _is_auxiliary(name) and not is_lazy(own[name])]
    required = [name for name in missing if name not in unloaded]
    differing = [
        f"{name} {list(shapes[name])} instead of {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in found and shapes[name] != tuple(tensor.shape)
    ]
    problems = []
    if required:
        problems.append(f"{len(required)} tensors are missing: {_first(required)}")
    if problems or surplus or differing:
        if unexpected:
            problems.append(f"{len(unexpected)} tensors are unexpected: {_first(unexpected)}")
        if differing:
            problems.append(f"{len(differing)} tensors have another shape: {_first(differing)}")
        raise _does_not_fit(spec, problems, shapes)
    notes = []
    if unexpected:
        notes.append(f"left out, the network has no such part: {_first(sorted(_parts(unexpected)))}")
    if unloaded:
        notes.append(f"not in the checkpoint, kept as they were made: {_first(sorted(_parts(unloaded)))}")
    return Fit({n: t for n, t in found.items() if n in own}, notes, unloaded)


def _is_auxiliary(name: str) -> bool:
    return any(AUXILIARY in part for part in name.split("."))


def _parts(names: list[str]) -> set[str]:
    """The auxiliary part, or the module at the top, that each tensor belongs to."""
    parts = set()
    for name in names:
        path = name.split(".")
        depth = next((index for index, part in enumerate(path) if AUXILIARY in part), 0)
        parts.add(".".join(path[: depth + 1]))
    return parts


def _does_not_fit(spec: zoo.Spec, problems: list[str], shapes: zoo.Shapes) -> CheckpointError:
    recognised = spec.architecture.recognise(shapes) if spec.architecture else None
    hint = f"\nIts tensors fit --arch {zoo.Spec(spec.factory, recognised)}" if recognised else ""
    return CheckpointError(f"the checkpoint does not fit {spec}:\n  " + "\n  ".join(problems) + hint)


def _first(names: list[str]) -> str:
    more = f", and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more
