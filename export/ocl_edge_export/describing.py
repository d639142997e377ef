"""What export writes into a manifest of the network itself."""

from __future__ import annotations

import platform
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import fx

from ocl_edge import __version__
from ocl_edge.bundle.manifest import Manifest, file_sha256
from ocl_edge.bundle.manifest_parts import ClassSpec, FormSpec, NormSpec, TensorSpec
from ocl_edge.bundle.outputs import OutputManifest
from ocl_edge.errors import UsageError
from ocl_edge.method.norms import Prior
from ocl_edge.network.batch_norms import list_norms
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge.network.form_tensors import input_shapes, output_shapes
from ocl_edge.network.forms import distinct_form
from ocl_edge.network.preprocess import InputSpec
from ocl_edge.network.zoo import Spec
from ocl_edge.plain_text import plain
from ocl_edge_export.checkpoint import Checkpoint, LoadedNetwork
from ocl_edge_export.classes import default_classes, name_classes, read_classes
from ocl_edge_export.onnx_forms import OPSET, form_file
from ocl_edge_export.reference_pictures import see_reference_pictures
from ocl_edge_export.sensing import which_norms_sense
from ocl_edge_export.split import SplitNetwork

LONGEST_NOTE = 1000
"""Characters of what a manifest says of a checkpoint, whose tensors may have names of any length."""

LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")


def classes_of(
    asked: Path | None, checkpoint: Checkpoint, loaded: LoadedNetwork, count: int, several: bool
) -> tuple[ClassSpec, ...]:
    """The classes of an output.

    Args:
        asked: file of them, if any.
        checkpoint: may name some.
        loaded: the network.
        count: of the classes.
        several: there are other outputs, which the names of the checkpoint may be of.

    Raises:
        UsageError: there are names for another number of classes.
    """
    if asked:
        return read_classes(asked, count)
    names = checkpoint.metadata.classes
    if names is None or (several and len(names) != count):
        return default_classes(count, cityscapes=loaded.spec.factory == "espnetv2")
    if len(names) != count:
        raise UsageError(
            f"the checkpoint names {len(names)} classes, the network has {count}: give --classes FILE"
        )
    return name_classes(names, checkpoint.metadata.palette)


def about_backbone(
    checkpoint: Path, spec: Spec, split: SplitNetwork, frame: InputSpec, stat_rows: int, prior: Prior
) -> dict[str, Any]:
    """Manifest fields that all outputs share."""
    senses = which_norms_sense(split.backbone)
    distances = see_reference_pictures(split.backbone, frame, stat_rows, split.norm_places, prior)
    return {
        "created_with": {
            "ocl-edge": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
        "architecture": plain(str(spec), LONGEST_NOTE),
        "checkpoint": plain(checkpoint.name),
        "checkpoint_sha256": file_sha256(checkpoint),
        "input": frame,
        "features": tuple(tuple(shape) for shape in split.features),
        "opset": OPSET,
        "stat_rows": stat_rows,
        "norms": tuple(
            NormSpec(name=n.name, channels=n.channels, pinned=n.pinned, sensing=each)
            for n, each in zip(list_norms(split.backbone), senses, strict=True)
        ),
        "noise_distance": distances.noise,
        "discs_distance": distances.discs,
        "forms": {form: _form_spec(form, split.backbone, frame, split.features) for form in FORMS},
    }


def manifest_of(
    split: SplitNetwork, classes: tuple[ClassSpec, ...], fields: dict[str, Any], output: str
) -> Manifest:
    """The manifest of one output.

    Args:
        split: its parts.
        classes: its classes.
        fields: those that do not follow from these.
        output: its name, where there are several.
    """
    several = {"head_inputs": split.head_inputs, "norm_places": split.norm_places}
    kind = partial(OutputManifest, **several) if output else Manifest
    return kind(
        head_module=split.module,
        head_parameters=sum(p.numel() for p in split.head.parameters()),
        classes=classes,
        logits=(split.logits[0], split.logits[1], split.logits[2]),
        align_corners=split.align_corners,
        **fields,
    )


def _form_spec(
    form: FormName, backbone: fx.GraphModule, frame: InputSpec, features: list[list[int]]
) -> FormSpec:
    norms = list_norms(backbone)
    channels = sum(norm.channels for norm in norms)
    distinct = distinct_form(form, norms)
    inputs = input_shapes(distinct, (frame.channels, frame.height, frame.width), channels)
    outputs = output_shapes(distinct, features, channels)
    return FormSpec(
        file=form_file(form),
        inputs=tuple(TensorSpec(name=name, shape=shape) for name, shape in inputs.items()),
        outputs=tuple(TensorSpec(name=name, shape=shape) for name, shape in outputs.items()),
    )
