"""Checkpoint -> verified bundle: the whole of ``ocl-edge export``."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import save
from torch import fx

from ocl_edge import __version__
from ocl_edge.bundle.manifest import ClassSpec, FormSpec, Manifest, NormSpec, TensorSpec, file_sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.writing import new_bundle_directory, write_manifest
from ocl_edge.errors import CaptureError, CheckpointError, SplitError, UsageError
from ocl_edge.masks import MOST_CLASSES
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge.network.form_tensors import input_shapes, output_shapes
from ocl_edge.network.forms import distinct_form, list_norms, trained_tensors
from ocl_edge.network.preprocess import InputSpec
from ocl_edge.network.zoo import Spec
from ocl_edge.plain_text import plain
from ocl_edge_export.capture import refuse_old_pytorch
from ocl_edge_export.checkpoint import Checkpoint, LoadedNetwork, load_network
from ocl_edge_export.classes import default_classes, name_classes, read_classes
from ocl_edge_export.cuts import PossibleCut, nearest_cuts, possible_cuts
from ocl_edge_export.head_graphs import check_head_graphs, remove_head_graphs, write_head_graphs
from ocl_edge_export.learning_rate import scaled_rate, squared_gradient_norm
from ocl_edge_export.lowering import lower_adaptive_pooling
from ocl_edge_export.missing import ask_for_what_is_missing, read_or_ask
from ocl_edge_export.network_input import describe_input
from ocl_edge_export.noise import noise_distances
from ocl_edge_export.onnx_forms import OPSET, export_plain, form_file, write_forms
from ocl_edge_export.onnx_norms import measured_graph, modulated_graph
from ocl_edge_export.parity import Tolerances, check_parity
from ocl_edge_export.parity_cases import Features, features_of
from ocl_edge_export.programs import check_programs, write_programs
from ocl_edge_export.sample_images import choose_images, noise_images, read_image_as, read_images
from ocl_edge_export.sensing import which_norms_sense
from ocl_edge_export.split import SplitNetwork, split_network
from ocl_edge_export.taken_output import TakenOutput, take_output
from ocl_edge_export.virtual_norms import MOST_FRAMES, give_virtual_norms

LONGEST_NOTE = 1000
"""Characters of what a manifest says of a checkpoint, whose tensors may have names of any length."""

DEFAULT_STAT_ROWS = 8
LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportRequest:
    """What the user asks of an export; None means: from the checkpoint or the zoo.

    Attributes:
        checkpoint: file of the trained weights.
        out: directory of the bundle.
        arch: architecture spec, see `ocl_edge.network.zoo`.
        input_size: height and width of the network's input in pixels.
        classes: file of class names, see `read_classes`.
        split: module where the head starts, or ``auto``.
        calibration: directory of images for the parity gate.
        stat_rows: `measured` takes its statistics from every n-th row.
        mean: of each channel, in the network's order and scale.
        std: likewise.
        force: replace an existing bundle.
        trust_pickle: load pickled modules.
        output: name or position of the output that is taken, where there are several.
        threshold: of a network with one channel: probability from which a pixel is foreground.
        resize: ``stretch`` or ``letterbox``, as frames came to the network when it was trained.
        colour: ``rgb``, ``bgr``, or ``grey``; by default what the number of channels says.
        scale: what a white pixel becomes before mean and deviation, 1 or 255.
        weights_key: where in the checkpoint the weights lie; by default they are looked for.
    """

    checkpoint: Path
    out: Path
    arch: str | None = None
    input_size: tuple[int, int] | None = None
    classes: Path | None = None
    split: str = "auto"
    calibration: Path | None = None
    stat_rows: int = DEFAULT_STAT_ROWS
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    force: bool = False
    trust_pickle: bool = False
    output: str | None = None
    threshold: float = 0.5
    colour: str | None = None
    resize: str = "stretch"
    scale: int | None = None
    weights_key: str | None = None


def export_bundle(
    request: ExportRequest,
    progress: Callable[[str], None] = lambda _: None,
    tolerances: Tolerances | None = None,
) -> Bundle:
    """Export a checkpoint; the bundle appears complete and verified, or not at all.

    Args:
        request: what to export and how.
        progress: called with the name of each stage as it begins.
        tolerances: of the parity gate.

    Raises:
        UsageError: contradictory or missing arguments; ``out`` exists.
        CheckpointError: the checkpoint cannot be read or does not fit its architecture.
        CaptureError: the network cannot be captured, or not at this size; PyTorch is too old.
        SplitError: no clean cut at ``split``.
        ParityError: a form differs from the network.
        BundleError: the bundle cannot be written.
    """
    refuse_old_pytorch(torch.__version__)
    with new_bundle_directory(request.out, request.force) as directory:
        checkpoint, loaded, taken, frame = _taken(request, progress)
        spec = loaded.spec
        split = _split(taken, request)
        _remember_home(split, frame, request, progress)
        if split.logits[0] > MOST_CLASSES:
            raise CaptureError(
                f"the network has {split.logits[0]} classes; a mask has at most 16 bits, so {MOST_CLASSES} "
                "is the most"
            )
        classes = _classes(request, checkpoint, split.logits[0], spec)
        _write_graphs(split, frame, request.stat_rows, directory, progress)
        features = features_of(taken.references, split.backbone)
        parity = check_parity(
            taken.references,
            features,
            split,
            directory,
            request.stat_rows,
            tolerances,
            lambda c: progress(f"parity: {c}"),
        )
        parity["images_from"] = "calibration" if request.calibration else "noise"
        progress("parity: programs")
        head = check_programs(split, directory, taken.references[1].images, features[1])
        progress("write bundle")
        checked: dict[str, Any] = {
            "checkpoint_notes": [plain(note, LONGEST_NOTE) for note in loaded.notes],
            "output": taken.spec,
            "unfit_backends": {name: plain(why, LONGEST_NOTE) for name, why in parity.pop("unfit").items()},
        }
        checked["adaptation"] = _adaptation(split, [features[0], *features[2:]])
        checked |= _head_graphs(split, head, directory, features[1], parity, checked["adaptation"])
        write_manifest(directory, _manifest(request, spec, split, frame, classes, checked))
    return Bundle.open(request.out)


def _taken(
    request: ExportRequest, progress: Callable[[str], None]
) -> tuple[Checkpoint, LoadedNetwork, TakenOutput, InputSpec]:
    """The network with its weights, the output that is exported, and its input."""
    progress("read checkpoint")
    checkpoint = read_or_ask(
        request.checkpoint, request.trust_pickle, request.input_size, request.weights_key, request.arch
    )
    ask_for_what_is_missing(request.checkpoint, checkpoint, request.arch, request.input_size)
    loaded = load_network(checkpoint, request.arch)
    for note in loaded.notes:
        progress(f"checkpoint: {note}")
    frame = _input_of(request, checkpoint, loaded)
    images = read_images(request.calibration, frame) if request.calibration else noise_images(frame)
    progress("capture and split")
    taken = take_output(loaded.network, images, request.output, request.threshold)
    _require_weights(loaded, taken)
    return checkpoint, loaded, taken, frame


def _split(taken: TakenOutput, request: ExportRequest) -> SplitNetwork:
    try:
        return split_network(taken.captured, request.split, taken.values, request.threshold)
    except SplitError as error:
        nearest = nearest_cuts(taken.captured, request.split)
        hint = f"\nNearest cuts that can be made: {nearest}" if nearest else ""
        raise SplitError(f"{error}{hint}\nAll of them: --split list") from error


def _remember_home(
    split: SplitNetwork, frame: InputSpec, request: ExportRequest, progress: Callable[[str], None]
) -> None:
    """Give a network without norms of its own such as home frames fill."""
    if request.calibration is None:
        return
    files = choose_images(request.calibration, MOST_FRAMES)
    count = give_virtual_norms(split.backbone, [read_image_as(file, frame) for file in files])
    if count:
        progress(f"{count} norms that remember home, behind layers that remember nothing")


def list_cuts(request: ExportRequest, progress: Callable[[str], None] = lambda _: None) -> list[PossibleCut]:
    """Where the network of a request can be cut; nothing is written.

    Raises:
        As `export_bundle`, up to the capture.
    """
    _, _, taken, _ = _taken(request, progress)
    return possible_cuts(taken.captured)


def _input_of(request: ExportRequest, checkpoint: Checkpoint, loaded: LoadedNetwork) -> InputSpec:
    known, architecture = checkpoint.metadata, loaded.spec.architecture
    return describe_input(
        loaded.network,
        request.input_size or known.input_size or (architecture.input_size if architecture else None),
        request.mean or known.mean,
        request.std or known.std,
        request.colour,
        request.resize,
        request.scale or 1,
    )


def _require_weights(loaded: LoadedNetwork, taken: TakenOutput) -> None:
    """Raise where the output depends on weights that the checkpoint does not hold."""
    used = {str(n.target) for n in taken.captured.graph.nodes if n.op == "get_attr"} & loaded.unloaded
    if used:
        raise CheckpointError(
            f"the checkpoint holds none of these, and the output needs them: {', '.join(sorted(used)[:10])}"
        )


def _classes(request: ExportRequest, checkpoint: Checkpoint, count: int, spec: Spec) -> tuple[ClassSpec, ...]:
    if request.classes:
        return read_classes(request.classes, count)
    names = checkpoint.metadata.classes
    if names is None:
        return default_classes(count, cityscapes=spec.factory == "espnetv2")
    if len(names) != count:
        raise UsageError(
            f"the checkpoint names {len(names)} classes, the network has {count}: give --classes FILE"
        )
    return name_classes(names, checkpoint.metadata.palette)


def _write_graphs(
    split: SplitNetwork, frame: InputSpec, stat_rows: int, directory: Path, progress: Callable[[str], None]
) -> None:
    """The forms, the programs, and the one file that holds the tensors of both."""
    lowered = lower_adaptive_pooling(split.backbone)
    image = torch.zeros(2, frame.channels, frame.height, frame.width)
    progress("write forms")
    plain = export_plain(lowered, image, split.features)
    models: dict[FormName, onnx.ModelProto] = dict.fromkeys(FORMS, plain)
    if list_norms(lowered):
        models["modulated"] = modulated_graph(plain, lowered)
        models["measured"] = measured_graph(plain, lowered, stat_rows)
    write_forms(models, write_programs(split, directory), directory)
    # not save_file, which does not raise OSError where the disk is full
    (directory / "norms.safetensors").write_bytes(save(trained_tensors(split.backbone)))


def _head_graphs(
    split: SplitNetwork,
    head: fx.GraphModule,
    directory: Path,
    pair: Features,
    parity: dict[str, object],
    settings: AdaptationDefaults,
) -> dict[str, Any]:
    """Manifest fields: the head's graphs, written and checked, or why there are none; the parity report."""
    try:
        graphs = write_head_graphs(head, split.features[0], directory, settings)
        report = check_head_graphs(directory, graphs, head, [pair[0]], settings)
    except SplitError as error:
        remove_head_graphs(directory)
        return {"no_head_graphs": str(error), "parity": parity}
    return {"head_graphs": graphs, "parity": {**parity, "head": report}}


