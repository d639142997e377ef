"""What a vehicle sends: head, running norm statistics, a summary of its journal. Nothing else.

It travels as two fields: ``facts``, a small JSON object, and ``tensors``, the bytes of a safetensors file
that holds ``statistics`` float32 [2, S] and ``head.NAME`` float32 for each weight of the head. Both sides
check names, shapes, dtypes, values and size; the vehicle before it sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ocl_edge.bundle.fleet import HEAD, STATISTICS, checked, version_of
from ocl_edge.bundle.manifest import Manifest
from ocl_edge.bundle.manifest_parts import Sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FleetError
from ocl_edge.given_files import parse_json
from ocl_edge.method.fleet_heads import FleetHead
from ocl_edge.plain_text import first_problem
from ocl_edge.tensor_files import parse_tensors, serialise_tensors
from ocl_edge.tensors import Tensor

PROTOCOL = 1
"""Of the messages between vehicles and server."""

MOST_FACTS_BYTES = 2048
HEADER_BYTES = 256
"""Of a safetensors file, at most so much for each tensor beside its content."""

Count = Annotated[int, Field(ge=0, le=1 << 53)]


class Summary(BaseModel):
    """What the journal says, in numbers.

    Attributes:
        frames: that were segmented.
        updates: that were kept.
        undone: that the guard undid.
        opening: mean over the frames.
        distance: mean over the frames that had one; None where none had.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    frames: Count = 0
    updates: Count = 0
    undone: Count = 0
    opening: float = Field(0.0, ge=0, le=1)
    distance: float | None = Field(None, ge=0, le=1e6)


class Facts(BaseModel):
    """The JSON object beside the tensors.

    Attributes:
        network: identity of the bundle that the vehicle's fleet began with.
        version: of the fleet, that the vehicle runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    network: Sha256
    version: Count
    summary: Summary


@dataclass(frozen=True)
class Contribution:
    """What one vehicle has learned, checked."""

    facts: Facts
    learned: FleetHead


@dataclass(frozen=True)
class Packed:
    """A contribution as it travels."""

    facts: str
    tensors: bytes

    @property
    def bytes(self) -> int:
        return len(self.facts.encode()) + len(self.tensors)


def tensors_of(learned: FleetHead) -> dict[str, Tensor]:
    """Everything that is sent of what was learned, by the names that it travels under."""
    weights = {f"{HEAD}.{name}": weight.contiguous() for name, weight in learned.weights.items()}
    return {STATISTICS: learned.statistics.contiguous(), **weights}


class Border:
    """What passes between the vehicles and the server of one network.

    Args:
        bundle: of any version.
        trained: the head as training left it, by name.
    """

    def __init__(self, bundle: Bundle, trained: Mapping[str, Tensor]) -> None:
        self.manifest: Manifest = bundle.manifest
        self.trained = trained
        self.network = bundle.network
        self.version = version_of(bundle.manifest)
        numbers = 2 * bundle.manifest.norm_channels + sum(weight.numel() for weight in trained.values())
        self.most_bytes = 4 * numbers + HEADER_BYTES * (2 + len(trained))

    def pack(self, contribution: Contribution) -> Packed:
        """A contribution as bytes; nothing leaves that `unpack` would not take.

        Raises:
            FleetError: it is no contribution of this network.
        """
        content = serialise_tensors(tensors_of(contribution.learned), {})
        packed = Packed(contribution.facts.model_dump_json(), content)
        self.unpack(packed)
        return packed

    def unpack(self, packed: Packed) -> Contribution:
        """Read and check what came.

        Raises:
            FleetError: too large, damaged, of another network, or other tensors than the two kinds.
        """
        facts = self.read_facts(packed.facts)
        if len(packed.tensors) > self.most_bytes:
            raise FleetError(
                f"{len(packed.tensors):,} bytes of tensors came, expected at most {self.most_bytes:,}"
            )
        try:
            tensors = parse_tensors(packed.tensors)
            statistics = tensors.pop(STATISTICS, None)
            foreign = [name for name in tensors if not name.startswith(f"{HEAD}.")]
            if foreign:
                raise ValueError(f"{sorted(foreign)[0]} is no part of a contribution")
            weights = {name.removeprefix(f"{HEAD}."): tensor for name, tensor in tensors.items()}
            return Contribution(facts, checked(weights, statistics, self.trained, self.manifest))
        except ValueError as error:
            raise FleetError(f"a contribution is damaged or of another form: {error}") from error

    def read_facts(self, text: str) -> Facts:
        """The facts of a contribution to this network.

        Raises:
            FleetError: they are none, or of another network, or of a newer version than the server's.
        """
        if len(text) > MOST_FACTS_BYTES:
            raise FleetError(f"{len(text):,} letters of facts came, expected at most {MOST_FACTS_BYTES:,}")
        try:
            facts = Facts.model_validate(parse_json(text.encode()))
        except ValidationError as error:
            raise FleetError(f"the facts of a contribution are wrong: {first_problem(error)}") from error
        except ValueError as error:
            raise FleetError(f"the facts of a contribution are no JSON: {error}") from error
        if facts.network != self.network:
            raise FleetError(
                f"a vehicle runs another network: {facts.network[:16]}, this fleet has {self.network[:16]}"
            )
        return facts
