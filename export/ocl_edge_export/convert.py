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
from pydantic import ValidationError
from torch import fx

from ocl_edge import __version__
from ocl_edge.bundle.manifest import CONVERTED_FROM, MANIFEST, SCHEMA_VERSION, Manifest, file_sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.writing import new_bundle_directory, write_manifest
from ocl_edge.errors import BundleError, UsageError
from ocl_edge.network.form_names import FORMS
from ocl_edge_export.functional import as_plain_graph
from ocl_edge_export.onnx_forms import form_file, write_forms
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
    with new_bundle_directory(out, force) as directory:
        split = _split(old, fields)
        forms = {form: _form(old / form_file(form)) for form in FORMS}
        write_forms(forms, write_programs(split, directory), directory)
        for name in KEPT:
            if name in fields["files"]:
                shutil.copyfile(old / name, directory / name)
        manifest = _new_manifest(old, fields)
        check_programs(split, directory, noise_images(manifest.input))
        write_manifest(directory, manifest)
    return Bundle.open(out)


def _old_manifest(old: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads((old / MANIFEST).read_bytes())
        version, files = fields["schema_version"], dict(fields["files"])
        if version != CONVERTED_FROM:
            way_out = "it needs no conversion" if version == SCHEMA_VERSION else "export the checkpoint again"
            raise BundleError(f"{old} has bundle schema {version}, convert reads {CONVERTED_FROM}: {way_out}")
        changed = [name for name, spec in files.items() if file_sha256(old / name) != spec["sha256"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{old} is no complete bundle: {error}") from error
    if changed:
        raise BundleError(f"{old}: {changed[0]} was changed after export; export the checkpoint again")
    return fields


def _new_manifest(old: Path, fields: dict[str, Any]) -> Manifest:
    created = {**fields["created_with"], "converted by ocl-edge": __version__}
    kept = {name: value for name, value in fields.items() if name != "files"}
    try:
        return Manifest.model_validate_json(
            json.dumps({**kept, "schema_version": SCHEMA_VERSION, "created_with": created})
        )
    except ValidationError as error:
        raise BundleError(f"{old / MANIFEST} is damaged: {error.errors()[0]['msg']}") from error


def _split(old: Path, fields: dict[str, Any]) -> SplitNetwork:
    return SplitNetwork(
        backbone=_archive(old / "backbone.pt2"),
        head=_archive(old / "head.pt2"),
        tail=_archive(old / "tail.pt2") if "tail.pt2" in fields["files"] else None,
        align_corners=fields["align_corners"],
        module=fields["head_module"],
        features=fields["features"],
        logits=fields["logits"],
    )


def _archive(path: Path) -> fx.GraphModule:
    try:
        module = torch.export.load(path).module()
    except Exception as error:
        raise BundleError(f"{path.name} cannot be loaded by PyTorch {torch.__version__}: {error}") from error
    assert isinstance(module, fx.GraphModule)
    return as_plain_graph(module)


def _form(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error
