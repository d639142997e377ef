"""A bundle of several outputs: one backbone, and for each output a head, an adaptation and masks.

Its manifest holds what all outputs share once, as in any bundle, and under ``outputs`` by name what is each
one's own (`OWN`). Put together they are the manifest of a bundle with one output, whose head reads some of
the backbone's features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from ocl_edge.bundle.manifest import MANIFEST, SCHEMA_OF_SEVERAL, Manifest, read_manifest
from ocl_edge.bundle.manifest_parts import PlainName
from ocl_edge.errors import BundleError
from ocl_edge.given_files import parse_json
from ocl_edge.plain_text import first_problem

OWN = (
    "head_module",
    "head_parameters",
    "head_inputs",
    "classes",
    "logits",
    "align_corners",
    "output",
    "head_graphs",
    "no_head_graphs",
    "parity",
    "adaptation",
    "home",
)
"""Fields that each output has for itself."""

_NAMED = TypeAdapter(
    Annotated[dict[PlainName, dict[str, Any]], Field(min_length=1, max_length=100)],
)


class OutputManifest(Manifest):
    """Of one output among several.

    Attributes:
        head_inputs: which of ``features`` the head reads, in its order.
        norm_places: of each norm on its way to an output, 0 the first and 1 the last: norms of two decoders
            stand side by side, as they do where each output has a bundle.
    """

    head_inputs: tuple[Annotated[int, Field(ge=0, lt=50)], ...] = Field(min_length=1, max_length=50)
    norm_places: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(max_length=10_000)

    @model_validator(mode="after")
    def _fits(self) -> OutputManifest:
        if max(self.head_inputs) >= len(self.features) or len(set(self.head_inputs)) < len(self.head_inputs):
            raise ValueError(f"head_inputs: expected different ones of {len(self.features)} features")
        if len(self.norm_places) != len(self.norms):
            raise ValueError(f"norm_places: expected {len(self.norms)}, got {len(self.norm_places)}")
        return self

    @property
    def read_by_head(self) -> tuple[int, ...]:
        return self.head_inputs

    @property
    def places_of_norms(self) -> tuple[float, ...] | None:
        return self.norm_places


def part_file(name: str, output: str) -> str:
    """``head.json`` of an output: ``head.NAME.json``; as it is where there is one."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{output}.{suffix}" if output else name


def read_manifests(raw: bytes, path: Path) -> dict[str, Manifest]:
    """Validate the text of a manifest: of each output by its name, which is empty where there is one.

    Raises:
        BundleError: as `read_manifest`.
    """
    try:
        fields = parse_json(raw)
    except ValueError:
        return {"": read_manifest(raw, path)}  # which says what is wrong
    if not isinstance(fields, dict) or fields.get("schema_version") != SCHEMA_OF_SEVERAL:
        return {"": read_manifest(raw, path)}
    try:
        outputs = _NAMED.validate_python(fields.pop("outputs", None), strict=True)
        for name, own in outputs.items():
            if set(own) - set(OWN) or set(fields) & set(OWN):
                raise ValueError(f"outputs.{name}: expected of {', '.join(OWN)}, each here and not above")
        return {
            name: OutputManifest.model_validate_json(json.dumps({**fields, **own}), strict=True)
            for name, own in outputs.items()
        }
    except ValidationError as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {first_problem(error)}") from error
    except ValueError as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {error}") from error


def text_of(manifests: Mapping[str, Manifest]) -> str:
    """The JSON of a manifest; several outputs have all fields in common that are not their own."""
    first = next(iter(manifests.values()))
    if "" in manifests:
        return first.model_dump_json(indent=1) + "\n"
    dumped = {name: manifest.model_dump(mode="json") for name, manifest in manifests.items()}
    shared = {field: value for field, value in dumped[next(iter(dumped))].items() if field not in OWN}
    outputs = {name: {field: each[field] for field in OWN} for name, each in dumped.items()}
    return json.dumps({**shared, "schema_version": SCHEMA_OF_SEVERAL, "outputs": outputs}, indent=1) + "\n"
