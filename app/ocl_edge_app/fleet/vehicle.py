"""What a vehicle has to say: read from the state and the journal that ``ocl-edge run`` keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ocl_edge.errors import FleetError, UsageError
from ocl_edge.given_files import parse_json, read_given, reason_of
from ocl_edge.method.fleet_heads import FleetHead
from ocl_edge.method.verdict import UNDONE
from ocl_edge.tensors import Tensor
from ocl_edge_app.fleet.contribution import Border, Contribution, Facts, Summary
from ocl_edge_runtime.records.journal import LARGEST_BYTES
from ocl_edge_runtime.records.state import STATE_FILE, read_state

WEIGHT = "weight."
STATISTICS_OF_A_STATE = ("average", "mixed")
"""The running average; where none was measured yet, what the norms use."""


def contribution_of(border: Border, state: Path, journal: Path) -> Contribution:
    """What a run has learned so far.

    Args:
        border: of the bundle's network.
        state: directory of its ``--state``.
        journal: file of its ``--journal``.

    Raises:
        StateError: there is no state, or it is damaged.
        FleetError: it is of another bundle.
        UsageError: the journal cannot be read.
    """
    saved = read_state(state / STATE_FILE)
    if saved.facts.get("bundle") != border.network:
        raise FleetError(
            f"{state} is of the bundle {str(saved.facts.get('bundle'))[:16]}, this fleet's is "
            f"{border.network[:16]}: run that one with --state first"
        )
    facts = Facts(network=border.network, version=border.version, summary=summary_of(journal))
    return Contribution(facts, learned_in(saved.tensors))


def learned_in(state: Mapping[str, Tensor]) -> FleetHead:
    """Head and norm statistics of a session's state; the rest of it stays in the vehicle.

    Raises:
        FleetError: it holds neither running average nor mixed statistics.
    """
    weights = {name.removeprefix(WEIGHT): t for name, t in state.items() if name.startswith(WEIGHT)}
    for name in STATISTICS_OF_A_STATE:
        if name in state:
            return FleetHead(weights, state[name])
    raise FleetError(
        "the state holds no norm statistics: it is of a network without norms, which no fleet takes"
    )


def summary_of(journal: Path) -> Summary:
    """The journal in numbers.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        lines = read_given(journal, 2 * LARGEST_BYTES).splitlines()
    except OSError as error:
        raise UsageError(f"cannot read the journal {journal}: {reason_of(error)}") from error
    return summarise(entry for line in lines if isinstance(entry := _entry(line), dict))


def summarise(entries: Iterable[Mapping[str, Any]]) -> Summary:
    """Lines of a journal, as `ocl_edge_runtime.records.journal` writes them, in numbers."""
    frames = updates = undone = 0
    opened, distances = 0.0, []
    for entry in entries:
        if entry.get("event") == "frame":
            frames += 1
            opened += _number(entry.get("opening"))
            if entry.get("distance") is not None:
                distances.append(_number(entry["distance"]))
        updates += entry.get("adapted") is True
        guard = entry.get("guard")
        undone += isinstance(guard, dict) and guard.get("action") in {reason.value for reason in UNDONE}
    return Summary(
        frames=frames,
        updates=updates,
        undone=undone,
        opening=min(1.0, opened / max(1, frames)),
        distance=sum(distances) / len(distances) if distances else None,
    )


def _entry(line: bytes) -> Any:
    """None for a line that a crash cut off."""
    try:
        return parse_json(line)
    except ValueError:
        return None


def _number(value: object) -> float:
    return min(max(float(value), 0.0), 1e6) if isinstance(value, int | float) else 0.0