def _adaptation(split: SplitNetwork, views: list[Features]) -> AdaptationDefaults:
    """The defaults, with the learning rate that suits this head: for the features of some views."""
    norm = squared_gradient_norm(split.head, [torch.cat(tensors) for tensors in zip(*views, strict=True)])
    defaults = AdaptationDefaults()
    return defaults.model_copy(update={"lr": scaled_rate(defaults.lr, norm)})


def _manifest(
    request: ExportRequest,
    spec: Spec,
    split: SplitNetwork,
    frame: InputSpec,
    classes: tuple[ClassSpec, ...],
    checked: dict[str, Any],
) -> Manifest:
    return Manifest(
        created_with={
            "ocl-edge": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
        architecture=plain(str(spec), LONGEST_NOTE),
        checkpoint=plain(request.checkpoint.name),
        checkpoint_sha256=file_sha256(request.checkpoint),
        head_module=split.module,
        head_parameters=sum(p.numel() for p in split.head.parameters()),
        input=frame,
        classes=classes,
        features=tuple(tuple(shape) for shape in split.features),
        logits=(split.logits[0], split.logits[1], split.logits[2]),
        align_corners=split.align_corners,
        opset=OPSET,
        stat_rows=request.stat_rows,
        norms=tuple(
            NormSpec(name=n.name, channels=n.channels, pinned=n.pinned, sensing=senses)
            for n, senses in zip(list_norms(split.backbone), which_norms_sense(split.backbone), strict=True)
        ),
        noise_distance=noise_distances(split.backbone, frame, request.stat_rows),
        forms={form: _form_spec(form, split.backbone, frame, split.features) for form in FORMS},
        **checked,
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
