"""Checkpoint -> verified bundle: the whole of ``ocl-edge export``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import save
from torch import fx

from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.writing import new_bundle_directory, write_manifest
from ocl_edge.errors import CaptureError, CheckpointError, ParityError, SplitError, UsageError
from ocl_edge.masks import MOST_CLASSES
from ocl_edge.method.norms import Prior
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.batch_norms import list_norms, trained_tensors
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge.network.preprocess import InputSpec
from ocl_edge.plain_text import plain
from ocl_edge_export.capture import refuse_old_pytorch
from ocl_edge_export.checkpoint import Checkpoint, LoadedNetwork, load_network
from ocl_edge_export.cuts import PossibleCut, nearest_cuts, possible_cuts
from ocl_edge_export.describing import LONGEST_NOTE, about_backbone, classes_of, manifest_of
from ocl_edge_export.head_graphs import check_head_graphs, remove_head_graphs, write_head_graphs
from ocl_edge_export.learning_rate import no_larger, scaled_rate, squared_gradient_norm
from ocl_edge_export.lowering import lower_for_engines
from ocl_edge_export.missing import ask_for_what_is_missing, read_or_ask
from ocl_edge_export.network_input import describe_input
from ocl_edge_export.onnx_forms import export_plain, write_forms
from ocl_edge_export.onnx_norms import measured_graph, modulated_graph
from ocl_edge_export.parity import Tolerances, check_parity
from ocl_edge_export.parity_cases import Features, features_of
from ocl_edge_export.programs import check_programs, write_programs
from ocl_edge_export.sample_images import choose_images, noise_images, read_image_as, read_images
from ocl_edge_export.split import SplitNetwork, over_one_backbone, split_network
from ocl_edge_export.staying_norms import PRIORS, NormsThatMove, let_alternate_stay
from ocl_edge_export.taken_output import TakenOutput, take_outputs
from ocl_edge_export.virtual_norms import MOST_FRAMES, give_virtual_norms

DEFAULT_STAT_ROWS = 8


@dataclass(frozen=True)
class ExportRequest:
    """What the user asks of an export; None means: from the checkpoint or the zoo.

    Attributes:
        checkpoint: file of the trained weights.
        out: directory of the bundle.
        arch: architecture spec, see `ocl_edge.network.zoo`.
        input_size: height and width of the network's input in pixels.
        classes: file of class names, see `read_classes`; of several outputs one for each name.
        split: module where the head starts, or ``auto``.
        calibration: directory of images for the parity gate.
        norms: that move with the frame; ``alternate``: every second one, the others stay as trained.
        stat_rows: `measured` takes its statistics from every n-th row.
        mean: of each channel, in the network's order and scale.
        std: likewise.
        force: replace an existing bundle.
        trust_pickle: load pickled modules.
        output: where there are several: name or position of the one that is taken, ``all``, or
            ``NAME=OUTPUT`` with commas between.
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
    classes: Path | Mapping[str, Path] | None = None
    split: str = "auto"
    calibration: Path | None = None
    norms: NormsThatMove = "all"
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
        checkpoint, loaded, captured, taken, frame = _taken(request, progress)
        splits = _splits(captured, taken, request)
        shared = next(iter(splits.values()))
        _remember_home(shared, frame, request, progress)
        if request.norms == "alternate":
            splits = let_alternate_stay(splits)
            shared = next(iter(splits.values()))
        _require_outputs(request.classes, splits)
        named = {
            name: classes_of(_file_of(request.classes, name), checkpoint, loaded, split.logits[0], bool(name))
            for name, split in splits.items()
        }
        _write_graphs(splits, frame, request.stat_rows, directory, progress)
        about = {
            "checkpoint_notes": [plain(note, LONGEST_NOTE) for note in loaded.notes],
            **about_backbone(
                request.checkpoint, loaded.spec, shared, frame, request.stat_rows, PRIORS[request.norms]
            ),
        }
        features = features_of(next(iter(taken.values())).references, shared.backbone)
        gate = _Gate(request, directory, features, tolerances, progress)
        checked = {name: _checked(gate, name, taken[name], split) for name, split in splits.items()}
        unfit = {backend: why for each in checked.values() for backend, why in each["unfit_backends"].items()}
        manifests = {
            name: manifest_of(split, named[name], {**about, **checked[name], "unfit_backends": unfit}, name)
            for name, split in splits.items()
        }
        progress("write bundle")
        write_manifest(directory, manifests)
    return next(iter(Bundle.open_outputs(request.out).values()))


def _require_outputs(classes: Path | Mapping[str, Path] | None, outputs: Mapping[str, object]) -> None:
    """Raise where classes are named for an output that there is not."""
    for name in classes if isinstance(classes, Mapping) else ():
        if name not in outputs:
            known = "one, without a name" if "" in outputs else ", ".join(outputs)
            raise UsageError(f"--classes {name}=...: the bundle has no output {name!r}; it has: {known}")


def _file_of(classes: Path | Mapping[str, Path] | None, output: str) -> Path | None:
    return classes.get(output) if isinstance(classes, Mapping) else classes


@dataclass(frozen=True)
class _Gate:
    """What every output of a bundle is checked by; features are those of the one backbone."""

    request: ExportRequest
    directory: Path
    features: list[Features]
    tolerances: Tolerances | None
    progress: Callable[[str], None]


