"""The bundle: the directory that export writes and every other verb reads.

manifest.json            what this file declares; sha256 of every other file
backbone.FORM.onnx       plain, modulated, measured
backbone.json            the plain backbone as a program that PyTorch runs and trains
head.json, tail.json     programs: the head; the tail where it is more than a bilinear resize
weights.safetensors      every tensor of the forms and the programs, once
head.onnx, head_step.onnx  a convolutional head and its OCL step, weights as inputs
norms.safetensors        source mean, var, weight, bias, eps of every norm, packed
engines/                 compiled later, on the device; not hashed here
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ocl_edge.errors import BundleError
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.preprocess import InputSpec

SCHEMA_VERSION = 4
"""Version 1 had no head graphs; up to 3 the programs were torch.export archives."""

CONVERTED_FROM = 3
"""What ``ocl-edge convert`` reads."""

MANIFEST = "manifest.json"
ENGINES = "engines"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Strict):
    """Name, dtype and shape of a graph's input or output; -1 is a free size (the batch; see docs)."""

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...]


class FormSpec(_Strict):
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class HeadGraphs(_Strict):
    """The head as graphs whose weights are inputs: what ``--head engine`` runs.

    Attributes:
        parameters: ``weight`` and ``bias`` of the graphs -> names in the head.
        graphs: ``head`` (forward) and ``head_step`` (one OCL step).
    """

    parameters: dict[str, str]
    graphs: dict[str, FormSpec]


class NormSpec(_Strict):
    name: str
    channels: int = Field(gt=0)
    pinned: bool = False


class ClassSpec(_Strict):
    name: str
    colour: tuple[int, int, int]


class FileSpec(_Strict):
    sha256: str
    bytes: int


class Manifest(_Strict):
    """Everything that is known about a bundle without opening its other files.

    ``no_head_graphs`` is the reason where ``head_graphs`` is None.
    """

    schema_version: int = SCHEMA_VERSION
    created_with: dict[str, str]
    architecture: str
    checkpoint: str
    checkpoint_sha256: str
    head_module: str
    head_parameters: int = Field(gt=0)
    input: InputSpec
    classes: tuple[ClassSpec, ...]
    features: tuple[tuple[int, ...], ...]
    logits: tuple[int, int, int]
    align_corners: bool
    opset: int
    stat_rows: int = Field(ge=1)
    norms: tuple[NormSpec, ...]
    forms: dict[str, FormSpec]
    head_graphs: HeadGraphs | None = None
    no_head_graphs: str | None = None
    parity: dict[str, Any]
    adaptation: AdaptationDefaults = AdaptationDefaults()
    files: dict[str, FileSpec] = {}

    @model_validator(mode="after")
    def _classes_match_logits(self) -> Manifest:
        if len(self.classes) != self.logits[0]:
            raise ValueError(
                f"{len(self.classes)} classes are named, the logits have {self.logits[0]} channels"
            )
        return self

    @model_validator(mode="after")
    def _head_graphs_or_a_reason(self) -> Manifest:
        if (self.head_graphs is None) == (self.no_head_graphs is None):
            raise ValueError("exactly one of head_graphs and no_head_graphs must be given")
        return self

    @property
    def norm_channels(self) -> int:
        return sum(norm.channels for norm in self.norms)

    @property
    def graphs(self) -> dict[str, FormSpec]:
        """Everything that an engine can be built from: the forms, and the head graphs where there are any."""
        return {**self.forms, **(self.head_graphs.graphs if self.head_graphs else {})}


def read_manifest(raw: bytes, path: Path) -> Manifest:
    """Validate the text of a manifest.

    Raises:
        BundleError: no JSON, a newer schema, or a field that is missing or wrong.
    """
    try:
        fields = json.loads(raw)
        version = fields["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {error}") from error
    if version != SCHEMA_VERSION:
        raise BundleError(f"{path} has bundle schema {version}, {_way_out(version, path)}")
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path / MANIFEST} is damaged: {where}: {first['msg']}") from error


def _way_out(version: object, path: Path) -> str:
    reads = f"this ocl-edge reads {SCHEMA_VERSION}: "
    if version == CONVERTED_FROM:
        return reads + f"ocl-edge convert {path} NEW --trust-pickle (where it was exported)"
    newer = not isinstance(version, int) or version > SCHEMA_VERSION
    return reads + ("upgrade ocl-edge" if newer else "export the bundle again")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
