"""The server's side: it asks every vehicle, publishes what passes, and hands it out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ocl_edge import durable
from ocl_edge.bundle.fleet import trained_head, version_of
from ocl_edge.errors import FleetError, OutputError
from ocl_edge.plain_text import plain
from ocl_edge_app.fleet import messages
from ocl_edge_app.fleet.aggregation import Rules
from ocl_edge_app.fleet.contribution import Border, Contribution, Packed
from ocl_edge_app.fleet.messages import CONTRIBUTE, LONGEST_REFUSAL, TAKE, Field, Fields, check_protocol
from ocl_edge_app.fleet.publishing import Judges, publish_round, read_release
from ocl_edge_app.fleet.versions import Versions

LOOK_AGAIN_S = 0.5
MOST_ASKED = 500
"""Vehicles in a round, drawn anew each time: finding their conditions takes time with the square of them."""


class Grid(Protocol):
    """What carries messages to vehicles and brings their answers."""

    def vehicles(self) -> list[str]:
        """Names of those that are there."""

    def ask(self, asked: Mapping[str, Fields], timeout_s: float) -> Mapping[str, Fields | FleetError]:
        """Answers by vehicle, none later than that; an error for one that gave none or a broken one."""


@dataclass
class Round:
    """What a round came to.

    Attributes:
        vehicles: that were asked.
        refused: vehicle -> why what it sent, or did not send, does not count.
        declined: vehicle -> why it did not take the version that runs.
        version: that the fleet runs afterwards.
        published: whether that is a new one.
        refusal: why there is no new one; None where there is.
        heads: vehicles that each head of the new version comes from.
        miou: on the labelled footage, before and after, percent.
        received_bytes: of all answers.
        sent_bytes: of all versions that were handed out.
        seconds: asking, aggregating and judging, handing out.
    """

    vehicles: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    version: int = 0
    published: bool = False
    refusal: str | None = None
    heads: list[int] = field(default_factory=list)
    miou: tuple[float, float] | None = None
    received_bytes: int = 0
    sent_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Server:
    """What a server works with.

    Attributes:
        versions: of the fleet's bundle.
        key: file of the private key that signs.
        judges: what a version must pass.
        rules: of the aggregation.
        timeout_s: for the answers of one question.
    """

    versions: Versions
    key: Path
    judges: Judges
    rules: Rules
    timeout_s: float

    def round(self, grid: Grid) -> Round:
        """Ask, aggregate, publish, hand out.

        Raises:
            OclEdgeError: nothing of it is the vehicles' fault: the key, the disk, the backend.
        """
        done, bundle = Round(), self.versions.current()
        border = Border(bundle, trained_head(bundle))
        asked = messages.message(border.network, border.version, kind=CONTRIBUTE)
        started = time.monotonic()
        answers = grid.ask(dict.fromkeys(_drawn(grid.vehicles()), asked), self.timeout_s)
        running: dict[str, int] = {}
        contributions = self._read(border, answers, done, running)
        done.vehicles, done.seconds["ask"] = len(answers), time.monotonic() - started
        started = time.monotonic()
        published = publish_round(self.versions, border, contributions, self.key, self.judges, self.rules)
        done.refused |= published.aggregate.refused
        done.published, done.refusal, done.miou = (
            published.bundle is not None,
            published.refusal,
            published.miou,
        )
        if published.bundle:
            done.heads = [len(names) for names in published.aggregate.vehicles]
        done.seconds["publish"] = time.monotonic() - started
        self._hand_out(grid, running, done)
        return done

    def _read(
        self, border: Border, answers: Mapping[str, Fields | FleetError], done: Round, running: dict[str, int]
    ) -> dict[str, Contribution]:
        """Contributions that pass the border; whoever has another version or network is told by name."""
        contributions = {}
        for name, said in answers.items():
            try:
                if isinstance(said, FleetError):
                    raise said
                done.received_bytes += _size(said)
                check_protocol(said, f"vehicle {name}", "the server")
                version = messages.field(said, "version", int)
                if "refusal" in said:
                    running[name] = version
                    raise FleetError(plain(messages.field(said, "refusal", str), LONGEST_REFUSAL))
                packed = Packed(messages.field(said, "facts", str), messages.field(said, "tensors", bytes))
                contributions[name] = border.unpack(packed)
                running[name] = version
            except FleetError as error:
                done.refused[name] = str(error)
        return contributions

    def _hand_out(self, grid: Grid, running: Mapping[str, int], done: Round) -> None:
        """The version that runs, to every vehicle that has an older one."""
        started, bundle = time.monotonic(), self.versions.current()
        release, done.version = read_release(bundle), version_of(bundle.manifest)
        behind = [name for name, version in running.items() if version < done.version]
        if release is not None and behind:
            new = messages.message(
                bundle.network,
                done.version,
                kind=TAKE,
                manifest=release.manifest,
                tensors=release.tensors,
                signature=release.signature,
            )
            done.sent_bytes = len(behind) * _size(new)
            for name, said in grid.ask(dict.fromkeys(behind, new), self.timeout_s).items():
                if isinstance(said, FleetError):
                    done.declined[name] = str(said)
                elif "refusal" in said:
                    done.declined[name] = plain(str(said["refusal"]), LONGEST_REFUSAL)
        done.seconds["hand out"] = time.monotonic() - started


def run_rounds(
    server: Server,
    grid: Grid,
    rounds: int | None,
    every_s: float,
    report: Path | None,
    note: Callable[[str], None],
) -> None:
    """Round after round, each as soon as enough vehicles are there.

    Args:
        server: see `Server`.
        grid: of its vehicles.
        rounds: how many; None: it goes on.
        every_s: from the end of one to the earliest beginning of the next.
        report: file that gets a line of JSON for each; None: there is none.
        note: told in words what came of each.

    Raises:
        OclEdgeError: as `Server.round`; or the report cannot be written.
    """
    done = 0
    while rounds is None or done < rounds:
        while len(grid.vehicles()) < server.rules.least:
            time.sleep(LOOK_AGAIN_S)
        came_to = server.round(grid)
        done += 1
        for name, reason in {**came_to.refused, **came_to.declined}.items():
            note(f"vehicle {name}: {reason}")
        new = f"version {came_to.version} published"
        what = new if came_to.published else f"no new version: {came_to.refusal}"
        note(f"round {done}, {came_to.vehicles} vehicles, {came_to.received_bytes:,} bytes: {what}")
        if report is not None:
            _append(report, came_to)
        if rounds is None or done < rounds:
            time.sleep(every_s)


def _drawn(vehicles: list[str]) -> list[str]:
    return vehicles if len(vehicles) <= MOST_ASKED else random.SystemRandom().sample(vehicles, MOST_ASKED)


def _append(report: Path, came_to: Round) -> None:
    try:
        with durable.open_for_lines(report, append=True) as file:
            file.write(durable.json_text(came_to.as_dict(), None).encode())
    except OSError as error:
        raise OutputError(f"cannot write {report}: {error.strerror}") from error


def _size(fields: Fields) -> int:
    return sum(_bytes(value) for value in fields.values())


def _bytes(value: Field) -> int:
    if isinstance(value, int):
        return 8
    return len(value if isinstance(value, bytes) else value.encode())