def _checked(gate: _Gate, name: str, taken: TakenOutput, split: SplitNetwork) -> dict[str, Any]:
    """Manifest fields of an output: all that computes it agrees with the network, and how far it adapts."""
    of, features = f"{name}: " if name else "", gate.features
    try:
        parity = check_parity(
            taken.references,
            features,
            split,
            gate.directory,
            gate.request.stat_rows,
            gate.tolerances,
            lambda c: gate.progress(f"parity: {of}{c}"),
        )
        parity["images_from"] = "calibration" if gate.request.calibration else "noise"
        gate.progress(f"parity: {of}programs")
        head = check_programs(split, gate.directory, taken.references[1].images, features[1], name)
        adaptation = _adaptation(split, [features[0], *features[2:]], PRIORS[gate.request.norms])
        unfit = {backend: plain(of + why, LONGEST_NOTE) for backend, why in parity.pop("unfit").items()}
        graphs = _head_graphs(split, head, gate.directory, features[1], parity, adaptation, name)
        rate = no_larger(adaptation.lr, AdaptationDefaults().lr)  # the check steps as suits the features
        adaptation = adaptation.model_copy(update={"lr": rate})
    except ParityError as error:
        raise ParityError(f"output {name}: {error}" if name else str(error)) from error
    return {"output": taken.spec, "unfit_backends": unfit, "adaptation": adaptation, **graphs}


def _taken(
    request: ExportRequest, progress: Callable[[str], None]
) -> tuple[Checkpoint, LoadedNetwork, fx.GraphModule, dict[str, TakenOutput], InputSpec]:
    """The network with its weights, the outputs that are exported, and its input."""
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
    captured, taken = take_outputs(loaded.network, images, request.output, request.threshold)
    if len(taken) > 1 and request.split != "auto":
        raise UsageError("--split is for one output; of several, each head starts where auto says")
    _require_weights(loaded, captured)
    return checkpoint, loaded, captured, taken, frame


def _splits(
    captured: fx.GraphModule, taken: dict[str, TakenOutput], request: ExportRequest
) -> dict[str, SplitNetwork]:
    """Each output's parts; several have one backbone."""
    splits = {name: _split(name, each, request) for name, each in taken.items()}
    return splits if "" in splits else over_one_backbone(captured, splits)


def _split(name: str, taken: TakenOutput, request: ExportRequest) -> SplitNetwork:
    try:
        split = split_network(taken.captured, request.split, taken.values, request.threshold)
    except SplitError as error:
        if name:
            raise SplitError(f"output {name}: {error}") from error
        nearest = nearest_cuts(taken.captured, request.split)
        hint = f"\nNearest cuts that can be made: {nearest}" if nearest else ""
        raise SplitError(f"{error}{hint}\nAll of them: --split list") from error
    if split.logits[0] > MOST_CLASSES:
        raise CaptureError(
            f"the network has {split.logits[0]} classes; a mask has at most 16 bits, so {MOST_CLASSES} "
            "is the most"
        )
    return split


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
    _, _, captured, _, _ = _taken(request, progress)
    return possible_cuts(captured)


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


def _require_weights(loaded: LoadedNetwork, captured: fx.GraphModule) -> None:
    """Raise where the output depends on weights that the checkpoint does not hold."""
    used = {str(n.target) for n in captured.graph.nodes if n.op == "get_attr"} & loaded.unloaded
    if used:
        raise CheckpointError(
            f"the checkpoint holds none of these, and the output needs them: {', '.join(sorted(used)[:10])}"
        )


def _write_graphs(
    splits: Mapping[str, SplitNetwork],
    frame: InputSpec,
    stat_rows: int,
    directory: Path,
    progress: Callable[[str], None],
) -> None:
    """The forms, the programs, and the one file that holds the tensors of both."""
    split = next(iter(splits.values()))
    lowered = lower_for_engines(split.backbone)
    image = torch.zeros(2, frame.channels, frame.height, frame.width)
    progress("write forms")
    plain = export_plain(lowered, image, split.features)
    models: dict[FormName, onnx.ModelProto] = dict.fromkeys(FORMS, plain)
    if list_norms(lowered):
        models["modulated"] = modulated_graph(plain, lowered)
        models["measured"] = measured_graph(plain, lowered, stat_rows)
    write_forms(models, write_programs(splits, directory), directory)
    # not save_file, which does not raise OSError where the disk is full
    (directory / "norms.safetensors").write_bytes(save(trained_tensors(split.backbone)))


def _head_graphs(
    split: SplitNetwork,
    head: fx.GraphModule,
    directory: Path,
    pair: Features,
    parity: dict[str, object],
    settings: AdaptationDefaults,
    output: str = "",
) -> dict[str, Any]:
    """Manifest fields: the head's graphs, written and checked, or why there are none; the parity report."""
    try:
        graphs = write_head_graphs(head, split.of_head(split.features)[0], directory, settings, output)
        report = check_head_graphs(directory, graphs, head, [split.of_head(pair)[0]], settings)
    except SplitError as error:
        remove_head_graphs(directory, output)
        return {"no_head_graphs": str(error), "parity": parity}
    return {"head_graphs": graphs, "parity": {**parity, "head": report}}


def _adaptation(split: SplitNetwork, views: list[Features], prior: Prior) -> AdaptationDefaults:
    """The defaults, with the learning rate that suits this head: for the features of some views."""
    seen = [torch.cat(tensors) for tensors in zip(*map(split.of_head, views), strict=True)]
    defaults = AdaptationDefaults(prior=prior)
    return defaults.model_copy(
        update={"lr": scaled_rate(defaults.lr, squared_gradient_norm(split.head, seen))}
    )
