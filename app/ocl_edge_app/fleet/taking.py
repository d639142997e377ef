"""A vehicle's side: it answers what the server asks, and takes a new version only if it agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ocl_edge.bundle.fleet import Release, trained_head, version_of
from ocl_edge.errors import FleetError, OclEdgeError
from ocl_edge_app.fleet import messages
from ocl_edge_app.fleet.contribution import Border
from ocl_edge_app.fleet.judgement import Computes, check_heads, recorded_frames
from ocl_edge_app.fleet.messages import CONTRIBUTE, TAKE, Field, Fields, check_protocol, field
from ocl_edge_app.fleet.vehicle import contribution_of
from ocl_edge_app.fleet.versions import Versions

VEHICLE, SERVER = "this vehicle", "the server"


@dataclass(frozen=True)
class Vehicle:
    """What a vehicle knows, and what it says to the server.

    Attributes:
        versions: of the fleet's bundle.
        state: directory of the run's ``--state``.
        journal: file of its ``--journal``.
        frames: directory of its own recent frames, on which the guard looks at a new version; None: it does
            not, and a run's guard looks at it where a head would begin.
        computes: what runs the network for that.
        note: told in words what happens.
    """

    versions: Versions
    state: Path
    journal: Path
    frames: Path | None
    computes: Computes
    note: Callable[[str], None]

    def answer(self, asked: Fields) -> dict[str, Field]:
        """Whatever was asked; nothing that came can raise."""
        try:
            bundle = self.versions.current()
            version = version_of(bundle.manifest)
        except OclEdgeError as error:
            self.note(str(error))
            return messages.refusal(0, error)
        try:
            check_protocol(asked, SERVER, VEHICLE)
            border = Border(bundle, trained_head(bundle))
            self._check_server(border, asked)
            kind = field(asked, "kind", str)
            if kind == CONTRIBUTE:
                packed = border.pack(contribution_of(border, self.state, self.journal))
                self.note(f"sent what was learned: {packed.bytes:,} bytes")
                return messages.answer(version, facts=packed.facts, tensors=packed.tensors)
            if kind == TAKE:
                return messages.answer(self._take(asked))
            raise FleetError(f"the server asks for {kind!r}, which this vehicle does not know")
        except OclEdgeError as error:
            self.note(str(error))
            return messages.refusal(version, error)

    def _check_server(self, border: Border, asked: Fields) -> None:
        network, version = field(asked, "network", str), field(asked, "version", int)
        if network != border.network:
            raise FleetError(
                f"this vehicle runs the bundle {border.network[:16]}, the server's fleet has {network[:16]}"
            )
        if version < border.version:
            raise FleetError(
                f"the server has version {version} of the fleet, this vehicle runs {border.version}: the "
                "server was set back"
            )

    def _take(self, asked: Fields) -> int:
        release = Release(*(field(asked, name, bytes) for name in ("manifest", "tensors", "signature")))
        bundle = self.versions.add(release)
        version = version_of(bundle.manifest)
        if self.frames is not None:
            channels = bundle.manifest.input.frame_channels
            check_heads(bundle, recorded_frames(self.frames, channels), self.computes)
        self.versions.take(version)
        self.note(f"took version {version} of the fleet: the next start of a run has it")
        return version
