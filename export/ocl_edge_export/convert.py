"""A bundle of schema 3, whose programs are torch.export archives -> the same network as a bundle of today.

Reading such an archive with PyTorch can run what it holds: unpickled objects, and symbolic
sizes that are evaluated as text. So this is for bundles that one exported oneself, on the
desk. No runtime imports this module.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import torch
from pydantic import TypeAdapter, ValidationError
from torch import fx

from ocl_edge import __version__
from ocl_edge.bundle.links import check_link
from ocl_edge.bundle.manifest import (
    CONVERTED_FROM,
    MANIFEST,
    MOST_MANIFEST_BYTES,
    SCHEMA_VERSION,
    Manifest,
    file_sha256,
)
from ocl_edge.bundle.manifest_parts import FileSpec, PlainName
from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.writing import new_bundle_directory, write_manifest
from ocl_edge.errors import BundleError, UsageError
from ocl_edge.given_files import read_json, reason_of
from ocl_edge.network.form_names import FORMS
from ocl_edge.plain_text import first_problem
from ocl_edge_export.capture import quiet_exporter
from ocl_edge_export.functional import as_plain_graph
from ocl_edge_export.onnx_forms import form_file, write_forms
from ocl_edge_export.outside_weights import load_graph
from ocl_edge_export.programs import check_programs, write_programs
from ocl_edge_export.sample_images import noise_images
from ocl_edge_export.split import SplitNetwork

KEPT = ("norms.safetensors", "head.onnx", "head_step.onnx")


def convert_bundle(old: Path, out: Path, force: bool = False, trust_pickle: bool = False) -> Bundle:
    """Rewrite a bundle of schema 3; weights, forms, gate report and defaults stay what they are.

    Args:
        old: directory of the bundle to read.
        out: directory of the new one. Its identity is another, so that engines are built
            again and states start anew.
        force: replace an existing bundle.
        trust_pickle: the user says that the old bundle is their own.

    Raises:
        UsageError: not ``trust_pickle``; ``out`` exists.
        BundleError: ``old`` is damaged, of another schema, or cannot be loaded by this PyTorch.
        ParityError: a converted program computes something else.
    """
    if not trust_pickle:
        raise UsageError(
            f"{old} holds torch.export archives, and loading one can run code that it holds: if you exported "
            f"it yourself, say so with --trust-pickle; else export the checkpoint again"
        )
    fields = _old_manifest(old)
    manifest = _new_manifest(old, fields)
    _check_files(old, fields)
    with new_bundle_directory(out, force) as directory:
        split = _split(old, manifest, "tail.pt2" in fields["files"])
        forms = {form: _form(old / form_file(form)) for form in FORMS}
        write_forms(forms, write_programs({"": split}, directory), directory)
        for name in KEPT:
            if name in fields["files"]:
                shutil.copyfile(old / name, directory / name)
        images = noise_images(manifest.input, count=1)
        with torch.no_grad():
            features = split.backbone(images)
        check_programs(split, directory, images, features)
        write_manifest(directory, {"": manifest})
    return Bundle.open(out)


def _old_manifest(old: Path) -> dict[str, Any]:
    try:
        fields = read_json(old / MANIFEST, MOST_MANIFEST_BYTES)
        version, files = fields["schema_version"], fields["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{old} is no complete bundle: {error}") from error
    if version != CONVERTED_FROM:
        way_out = "it needs no conversion" if version == SCHEMA_VERSION else "export the checkpoint again"
        raise BundleError(f"{old} has bundle schema {version!r}, convert reads {CONVERTED_FROM}: {way_out}")
    if not isinstance(files, dict):
        raise BundleError(
            f"{old / MANIFEST} is damaged: files is a {type(files).__name__}, expected an object"
        )
    return dict(fields)


def _check_files(old: Path, fields: dict[str, Any]) -> None:
    """Every file that the manifest lists lies in the bundle and is what was exported.

    Raises:
        BundleError: one does not; none outside of the bundle is read.
    """
    try:
        specs = TypeAdapter(dict[PlainName, FileSpec]).validate_python(fields["files"])
    except ValidationError as error:
        raise BundleError(f"{old / MANIFEST} is damaged: files: {first_problem(error)}") from error
    missing = {"backbone.pt2", "head.pt2", *map(form_file, FORMS)} - specs.keys()
    if missing:
        raise BundleError(f"{old} is no complete bundle: its manifest lists no {', '.join(sorted(missing))}")
    for name, spec in specs.items():
        try:
            check_link(old, name)
            unchanged = file_sha256(old / name) == spec.sha256
        except OSError as error:
            raise BundleError(f"{old}: {name} cannot be read: {reason_of(error)}") from error
        if not unchanged:
            raise BundleError(f"{old}: {name} was changed after export; export the checkpoint again")


def _new_manifest(old: Path, fields: dict[str, Any]) -> Manifest:
    created = {**fields["created_with"], "converted by ocl-edge": __version__}
    kept = {name: value for name, value in fields.items() if name != "files"}
    try:
        return Manifest.model_validate_json(
            json.dumps({**kept, "schema_version": SCHEMA_VERSION, "created_with": created})
        )
    except ValidationError as error:
        raise BundleError(f"{old / MANIFEST} is damaged: {first_problem(error)}") from error


def _split(old: Path, manifest: Manifest, with_tail: bool) -> SplitNetwork:
    return SplitNetwork(
        backbone=_archive(old / "backbone.pt2"),
        head=_archive(old / "head.pt2"),
        tail=_archive(old / "tail.pt2") if with_tail else None,
        align_corners=manifest.align_corners,
        module=manifest.head_module,
        features=[list(shape) for shape in manifest.features],
        logits=list(manifest.logits),
    )


def _archive(path: Path) -> fx.GraphModule:
    try:
        with quiet_exporter():
            module = torch.export.load(path).module()
    except Exception as error:
        raise BundleError(f"{path.name} cannot be loaded by PyTorch {torch.__version__}: {error}") from error
    assert isinstance(module, fx.GraphModule)
    return as_plain_graph(module)


def _form(path: Path) -> onnx.ModelProto:
    try:
        return load_graph(path)
    except Exception as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error
