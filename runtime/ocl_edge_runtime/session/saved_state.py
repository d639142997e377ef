"""What a saved state may hold: it is checked as a whole before any of it is taken over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ocl_edge.plain_text import first_problem
from ocl_edge.tensors import Tensor, torch

SOMETIMES = ("average", "last_adapted", "guard.snapshot.", "opening", "glance")
"""Tensors that a state may have or not."""

LATER = {"learned_at", "followed_at", "frames_since", "opens_by_lead", "looked_across_at"}
"""Facts that a state of an older version lacks: a session goes on without."""

PACKED = ("mixed", "average")
"""Statistics, [2, S]: means and variances."""

Count = Annotated[int, Field(ge=0, le=1 << 53)]
Seconds = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Few = Annotated[int, Field(ge=0, le=1000)]


class GuardFacts(BaseModel):
    """Counters of `Guard`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    snapshots: Few
    strikes: list[bool] = Field(max_length=1000)
    frozen_for: Count
    rollbacks: Count
    resets: Count


class StateFacts(BaseModel):
    """Facts of a session of any kind; which of them must be there, the session knows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    bundle: str
    method: str
    settings: dict[str, Any]
    index: Annotated[int, Field(ge=-1, le=1 << 53)]
    saved_at: Seconds
    skipped: Count
    measured_at: Seconds | None = None
    learned_at: Seconds | None = None
    followed_at: Seconds | None = None
    frames_since: Count = 0
    opens_by_lead: bool = False
    looked_across_at: Seconds | None = None
    refused_statistics: Count = 0
    guard: GuardFacts | None = None


def problems_of(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    ours: Mapping[str, Tensor],
    our_facts: Mapping[str, Any],
) -> Iterator[str]:
    """What keeps a state from being taken over by a session that has ``ours``, in words."""
    for name in sorted(our_facts.keys() - facts.keys() - LATER):
        yield f"{name} is missing"
        return
    try:
        known = StateFacts.model_validate(dict(facts))
    except ValidationError as error:
        yield first_problem(error)
        return
    if "guard" in our_facts and known.guard is None:
        yield "guard is missing"
        return
    needed = {name: tensor for name, tensor in ours.items() if not name.startswith(SOMETIMES)}
    weights = {name.removeprefix("weight."): t for name, t in ours.items() if name.startswith("weight.")}
    for index in range(known.guard.snapshots if known.guard else 0):
        needed |= {f"guard.snapshot.{index}.{name}": tensor for name, tensor in weights.items()}
    if "mixed" in ours and ("average" in tensors or known.measured_at is not None):
        needed["average"] = ours["mixed"]
    yield from _tensor_problems(tensors, needed)


def _tensor_problems(tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> Iterator[str]:
    for name, expected in needed.items():
        tensor = tensors.get(name)
        if tensor is None:
            yield f"{name} is missing"
        elif tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            yield f"{name}: expected {_said(expected)}, got {_said(tensor)}"
        elif not bool(tensor.isfinite().all()):
            yield f"{name}: expected finite numbers"
        elif name in PACKED and bool((tensor[1] < 0).any()):
            yield f"{name}: expected variances from 0"
    for name, tensor in tensors.items():
        if name == "last_adapted":
            if tensor.dtype != torch.uint8 or tensor.ndim != 3:
                yield f"{name}: expected pixels, got {_said(tensor)}"
        elif name == "opening":
            if (
                tensor.dtype != torch.float64
                or tensor.shape not in ((3,), (4,))  # before weather could stay, three
                or not bool(((tensor >= 0) & (tensor <= 1)).all())
            ):
                yield f"{name}: expected four numbers from 0 to 1, got {_said(tensor)}"
        elif name == "glance":
            if tensor.dtype != torch.float64 or tensor.ndim != 2 or not bool(tensor.isfinite().all()):
                yield f"{name}: expected finite numbers, got {_said(tensor)}"
        elif name not in needed:
            yield f"{name} belongs to no part of this session"
    if "generator" in needed and not _is_a_generator(tensors.get("generator")):
        yield "generator: no state of a random generator"


def _is_a_generator(state: Tensor | None) -> bool:
    try:
        torch.Generator().set_state(torch.empty(0) if state is None else state)
    except (RuntimeError, TypeError):
        return False
    return True


def _said(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
