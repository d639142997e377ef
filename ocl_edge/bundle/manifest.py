"""The bundle: the directory that export writes and every other verb reads.

    manifest.json            what this file declares; sha256 of every other file
    backbone.FORM.onnx       plain, modulated, measured
    backbone.weights         the tensors that the three share
    backbone.pt2             the plain backbone as a torch.export program (torch backend)
    head.pt2, tail.pt2       the head; the tail where it is more than a bilinear resize
    head.safetensors         source weights of the head
    head.onnx, head_step.onnx  a convolutional head and its OCL step, weights as inputs
    norms.safetensors        source mean, var, weight, bias, eps of every norm, packed
    engines/                 compiled later, on the device; not hashed here

A bundle is complete or absent: it is written beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ocl_edge.errors import BundleError, UsageError
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.preprocess import InputSpec

SCHEMA_VERSION = 3
"""Version 1 had no head graphs."""

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


class OutputSpec(_Strict):
    """Which output of the network the bundle gives, and what its numbers are.

    Attributes:
        name: keys and positions on the way to it, with dots between; empty where there is one.
        others: outputs that were not taken, name -> shape for one image.
        values: what the network gives; the loss always gets logits.
        threshold: where the network has one channel: the probability from which a pixel is
            foreground, class 1. None: the strongest class wins.
    """

    name: str = ""
    others: dict[str, tuple[int, ...]] = {}
    values: Literal["logits", "probabilities", "log-probabilities"] = "logits"
    threshold: float | None = Field(None, gt=0, lt=1)


class Manifest(_Strict):
    """Everything that is known about a bundle without opening its other files.

    ``no_head_graphs`` is the reason where ``head_graphs`` is None. ``unfit_backends`` compute
    otherwise than the network, as export found: name -> how; `auto` passes them over.
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
    output: OutputSpec = OutputSpec()
    opset: int
    stat_rows: int = Field(ge=1)
    norms: tuple[NormSpec, ...]
    forms: dict[str, FormSpec]
    head_graphs: HeadGraphs | None = None
    no_head_graphs: str | None = None
    parity: dict[str, Any]
    unfit_backends: dict[str, str] = {}
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


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its directory.
        manifest: the validated manifest.
        identity: sha256 of manifest.json; it covers every file through their hashes.
    """

    path: Path
    manifest: Manifest
    identity: str

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> Bundle:
        """Read a bundle and verify the hash of every file.

        Raises:
            BundleError: missing, incomplete, changed (the file is named), or of a newer schema.
        """
        path = Path(path)
        try:
            raw = (path / MANIFEST).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{path} is not a bundle: {MANIFEST} cannot be read ({error.strerror}); "
                f"make one with: ocl-edge export CHECKPOINT --out {path}"
            ) from error
        bundle = cls(path, read_manifest(raw, path), hashlib.sha256(raw).hexdigest())
        if verify:
            bundle.verify()
        return bundle

    def verify(self) -> None:
        """Compare size and sha256 of every file with the manifest.

        Raises:
            BundleError: naming the first file that is missing or changed.
        """
        for name, spec in self.manifest.files.items():
            file = self.path / name
            if not file.is_file():
                raise BundleError(f"{self.path}: {name} is missing; export the bundle again")
            if file.stat().st_size != spec.bytes or file_sha256(file) != spec.sha256:
                raise BundleError(
                    f"{self.path}: {name} was changed after export (its sha256 is not the manifest's); "
                    "export the bundle again"
                )

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            BundleError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.path} holds no {name}; it lists: {', '.join(sorted(self.manifest.files))}"
            )
        return self.path / name

    def require_head_graphs(self) -> HeadGraphs:
        """The head graphs.

        Raises:
            BundleError: there are none; with the reason and what to do.
        """
        if self.manifest.head_graphs is None:
            raise BundleError(
                f"{self.path} has no head graphs ({self.manifest.no_head_graphs}); --head torch needs none"
            )
        return self.manifest.head_graphs


def read_manifest(raw: bytes, path: Path) -> Manifest:
    """Validate the text of a manifest.

    Raises:
        BundleError: no JSON, a newer schema, or a field that is missing or wrong.
    """
    import json

    try:
        fields = json.loads(raw)
        version = fields["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {error}") from error
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has bundle schema {version}, this ocl-edge reads {SCHEMA_VERSION}: "
            + ("upgrade ocl-edge" if version > SCHEMA_VERSION else "export the bundle again")
        )
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path / MANIFEST} is damaged: {where}: {first['msg']}") from error


@contextlib.contextmanager
def new_bundle_directory(out: Path, force: bool) -> Iterator[Path]:
    """A directory beside ``out`` that becomes ``out`` if the block succeeds and vanishes if it does not.

    Raises:
        UsageError: ``out`` exists and ``force`` is not set, or is not a bundle.
        BundleError: it cannot be written (permission, full disk).
    """
    if out.exists():
        if not force:
            raise UsageError(f"{out} exists; choose another --out, or replace it with --force")
        if not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
            raise UsageError(f"{out} exists and is not a bundle; --force replaces only bundles")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    except OSError as error:
        raise BundleError(f"cannot write beside {out}: {error.strerror}") from error
    try:
        staging.chmod(0o755)
        yield staging
        _put_in_place(staging, out)
    except OSError as error:
        raise BundleError(f"cannot write {out}: {error.strerror or error}; nothing was left there") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Hash every file of the directory into the manifest and write it, all durably."""
    files = {}
    for file in sorted(directory.iterdir()):
        if file.name != MANIFEST:
            files[file.name] = FileSpec(sha256=file_sha256(file), bytes=file.stat().st_size)
            flush_to_disk(file)
    complete = manifest.model_copy(update={"files": files})
    (directory / MANIFEST).write_text(complete.model_dump_json(indent=1) + "\n", encoding="utf-8")
    flush_to_disk(directory / MANIFEST)
    flush_to_disk(directory)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _put_in_place(staging: Path, out: Path) -> None:
    if out.exists():
        retired = staging.with_name(f"{staging.name}.old")
        out.rename(retired)
        try:
            staging.rename(out)
        except OSError:
            retired.rename(out)
            raise
        shutil.rmtree(retired)
    else:
        staging.rename(out)
    flush_to_disk(out.absolute().parent)


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
