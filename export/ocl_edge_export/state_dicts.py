"""Where in a checkpoint the weights of a network are: nesting, prefixes, averages, parts.

Everything is laid out flat first: ``{"ema": {"module": {"conv.weight": ...}}}`` is the tensor
``ema.module.conv.weight``. The weights are then those names that, without some beginning,
are the network's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ocl_edge.errors import CheckpointError

AVERAGES = (
    "ema",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "ema_model",
    "params_ema",
    "averaged_model",
)
NESTED_UNDER = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "generator", "params", "weights"
)  # fmt: skip
WRAPPERS = ("module", "_orig_mod")
COUNTER = "num_batches_tracked"
DEEPEST = 6
MOST_TENSORS = 200_000
AUXILIARY = "aux"
NAMED_AT_MOST = 10


@dataclass(frozen=True)
class FittedWeights:
    """The tensors of a network, by its own names.

    Attributes:
        tensors: what was found; names that the network does not have are among them.
        notes: what was unwrapped, one line each.
    """

    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def laid_out(content: Any) -> dict[str, Tensor]:
    """Every tensor in a nest of mappings and modules, by its way there with dots between.

    What an optimiser keeps is left out.

    Raises:
        CheckpointError: a tensor has no shape; or there are more than `MOST_TENSORS`: mappings that hold one
            another many times over.
    """
    found: dict[str, Tensor] = {}
    visited = 0
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        if isinstance(value, nn.Module):
            value = value.state_dict()
        if isinstance(value, Tensor):
            if value.is_nested:
                raise CheckpointError(f"the tensor {prefix} is nested, expected one of a shape")
            found[prefix] = value
        elif isinstance(value, Mapping) and depth <= DEEPEST:
            visited += len(value)
            if visited > MOST_TENSORS:
                raise CheckpointError(f"it nests more than {MOST_TENSORS:,} entries, expected a state dict")
            inside = [
                (k, v) for k, v in value.items() if isinstance(k, str) and not k.startswith("optimizer")
            ]
            waiting += [(f"{prefix}.{k}" if prefix else k, v, depth + 1) for k, v in reversed(inside)]
    return found


def without_wrappers(tensors: Mapping[str, Tensor]) -> FittedWeights:
    """The usual weights of a checkpoint whose network is not known: nesting and wrappers removed."""
    places = sorted({_place(name) for name in tensors}, key=_preference)
    inside = places[0] if places else ""
    chosen = {n.removeprefix(inside): t for n, t in tensors.items() if _place(n) == inside}
    while chosen and (first := _shared_wrapper(chosen)):
        chosen = {name.removeprefix(first): t for name, t in chosen.items()}
        inside += first
    return FittedWeights({_unwrapped(name): t for name, t in chosen.items()}, _note_of(inside, places))


def fitted(tensors: Mapping[str, Tensor], expected: Iterable[str], weights_key: str | None) -> FittedWeights:
    """The weights that a network's names fit best; an average is preferred to what it is the average of.

    Args:
        tensors: laid out.
        expected: names of the network's tensors.
        weights_key: where they are to be taken from; None looks everywhere.

    Raises:
        CheckpointError: there is nothing under ``weights_key``.
    """
    own = {_unwrapped(name): name for name in expected}
    found = {_unwrapped(name): tensor for name, tensor in tensors.items()}
    if weights_key:
        under = _unwrapped(f"{weights_key}.x").removesuffix("x")
        found = {name: tensor for name, tensor in found.items() if name.startswith(under)}
        if not found:
            tops = sorted({name.partition(".")[0] for name in tensors})
            raise CheckpointError(
                f"--weights-key {weights_key}: there are no tensors under it; the checkpoint holds "
                f"{', '.join(tops[:NAMED_AT_MOST])}"
            )
    places = _beginnings(found, own.keys())
    if not places:  # the network itself is wrapped, and the checkpoint is not
        added = _best(_beginnings(own, found.keys()))
        return FittedWeights({own.get(f"{added}{n}", n): t for n, t in found.items()})
    best = _best(places)
    weights = {n.removeprefix(best): t for n, t in found.items() if n.startswith(best)}
    rivals = [place for place, count in places.items() if count == places[best]]
    return FittedWeights({own.get(n, n): t for n, t in weights.items()}, _note_of(best, rivals))


def _beginnings(names: Iterable[str], wanted: Collection[str]) -> Counter[str]:
    """Beginnings without which names are wanted ones -> for how many that is so."""
    begun: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for count in range(min(DEEPEST, len(parts))):
            if ".".join(parts[count:]) in wanted:
                begun["".join(f"{part}." for part in parts[:count])] += 1
    return begun


def _best(places: Counter[str]) -> str:
    most = max(places.values(), default=0)
    return min((place for place, count in places.items() if count == most), key=_preference, default="")


def _preference(place: str) -> tuple[bool, bool, int, str]:
    """Averages first, then the usual keys, then the shallowest."""
    parts = place.strip(".").split(".")
    average = any(part in AVERAGES for part in parts)
    usual = any(part in NESTED_UNDER for part in parts)
    return not average, not usual, len(parts) if place else 0, place


def _place(name: str) -> str:
    """The keys that a tensor is nested under, as far as they are usual ones, with a dot at the end."""
    parts, count = name.split("."), 0
    while count < len(parts) - 1 and parts[count] in (*AVERAGES, *NESTED_UNDER, *WRAPPERS):
        count += 1
    return "".join(f"{part}." for part in parts[:count])


def _shared_wrapper(names: Iterable[str]) -> str | None:
    first = {name.partition(".")[0] for name in names}
    only = next(iter(first))
    return f"{only}." if len(first) == 1 and only in (*WRAPPERS, *NESTED_UNDER) else None


def _unwrapped(name: str) -> str:
    """Without what DataParallel and torch.compile put around a network or a part of it."""
    *modules, leaf = name.split(".")
    return ".".join([*(part for part in modules if part not in WRAPPERS), leaf])


def _note_of(inside: str, places: Iterable[str]) -> list[str]:
    place = inside.strip(".")
    if not place:
        return []
    others = sorted({p.strip(".") for p in places} - {"", place})
    rest = f", not from {', '.join(map(repr, others[:3]))} (--weights-key chooses)" if others else ""
    return [f"weights taken from {place!r}{rest}"]
