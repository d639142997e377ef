"""The bundle: the directory that export writes and every other verb reads.

manifest.json            what this file declares; sha256 of every other file
backbone.FORM.onnx       plain, modulated, measured
backbone.json            the plain backbone as a program that PyTorch runs and trains
head.json, tail.json     programs: the head; the tail where it is more than a bilinear resize
weights.safetensors      every tensor of the forms and the programs, once
head.onnx, head_step.onnx  a convolutional head and its OCL step, weights as inputs
norms.safetensors        trained mean, var, weight, bias, eps of every norm, packed
home.HASH.safetensors    of a bundle that was calibrated: weights, mean, deviation of every channel
fleet.HASH.safetensors   of a fleet's bundle: heads, and the norm statistics of the frames that they are for
engines/                 compiled later, on the device; not hashed here
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from ocl_edge.bundle.manifest_parts import (
    ClassSpec,
    Distance,
    FileSpec,
    FleetSpec,
    FormSpec,
    HeadGraphs,
    HomeSpec,
    NormSpec,
    OutputSpec,
    Parity,
    PlainName,
    Sha256,
    Size,
    Strict,
    Text,
)
from ocl_edge.errors import BundleError
from ocl_edge.given_files import open_given, parse_json
from ocl_edge.masks import MOST_CLASSES
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.form_names import FORMS
from ocl_edge.network.form_tensors import WEIGHTS
from ocl_edge.network.preprocess import InputSpec, Side, check_area
from ocl_edge.plain_text import first_problem

SCHEMA_VERSION = 4
"""Version 1 had no head graphs; up to 3 the programs were torch.export archives."""

SCHEMA_OF_SEVERAL = 5
"""Of a bundle of several outputs (`ocl_edge.bundle.outputs`), refused by earlier versions."""

CONVERTED_FROM = 3
"""What ``ocl-edge convert`` reads."""

MANIFEST = "manifest.json"
ENGINES = "engines"
MOST_MANIFEST_BYTES = 16 << 20


class Manifest(Strict):
    """Everything that is known about a bundle without opening its other files.

    ``no_head_graphs`` is the reason where ``head_graphs`` is None. ``unfit_backends`` compute
    otherwise than the network, as export found: name -> how; `auto` passes them over.
    ``checkpoint_notes`` say what was unwrapped or left out. ``noise_distance`` is how far from the
    trained statistics pure noise is, with norms unmixed and wide open; None in older bundles.
    ``discs_distance`` is that of pictures of discs, unmixed; None in bundles that were exported before.
    ``noise_away`` is of these, and is not kept.
    """

    schema_version: int = SCHEMA_VERSION
    created_with: dict[Text, Text] = Field(max_length=100)
    architecture: Text
    checkpoint: Text
    checkpoint_sha256: Sha256
    checkpoint_notes: tuple[Text, ...] = Field((), max_length=100)
    head_module: Text
    head_parameters: int = Field(gt=0, le=1 << 40)
    input: InputSpec
    classes: tuple[ClassSpec, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    features: tuple[Annotated[tuple[Size, ...], Field(min_length=1, max_length=7)], ...] = Field(
        min_length=1, max_length=50
    )
    logits: tuple[Size, Side, Side]
    align_corners: bool
    output: OutputSpec = OutputSpec()
    opset: int = Field(ge=1, le=100)
    stat_rows: int = Field(ge=1, le=1 << 20)
    norms: tuple[NormSpec, ...] = Field(max_length=10_000)
    noise_distance: tuple[Distance, Distance] | None = None
    noise_away: bool | None = Field(None, exclude=True)
    discs_distance: Distance | None = None
    forms: dict[str, FormSpec]
    head_graphs: HeadGraphs | None = None
    no_head_graphs: Text | None = None
    parity: dict[str, Any]
    home: HomeSpec | None = None
    fleet: FleetSpec | None = None
    unfit_backends: dict[Text, Text] = Field({}, max_length=100)
    adaptation: AdaptationDefaults = AdaptationDefaults()
    files: dict[PlainName, FileSpec] = Field({}, max_length=1000)

    @field_validator("parity")
    @classmethod
    def _parity_can_be_shown(cls, value: dict[str, Any]) -> dict[str, Any]:
        Parity.model_validate(value, strict=True)
        return value

    @field_validator("classes")
    @classmethod
    def _names_differ(cls, value: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
        names = [each.name for each in value]
        if len(set(names)) != len(names):
            raise ValueError("two classes have one name")
        return value

    @field_validator("logits")
    @classmethod
    def _logits_fit_into_memory(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        check_area(value[1], value[2])
        return value

    @field_validator("files")
    @classmethod
    def _is_not_listed_itself(cls, value: dict[str, FileSpec]) -> dict[str, FileSpec]:
        if MANIFEST in value or ENGINES in value:
            raise ValueError(f"{MANIFEST} and {ENGINES} are no files of a bundle")
        return value

    @model_validator(mode="after")
    def _home_is_listed(self) -> Manifest:
        if self.home is not None and self.home.file not in self.files:
            raise ValueError(f"home is in {self.home.file}, which is not among the files")
        return self

    @model_validator(mode="after")
    def _fleet_is_listed(self) -> Manifest:
        if self.fleet is not None and self.fleet.file not in self.files:
            raise ValueError(f"fleet is in {self.fleet.file}, which is not among the files")
        return self

    @model_validator(mode="after")
    def _forms_fit(self) -> Manifest:
        if set(self.forms) != set(FORMS):
            raise ValueError(f"forms: expected {', '.join(FORMS)}, got {', '.join(self.forms) or 'none'}")
        expected = self._shapes()
        for name, form in self.forms.items():
            for tensor in (*form.inputs, *form.outputs):
                if tensor.shape != expected.get(tensor.name):
                    raise ValueError(
                        f"forms.{name}: {tensor.name} has the shape {list(tensor.shape)}, "
                        f"expected {list(expected.get(tensor.name, ['no such tensor']))}"
                    )
        return self

    @model_validator(mode="after")
    def _graphs_are_listed(self) -> Manifest:
        for name, graph in self.graphs.items():
            if self.files and graph.file not in self.files:
                raise ValueError(f"{name} is in {graph.file}, which is not among the files")
        return self

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
    def read_by_head(self) -> tuple[int, ...]:
        """Which of the features the head reads, in its order: all, unless other outputs have heads."""
        return tuple(range(len(self.features)))

    @property
    def places_of_norms(self) -> tuple[float, ...] | None:
        """See `ocl_edge.method.norms.prior_of_channels`."""
        return None

    @property
    def head_features(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each of them for one image."""
        return tuple(self.features[index] for index in self.read_by_head)

    @property
    def head_channels(self) -> int:
        """Of all inputs of the head: images [F, h, w], or tokens [T, F]."""
        return sum(shape[0] if len(shape) == 3 else shape[-1] for shape in self.head_features)

    @property
    def weight_rows(self) -> int:
        """Of ``anchor_weight``: one in a bundle that was converted, whose form has one weight for all."""
        shapes = [t.shape for t in self.forms["measured"].inputs if t.name == "anchor_weight"]
        return 1 if shapes and shapes[0][:1] == (1,) else WEIGHTS

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor that a form may have."""
        packed = (2, self.norm_channels)
        return {
            "image": (-1, self.input.channels, self.input.height, self.input.width),
            "norm_vectors": packed,
            "anchor_statistics": packed,
            "anchor_weight": (self.weight_rows, self.norm_channels),
            "statistics": packed,
            **{f"features_{index}": (-1, *shape) for index, shape in enumerate(self.features)},
        }

    @property
    def sensing_norms(self) -> list[int]:
        """Indices of the norms that tell how far from home a frame is.

        The first one in the order of execution is one of them, whether the bundle says so or not.
        """
        said = [index for index, norm in enumerate(self.norms) if norm.sensing]
        first = [0] if self.norms and self.norms[0].sensing is None and not self.norms[0].pinned else []
        return said or first

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
        fields = parse_json(raw)
    except ValueError as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {error}") from error
    if not isinstance(fields, dict) or type(fields.get("schema_version")) is not int:
        raise BundleError(f"{path / MANIFEST} is damaged: expected an object with a whole schema_version")
    version = fields["schema_version"]
    if version != SCHEMA_VERSION:
        raise BundleError(f"{path} has bundle schema {version}, {_way_out(version, path)}")
    try:
        return Manifest.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {first_problem(error)}") from error


def _way_out(version: object, path: Path) -> str:
    reads = f"this ocl-edge reads {SCHEMA_VERSION} and, of several outputs, {SCHEMA_OF_SEVERAL}: "
    if version == CONVERTED_FROM:
        return reads + f"ocl-edge convert {path} NEW --trust-pickle (where it was exported)"
    newer = not isinstance(version, int) or version > SCHEMA_OF_SEVERAL
    return reads + ("upgrade ocl-edge" if newer else "export the bundle again")


def file_sha256(path: Path) -> str:
    """Hash of a file.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open_given(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
